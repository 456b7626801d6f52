"""Minari's data sets: made by Minari itself on ALE's own environments, read back frame by frame."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import ale_py
import cv2
import gymnasium
import h5py
import minari
import numpy as np
import pytest
from gymnasium.envs.registration import WrapperSpec
from minari.data_collector import EpisodeBuffer

from agent_scaling.data.conversion.shard import shard
from agent_scaling.data.recordings.minari import MinariSource, _options
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.data.windows.loader import WindowLoader
from agent_scaling.data.windows.order import EvalLanes
from agent_scaling.envs.atari import Atari
from agent_scaling.runtime.errors import InputError

gymnasium.register_envs(ale_py)
# It warns of each field that a description might have: author, permalink, …
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")
STEPS = 40
"""Of each episode but the first, which is played to its end."""


def preprocessed(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    whole = gymnasium.wrappers.AtariPreprocessing(env, frame_skip=4, noop_max=7)
    return gymnasium.wrappers.FrameStackObservation(whole, 4)


def record(
    env: gymnasium.Env[Any, Any], name: str, *, jpeg: bool, episodes: int = 3, bonus: float = 0
) -> dict[str, list[list[Any]]]:
    """Make the data set ``name``; what each step's frame, action and score should be."""
    ale = getattr(env.unwrapped, "ale", None)
    rng = np.random.default_rng(0)
    expected: dict[str, list[list[Any]]] = {"frame": [], "action": [], "score": []}
    buffers = []
    for episode in range(episodes):
        seen, _ = env.reset(seed=episode)
        seen_all, rewards, overs, caps = [seen], [], [], []
        for column in expected.values():
            column.append([])
        while not (overs and (overs[-1] or caps[-1])):
            if np.shape(seen) == (4, 84, 84):
                frame = np.array(seen)[-1]
            elif ale is not None:
                frame = cv2.resize(ale.getScreenGrayscale(), (84, 84), interpolation=cv2.INTER_AREA)
            action = int(rng.integers(env.action_space.n))
            values = {"frame": frame if ale else seen, "action": action, "score": sum(rewards)}
            for key, value in values.items():
                expected[key][-1].append(value)
            seen, reward, over, cap, _ = env.step(action)
            seen_all.append(seen)
            rewards.append(float(reward) + bonus)
            overs.append(over)
            caps.append(cap or (episode > 0 and len(rewards) == STEPS))
        actions = expected["action"][-1]
        buffers.append(EpisodeBuffer(None, episode, None, seen_all, actions, rewards, overs, caps))
    minari.create_dataset_from_buffers(
        name, buffers, env, algorithm_name="uniform", jpeg_encoding=jpeg
    )
    env.close()
    return expected


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of five steps, which tests copy and change."""
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        env = gymnasium.make("ALE/Breakout-v5", max_episode_steps=5)
        record(env, "odd-v0", jpeg=False, episodes=1)
    return folder


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "minari"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    return folder


def read(shards: Path) -> dict[str, list[Any]]:
    """Episode's number → its frames, actions and scores, both splits."""
    found = {}
    for split in ("train", "val"):
        reader = ShardReader(str(shards), split)
        order = EvalLanes([game.frames for game in reader.games], 1)
        windows = WindowLoader(
            reader, order, range(1), 32, end_step=order.steps(32), scores=True, games=True
        )
        parts = []
        for batch in windows:
            assert batch.frame_TBHW is not None
            columns = (batch.game_TB, batch.frame_TBHW, batch.action_TB, batch.score_TB)
            parts.append([column[:, 0].numpy().copy() for column in columns])
        game, *columns = (np.concatenate(part) for part in zip(*parts, strict=True))
        for index, entry in enumerate(reader.games):
            found[entry.id] = [column[game == index] for column in columns]
    return found


def convert(name: str, output: Path) -> Any:
    return shard(
        input=name,
        output=str(output),
        source=MinariSource(),
        processes=1,
        chunk_frames=32,
        val_fraction=0.3,
    )


@pytest.mark.parametrize(
    ("kind", "blur"), [("rgb", 0), ("jpeg", 1), ("stack", 0)], ids=["rgb", "jpeg", "stack"]
)
def test_episodes_come_back_frame_by_frame(kind: str, blur: float, tmp_path: Path) -> None:
    stacked = kind == "stack"
    env = gymnasium.make(
        "ALE/Breakout-v5", frameskip=1 if stacked else 4, repeat_action_probability=0.1
    )
    env = preprocessed(env) if stacked else env
    expected = record(env, "atari/breakout/test-v0", jpeg=kind == "jpeg")
    made = convert("atari/breakout/test-v0", tmp_path / "shards")
    options = {"env": "breakout", "frame_skip": 4, "sticky": 0.1, "full_actions": False}
    assert made.layout.options == options | {"noop_max": 7 if stacked else 0}
    Atari({}, **made.layout.options)
    assert not made.skipped
    found = read(tmp_path / "shards")
    assert len(found) == 3
    for number, (name, columns) in enumerate(sorted(found.items())):
        assert name == f"atari/breakout/test-v0/{number:06d}"
        frame, action, score = (np.array(expected[key][number]) for key in expected)
        off = np.abs(columns[0].astype(int) - frame)
        assert off.mean() <= blur
        assert np.array_equal(columns[1], action)
        assert np.array_equal(columns[2], score)
    ends = {
        game.id: game.metadata["end"]
        for split in ("train", "val")
        for game in ShardReader(str(tmp_path / "shards"), split).games
    }
    assert [ends[name] for name in sorted(ends)] == ["over", "cap", "cap"]


