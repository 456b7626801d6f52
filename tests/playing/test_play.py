import contextlib
import itertools
import signal
import threading

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from agent_scaling.envs.nethack import NetHack
from agent_scaling.playing.actor import Actor
from agent_scaling.playing.play import play
from agent_scaling.playing.players import RandomPolicy
from agent_scaling.playing.rollouts.tables import summarise
from agent_scaling.playing.sampling import Sampling
from agent_scaling.policies.inference import for_inference
from agent_scaling.runtime.errors import InputError
from tests.helpers.policies import random_batch, small_policy
from tests.helpers.workers import game_workers, pool_memory

SEEDS = [11, 3, 8, 4, 7, 20, 5]
STEPS = 30


@pytest.fixture(scope="module")
def policy():
    made = small_policy()
    # Statistics that folding has to get right, and logits that are not nearly uniform.
    made.train()(random_batch(3, 4), made.initial_state(4))
    with torch.no_grad():
        made.policy.weight.mul_(20)
        joined = made.encoder.joins["fc.0"]  # and that the action before decides, too
        made.encoder.fc[0].weight[:, sum(joined[:3]) : sum(joined[:4])].mul_(20)
    return made


@pytest.fixture(scope="module")
def table(policy):
    """What every layout has to give."""
    return play(policy, SEEDS, max_episode_steps=STEPS, workers=1, lanes=1, block=4)


@pytest.mark.parametrize(
    ("workers", "lanes", "order"), [(1, 7, 1), (3, 5, -1), (2, 3, 1), (4, 7, -1)]
)
def test_the_table_does_not_depend_on_the_layout(policy, table, workers, lanes, order):
    other = play(
        policy, SEEDS[::order], max_episode_steps=STEPS, workers=workers, lanes=lanes, block=4
    )
    pd.testing.assert_frame_equal(other[::order].reset_index(drop=True), table)


def test_other_noise_gives_other_episodes(policy, table):
    other = play(policy, SEEDS, max_episode_steps=STEPS, sampling_seed=1, block=4)
    assert not other.equals(table)


def test_the_table_has_a_row_per_seed_in_order(table):
    assert table.columns.tolist() == ["seed", *NetHack.columns, "versions"]
    assert table["seed"].tolist() == SEEDS
    assert table["steps"].between(1, STEPS).all()
    assert table.loc[table["end"] == "cap", "steps"].eq(STEPS).all()


def attack(
    monkeypatch: pytest.MonkeyPatch, kinds: list[signal.Signals], every: int
) -> list[threading.Timer]:
    """Each ``every`` steps of a player some worker gets the next signal, a few milliseconds later:
    while it plays, however fast that is here. One timer per signal; its ``args`` say whom it hit.
    """
    rng, calls, timers, act = np.random.default_rng(0), itertools.count(1), [], Actor.act

    def hurt(how: signal.Signals, hit: list[psutil.Process]) -> None:
        workers = game_workers()
        hit.append(workers[rng.integers(len(workers))])
        with contextlib.suppress(psutil.NoSuchProcess):
            hit[0].send_signal(how)

    def attacked(self, *seen):
        if next(calls) % every == 0 and len(timers) < len(kinds):
            timers.append(threading.Timer(rng.uniform(0, 0.01), hurt, (kinds[len(timers)], [])))
            timers[-1].start()
        return act(self, *seen)

    monkeypatch.setattr(Actor, "act", attacked)
    return timers


def victims(timers: list[threading.Timer]) -> list[psutil.Process]:
    """Whom the timers hit, once all have."""
    for timer in timers:
        timer.join()
    return [worker for timer in timers for worker in timer.args[1]]


