"""Unrolls against the game's own rules: what is shown, chosen and earned is aligned in time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from agent_scaling.data.batch import Batch
from agent_scaling.envs.actions import action_to_key, key_to_action
from agent_scaling.envs.pool.pool import Pool
from agent_scaling.playing.actor import Actor
from agent_scaling.playing.sampling import Sampling
from agent_scaling.playing.unrolls import UnrollPlayer, episode_seeds
from agent_scaling.policies.policy import Policy
from tests.envs.corridor import CAP, LENGTH
from tests.helpers.policies import small_policy

GAME = "tests.envs.corridor:Corridor"
LANES, STEPS = 5, 12


def walker() -> Policy:
    """A policy that mostly walks right, so that episodes end both ways."""
    policy = small_policy()
    with torch.no_grad():
        policy.policy.bias[0] += 3
        policy.policy.bias[1] += 3.6
    return policy


def played(
    unrolls: int, policy: Policy, *, workers: int = 2, groups: int = 2, **options: object
) -> list[Batch]:
    pool = Pool(GAME, lanes=LANES, workers=workers, groups=groups, options=dict(options))
    with pool:
        actor = Actor(policy, LANES, sampling=Sampling(), block=LANES)
        seeds = [episode_seeds(0, 0, 0, lane) for lane in range(LANES)]
        player = UnrollPlayer(pool, actor, policy.num_actions, STEPS, seeds)
        return [player.play(number) for number in range(unrolls)]


def positions(unroll: Batch) -> np.ndarray:
    """[T+1, B]: where the player stands."""
    return (unroll.cursor_TB2[..., 1].numpy().astype(int) - 40) // 3


def check_rules(unroll: Batch) -> int:
    """Every transition is one that the game makes; the number of games that were cut off."""
    assert unroll.reward_TB is not None
    at, action = positions(unroll), unroll.action_TB.numpy()
    first, reward = unroll.first_TB.numpy(), unroll.reward_TB.numpy()
    canonical = key_to_action()[action_to_key()]
    assert (unroll.action_TB[-1] == -100).all()
    cut = 0
    for t in range(STEPS):
        for lane in range(LANES):
            assert unroll.chars_TBHW[t, lane, 10, 40 + 3 * at[t, lane]] == ord("@")
            if action[t, lane] == -100:  # a game that was cut off; the next one follows
                assert not first[t, lane]
                assert first[t + 1, lane]
                assert at[t, lane] != LENGTH
                assert reward[t, lane] == 0
                cut += 1
                continue
            moved = max(0, at[t, lane] + {0: -1, 1: 1}.get(action[t, lane], 0))
            earned = moved - at[t, lane] + (5 if moved == LENGTH else 0)
            assert reward[t, lane] == earned
            if first[t + 1, lane]:
                assert at[t + 1, lane] == 0
                assert moved == LENGTH
                assert unroll.prev_action_TB[t + 1, lane] == 0
            else:
                assert at[t + 1, lane] == moved
                assert moved != LENGTH
                assert unroll.prev_action_TB[t + 1, lane] == canonical[action[t, lane]]
    return cut


def test_time_alignment() -> None:
    unrolls = played(4, walker())
    assert unrolls[0].first_TB[0].all()
    ends, cut = 0, 0
    for unroll in unrolls:
        cut += check_rules(unroll)
        assert unroll.played is not None
        ends += len(unroll.played.episodes)
        assert unroll.openings == tuple(unroll.first_TB.any(1).nonzero().flatten().tolist())
    assert ends > 4 * LANES
    records = [record for unroll in unrolls for record in unroll.played.episodes]
    capped = sum(record["end"] == "cap" for record in records)
    assert 0 < capped < ends
    assert cut <= capped <= cut + LANES  # of the last unroll's last frames no action is due
    opened = sum(int(unroll.first_TB[1:].sum()) for unroll in unrolls)
    assert opened == ends - (capped - cut)
    for before, after in pairwise(unrolls):
        for name in ("chars_TBHW", "cursor_TB2", "prev_action_TB", "first_TB"):
            assert torch.equal(getattr(before, name)[-1], getattr(after, name)[0])


def test_behaviour_is_what_the_learner_computes() -> None:
    """From the state at an unroll's start, the policy answers to its frames as the actors did."""
    policy = walker()
    for unroll in played(3, policy):
        assert unroll.played is not None
        assert unroll.behaviour_logits_TBA is not None
        with torch.no_grad():
            logits_TBA, _, _ = policy.eval()(unroll, unroll.played.state)
        acted_TB = unroll.action_TB != -100
        expected = unroll.behaviour_logits_TBA
        torch.testing.assert_close(logits_TBA[acted_TB], expected[acted_TB], rtol=1e-4, atol=1e-4)
        assert not expected[~acted_TB].any()


def test_returns_are_those_of_the_episodes() -> None:
    unrolls = played(3, walker(), groups=1)
    reward = torch.cat([unroll.reward_TB[:-1] for unroll in unrolls])
    first = torch.cat([unroll.first_TB[1:] for unroll in unrolls])
    found = []
    for lane in range(LANES):
        total = 0.0
        for t in range(len(reward)):
            total += float(reward[t, lane])
            if first[t, lane]:
                found.append(total)
                total = 0.0
    records = [record for unroll in unrolls for record in unroll.played.episodes]
    assert sorted(found) == sorted(record["return"] for record in records)
    assert all(record["steps"] <= CAP for record in records)


def test_the_same_whoever_steps_the_games() -> None:
    one, other = (played(2, walker(), workers=workers) for workers in (1, 3))
    for a, b in zip(one, other, strict=True):
        for name in ("chars_TBHW", "action_TB", "reward_TB", "behaviour_logits_TBA", "first_TB"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name


def lost_steps(unrolls: list[Batch]) -> int:
    """Steps whose outcome nobody knows: neither an action nor the last frame of a capped game."""
    first_TB = torch.cat([unroll.first_TB[:-1] for unroll in unrolls])
    none_TB = torch.cat([unroll.action_TB[:-1] for unroll in unrolls]) == -100
    steps, lost = torch.zeros(LANES), 0
    for first_B, none_B in zip(first_TB, none_TB, strict=True):
        steps = torch.where(first_B, 0, steps)
        lost += int((none_B & (steps < CAP)).sum())
        steps += 1
    return lost


def test_a_lost_worker_costs_its_episodes_alone(tmp_path: Path) -> None:
    options = {"dies_at": 20, "once": str(tmp_path / "died")}
    unrolls = played(4, walker(), workers=2, groups=2, **options)
    assert (tmp_path / "died").exists()
    restarted = sum(unroll.played.restarted for unroll in unrolls)
    assert lost_steps(unrolls) == restarted
    ended = sum(len(unroll.played.episodes) for unroll in unrolls)
    opened = sum(int(unroll.first_TB[1:].sum()) for unroll in unrolls)
    assert 1 <= restarted <= LANES
    assert ended <= opened <= ended + restarted


def test_seeds_are_of_run_rank_resume_and_lane() -> None:
    def some(*key: int) -> list[int]:
        source = episode_seeds(*key)
        return [next(source) for _ in range(3)]

    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 640, 0), (0, 0, 0, 1)]
    drawn = [some(*key) for key in keys]
    assert some(*keys[0]) == drawn[0]
    assert len({seed for seeds in drawn for seed in seeds}) == 3 * len(keys)