def test_a_path_and_an_id_are_the_same_games(store: Path, tmp_path: Path) -> None:
    env = gymnasium.make("ALE/Breakout-v5", obs_type="grayscale", frameskip=4)
    record(env, "grey-v0", jpeg=False, episodes=2)
    by_id = convert("grey-v0", tmp_path / "id")
    by_path = convert(str(store / "grey-v0"), tmp_path / "path")
    assert by_id.fingerprint == by_path.fingerprint
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "id").glob("*.tar")}
    assert convert("grey-v0", tmp_path / "id") == by_id
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "id").glob("*.tar")} == before


@pytest.mark.parametrize(
    ("env", "options", "fault"),
    [
        ("CartPole-v1", {}, r"not Atari's screen: .*float32.* is not uint8"),
        ("ALE/Breakout-v5", {"obs_type": "ram"}, r"not Atari's screen: \(128,\) is no screen"),
        ("ALE/Breakout-v5", {"frameskip": (2, 5)}, r"frameskip=\[2, 5\]"),
        ("ALE/Breakout-v5", {"mode": 4}, r"'mode': 4"),
    ],
)
def test_other_kinds_of_data_are_refused(
    env: str, options: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    record(gymnasium.make(env, max_episode_steps=5, **options), "other-v0", jpeg=True, episodes=1)
    with pytest.raises(InputError, match=fault):
        convert("other-v0", tmp_path / "shards")
    assert not (tmp_path / "shards").exists()


def test_scaled_rewards_are_no_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = gymnasium.make("ALE/Breakout-v5", max_episode_steps=5)
    record(env, "scaled-v0", jpeg=True, episodes=1, bonus=0.5)
    with pytest.raises(InputError, match="1 skipped"):
        convert("scaled-v0", tmp_path / "shards")
    assert "skipped episode_0: its rewards are not whole numbers" in "".join(capsys.readouterr())


def test_a_data_set_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="minari download atari/pong/expert-v0"):
        convert("atari/pong/expert-v0", tmp_path / "shards")


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(InputError, match=r"pip install 'agent-scaling\[minari\]'"):
        convert("atari/pong/expert-v0", tmp_path / "shards")


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("ClipReward", {"min_reward": -1, "max_reward": 1}),
        ("EpisodicLifeEnv", {}),
        ("AtariWrapper", {"frame_skip": 4}),  # Stable-Baselines3's, which clips and cuts
        ("StickyAction", {"repeat_action_probability": 0.5}),
        ("AtariPreprocessing", {"frame_skip": 4, "noop_max": 0, "terminal_on_life_loss": True}),
    ],
)
def test_wrappers_that_change_scores_or_games_are_refused(
    name: str, kwargs: dict[str, object]
) -> None:
    spec = deepcopy(gymnasium.spec("ALE/Breakout-v5"))
    spec.additional_wrappers = (WrapperSpec(name, "some:wrapper", kwargs),)
    with pytest.raises(InputError, match=f"recorded under {name}"):
        _options(spec, "input=x")


def test_a_wrapper_that_skips_frames_counts() -> None:
    spec = deepcopy(gymnasium.spec("ALE/Breakout-v5"))
    spec.kwargs["frameskip"] = 2
    spec.additional_wrappers = (WrapperSpec("MaxAndSkipEnv", "some:wrapper", {"skip": 3}),)
    assert _options(spec, "input=x")["frame_skip"] == 6


def metadata(**changed: Any) -> Callable[[Path], object]:
    """Change keys of the metadata; a dict is merged into ``env_spec``."""

    def change(data: Path) -> None:
        path = data / "metadata.json"
        found = json.loads(path.read_text())
        for key, value in changed.items():
            spec = json.loads(found["env_spec"])
            spec["kwargs"] = spec["kwargs"] | value if isinstance(value, dict) else value
            found |= {"env_spec": json.dumps(spec)} if key == "env_spec" else {key: value}
        path.write_text(json.dumps(found))

    return change


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def column(name: str, value: Any) -> Callable[[Path], object]:
    """Replace a data set of the first episode."""

    def change(data: Path) -> None:
        with h5py.File(data / "main_data.hdf5", "a") as file:
            del file[f"episode_0/{name}"]
            file.create_dataset(f"episode_0/{name}", data=value)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (metadata(env_spec=None), "cannot be read"),
        (metadata(env_spec={"game": [1]}), "believed"),
        (metadata(env_spec={"frameskip": 0}), "frame_skip: Input should be greater"),
        (metadata(env_spec={"repeat_action_probability": "x"}), "cannot be read"),
        (metadata(env_spec={"repeat_action_probability": 7}), "sticky: Input should be less"),
        (metadata(total_episodes=None), "cannot be read"),
        (metadata(observation_space='{"type": "Box", "shape": [99999, 99999]}'), "the shape"),
        (lambda data: pipe(data / "main_data.hdf5"), "is no file"),
        (lambda data: (data / "metadata.json").write_text("[" * 10**5), "cannot be read"),
        (column("rewards", np.full(5, np.inf)), "not whole numbers"),
        (column("rewards", np.full(5, 1e9)), "not whole numbers"),
        (column("rewards", np.zeros(3)), "not of one length"),
        (column("rewards", np.zeros((5, 2))), r"shape \(5, 2\), not one number for each step"),
        (column("actions", np.zeros((5, 1), int)), "not one number for each step"),
        (column("actions", np.full(5, 0.5)), "actions are not whole numbers"),
        (column("terminations", np.zeros((5, 2), bool)), "not one number for each step"),
    ],
)
def test_whatever_is_wrong_with_a_data_set_is_one_line(
    change: Callable[[Path], object],
    said: str,
    recorded: Path,
    store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(recorded, store)
    change(store / "odd-v0" / "data")
    with pytest.raises(InputError) as refused:
        convert("odd-v0", tmp_path / "shards")
    assert re.search(said, str(refused.value) + "".join(capsys.readouterr()))
