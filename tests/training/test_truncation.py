"""A game that was cut off teaches what the same game teaches where it goes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from agent_scaling.data.batch import Batch
from agent_scaling.envs.atari import Atari
from agent_scaling.envs.families import CUT, Game, Record
from agent_scaling.envs.nethack import NetHack
from agent_scaling.envs.pool.pool import Pool
from agent_scaling.envs.tasks import Task
from agent_scaling.playing.actor import Actor
from agent_scaling.playing.sampling import Sampling
from agent_scaling.playing.unrolls import UnrollPlayer, episode_seeds
from agent_scaling.policies.policy import Policy
from agent_scaling.training.objectives.impala import Objective, PlayLosses
from agent_scaling.training.objectives.vtrace import vtrace
from tests.helpers.policies import small_policy

LANES, CAP, LONG = 3, 4, 11


def play(policy: Policy, cap: int, steps: int, unrolls: int = 1) -> list[Batch]:
    game = "tests.envs.corridor:Corridor"
    with Pool(game, lanes=LANES, workers=1, options={"cap": cap}) as pool:
        actor = Actor(policy, LANES, sampling=Sampling(), block=LANES)
        seeds = [episode_seeds(0, 0, 0, lane) for lane in range(LANES)]
        player = UnrollPlayer(pool, actor, policy.num_actions, steps, seeds)
        return [player.play(number) for number in range(unrolls)]


@torch.no_grad()
def losses(policy: Policy, unroll: Batch) -> tuple[PlayLosses, torch.Tensor]:
    """Of a learner that has moved on since, and its values."""
    assert unroll.played is not None
    assert unroll.reward_TB is not None
    logits_TBA, values_TB, _ = policy.eval()(unroll, unroll.played.state)
    found = Objective().losses(unroll, unroll.reward_TB[:-1], logits_TBA, values_TB)
    return found, values_TB


def learner(actors: Policy) -> Policy:
    """Other weights than the actors': ratios differ from 1."""
    policy = small_policy()
    policy.load_state_dict(actors.state_dict())
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    return policy


def test_targets_of_a_capped_game_are_those_of_the_same_game_uncapped() -> None:
    actors = small_policy()
    policy = learner(actors)
    (uncapped,), (capped,) = play(actors, 1000, CAP), play(actors, CAP, LONG)
    assert not uncapped.first_TB[1:].any()
    assert torch.equal(capped.chars_TBHW[: CAP + 1], uncapped.chars_TBHW)
    (want, values_TB), (found, _) = losses(policy, uncapped), losses(policy, capped)
    assert values_TB[-1].abs().min() > 1e-3  # to bootstrap from 0 would be another target
    for name in ("policy", "baseline", "entropy", "log_rho"):
        torch.testing.assert_close(
            getattr(found, name)[:CAP], getattr(want, name), rtol=1e-5, atol=1e-6
        )
    # Where the last frame stands nothing is learnt, and the next episode opens after it.
    assert (capped.action_TB[CAP] == -100).all()
    assert capped.first_TB[CAP + 1].all()
    for name in ("policy", "baseline", "entropy"):
        assert not getattr(found, name)[CAP].any()


def test_targets_do_not_depend_on_where_an_unroll_ends() -> None:
    """The last frame may be the last of an unroll, and is then the first of the next."""
    actors = small_policy()
    policy = learner(actors)
    before, after = play(actors, CAP, CAP, unrolls=2)
    (whole,) = play(actors, CAP, 2 * CAP)
    assert torch.equal(before.chars_TBHW[-1], after.chars_TBHW[0])
    assert not after.first_TB[0].any()
    assert after.first_TB[1].all()
    (first, _), (second, _), (want, _) = (losses(policy, u) for u in (before, after, whole))
    for name in ("policy", "entropy"):
        both = torch.cat([getattr(first, name), getattr(second, name)])
        together = getattr(want, name)
        torch.testing.assert_close(both[: CAP + 1], together[: CAP + 1], rtol=1e-5, atol=1e-6)


def test_a_lost_step_ends_no_game() -> None:
    """What came before it bootstraps from the value of the frame where the step was taken."""
    actors = small_policy()
    policy = learner(actors)
    (unroll,) = play(actors, 1000, LONG)
    unroll.first_TB[6], unroll.action_TB[5] = True, -100  # lost between frames 5 and 6
    found, _ = losses(policy, unroll)
    cut = unroll.until(6)
    cut.played = unroll.played
    want, _ = losses(policy, cut)
    for name in ("policy", "baseline", "entropy"):
        torch.testing.assert_close(getattr(found, name)[:5], getattr(want, name))
        assert not getattr(found, name)[5].any()


def test_games_that_end_by_themselves_are_learnt_from_as_before() -> None:
    """The objective without any step that was cut off, by V-trace itself."""
    policy = small_policy()
    (unroll,) = play(policy, 1000, LONG)
    unroll.first_TB[4, 0] = unroll.first_TB[7, 1] = True
    found, values_TB = losses(policy, unroll)
    targets = vtrace(
        found.log_rho,
        0.99 * (~unroll.first_TB[1:]).float(),
        unroll.reward_TB[:-1],
        values_TB[:-1],
        values_TB[-1],
    )
    assert torch.equal(found.baseline, 0.5 * (targets.vs_TB - values_TB[:-1]).square())


GAMES: list[tuple[type[Game], dict[str, Any], dict[str, Any]]] = [
    (NetHack, {"max_episode_steps": 12}, {}),
    (NetHack, {"idle_steps": 3}, {}),
    (Task, {"max_episode_steps": 12}, {"task": "NetHackScore-v0"}),
    (Task, {"max_episode_steps": 12}, {"task": "MiniHack-Room-15x15-v0"}),
    (Atari, {"max_episode_steps": 12}, {"env": "Breakout"}),
]


@pytest.mark.parametrize(("family", "cap", "options"), GAMES)
def test_the_last_frame_stays_where_a_game_is_cut_off(
    family: type[Game], cap: dict[str, int], options: dict[str, Any]
) -> None:
    capped, record, steps = shown_after(family, options | cap, 1000)
    assert record is not None
    assert record["end"] in CUT
    uncapped, record, _ = shown_after(family, options | {"max_episode_steps": 1000}, steps)
    assert record is None
    for name, shown in uncapped.items():
        np.testing.assert_array_equal(capped[name], shown, err_msg=name)


def shown_after(
    family: type[Game], options: dict[str, Any], steps: int
) -> tuple[dict[str, Any], Record | None, int]:
    """What a game shows after so many steps or at its end, its record, and the steps made."""
    views = {name: np.zeros(shape, dtype) for name, (shape, dtype) in family.observations.items()}
    game = family(views, **options)
    try:
        game.reset(3)
        for number in range(1, steps + 1):
            if (record := game.step(number % 3)) is not None:
                break
        return {name: view.copy() for name, view in views.items()}, record, number
    finally:
        game.close()