@pytest.mark.usefixtures("new_interpreters")
def test_workers_that_are_killed_change_nothing(policy, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    options = {"max_episode_steps": 60, "workers": 3, "lanes": 6, "block": 4}
    before = psutil.Process().children()  # multiprocessing's own helpers stay
    calm = play(policy, range(8), **options)
    kinds = [signal.SIGKILL, signal.SIGSEGV, signal.SIGKILL]
    timers = attack(monkeypatch, kinds, every=25)
    hit = play(policy, range(8), **options)
    assert len(victims(timers)) == len(kinds)
    pd.testing.assert_frame_equal(hit, calm)
    assert list(tmp_path.iterdir()) == []
    assert set(psutil.Process().children()) <= set(before)


@pytest.mark.usefixtures("new_interpreters")
def test_an_evaluation_survives_workers_that_are_killed_and_stopped(policy, tmp_path, monkeypatch):
    """16 real games while some worker is killed or stopped again and again."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    options = {"max_episode_steps": 60, "workers": 4, "lanes": 8, "block": 4, "patience": 3.0}
    before, shared = psutil.Process().children(), pool_memory()
    calm = play(policy, range(16), **options)
    timers = attack(monkeypatch, [signal.SIGKILL, signal.SIGSTOP] * 3, every=30)
    hit = play(policy, range(16), **options)
    hurt = victims(timers)
    assert len(hurt) == 6
    pd.testing.assert_frame_equal(hit, calm)
    assert list(tmp_path.iterdir()) == []
    assert pool_memory() == shared
    assert set(psutil.Process().children()) <= set(before)
    assert not any(worker.is_running() for worker in hurt)  # killed and reaped


def test_playing_touches_neither_the_policy_nor_the_global_generators(policy):
    policy.train()
    weights = {name: value.clone() for name, value in policy.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    play(policy, [1, 2], max_episode_steps=20)
    assert policy.training
    assert all(torch.equal(value, weights[name]) for name, value in policy.state_dict().items())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


def test_folding_keeps_what_the_policy_answers(policy):
    batch, policy = random_batch(3, 4, openings=0.3), policy.eval()
    folded = for_inference(policy, torch.device("cpu"))
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    with torch.no_grad():
        ours, _, _ = folded(batch, folded.initial_state(4))
        theirs, _, _ = policy(batch, policy.initial_state(4))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_actor_answers_as_the_policy_does_step_by_step(policy):
    """The reference: one lane, the whole window at once, in evaluation mode."""
    policy.eval()
    steps, lanes = 6, 5
    batch = random_batch(steps, lanes)
    batch.first_TB = torch.zeros(steps, lanes, dtype=torch.bool)
    batch.first_TB[0] = True
    actor = Actor(policy, lanes + 2, sampling=Sampling("argmax"), block=4)
    here = np.array([6, 0, 2, 3, 5])  # lanes 1 and 4 are not played
    actions = np.empty((steps, lanes), np.int64)
    for index, lane in enumerate(here):
        actor.restart(int(lane), index)
    for t in range(steps):
        frames = {
            "chars": np.zeros((lanes + 2, 24, 80), np.uint8),
            "colors": np.zeros((lanes + 2, 24, 80), np.int8),
            "cursor": np.zeros((lanes + 2, 2), np.uint8),
        }
        frames["chars"][here] = batch.chars_TBHW[t]
        frames["colors"][here] = batch.colors_TBHW[t]
        frames["cursor"][here] = batch.cursor_TB2[t]
        actions[t] = actor.act(frames, here)
    # prev_action[t] is the key that was pressed before frame t was seen
    batch.prev_action_TB[0] = 0
    batch.prev_action_TB[1:] = torch.from_numpy(actor._canonical[actions[:-1]])
    with torch.no_grad():
        logits, _, _ = policy(batch, policy.initial_state(lanes))
    assert (logits.argmax(-1).numpy() == actions).all()


def test_seeds_must_be_distinct_and_not_negative(policy):
    for seeds in ([1, 1], [-1]):
        with pytest.raises(InputError, match="seeds"):
            play(policy, seeds)


def test_a_summary_says_what_the_table_says():
    table = play(RandomPolicy(), range(12), max_episode_steps=120)
    table["return"] = np.arange(12)
    summary = summarise(table)
    assert summary["episodes"] == 12
    assert summary["return"]["mean"] == 5.5
    assert summary["return"]["median"] == 5.5
    assert summary["return"]["se"] == pytest.approx(np.std(np.arange(12), ddof=1) / np.sqrt(12))
    low, high = summary["return"]["interval"]
    assert low < 5.5 < high
    # The bootstrap's interval is near the normal one: ± 1.645 standard errors, a little narrower.
    assert high - low == pytest.approx(2 * 1.645 * summary["return"]["se"], rel=0.1)
    for role, entry in summary["roles"].items():
        rows = table[table["role"] == role]
        assert entry["episodes"] == len(rows)
        assert entry["return"]["mean"] == rows["return"].mean()
    assert sum(summary["ends"].values()) == 12
