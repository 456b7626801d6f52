"""A game through the whole of it: learnt by playing, rolled out, replayed, played again by name."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from agent_scaling.config.call import call_verb
from agent_scaling.envs.families import Description
from agent_scaling.playing.rollouts.rollout import rollout
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.load import load_policy
from agent_scaling.runtime.errors import InputError
from tests.helpers.impala_runs import overrides
from tests.helpers.runs import composed

ROOM = "MiniHack-Room-5x5-v0"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of IMPALA of two updates on a room, and the two episodes that it plays at its end."""
    output = tmp_path_factory.mktemp("seam") / "run"
    task = [
        "data.game=minihack",
        f"+data.options.task={ROOM}",
        "+data.options.max_episode_steps=12",
    ]
    plays = ["callbacks.rollouts.episodes=2", "callbacks.rollouts.workers=1"]
    kept = [text for text in overrides(output, 2) if text != "callbacks.rollouts=null"]
    call_verb(composed("train", [*kept, *task, *plays]))
    return output


def test_a_run_plays_what_it_learns_and_keeps_replays(run: Path) -> None:
    (path,) = (run / "rollouts").glob("*.parquet")
    table = pd.read_parquet(path)
    assert table["steps"].le(12).all()
    (row,) = json.loads((run / "milestones.json").read_text())
    assert row["rollout/solved"] == table["solved"].mean()
    names = sorted(file.name for file in (run / "replays" / path.stem).iterdir())
    kinds = ("best", "median", "worst")
    assert names == [f"{kind}.{suffix}" for kind in kinds for suffix in ("cast", "html")]
    assert f'"game": "{ROOM}"' in (run / "replays" / path.stem / "best.html").read_text()


def test_its_checkpoint_is_played_in_its_own_game(run: Path, tmp_path: Path) -> None:
    checkpoint = run / "checkpoints" / "last.ckpt"
    options = {"task": ROOM, "max_episode_steps": 12}
    game = read_checkpoint(checkpoint)["game"]
    assert set(game.pop("versions")) == {"minihack", "nethack", "nle"}
    assert game == {"family": "minihack", "options": options}
    common = {"ckpt": str(checkpoint), "episodes": 2, "workers": 1, "lanes": 2, "device": "cpu"}
    rollout(output=str(tmp_path / "own"), **common)  # type: ignore[arg-type]
    (played,) = (run / "rollouts").glob("*.parquet")
    again = pd.read_parquet(tmp_path / "own" / "episodes.parquet")
    pd.testing.assert_frame_equal(again, pd.read_parquet(played))
    rollout(output=str(tmp_path / "cut"), max_episode_steps=3, **common)  # type: ignore[arg-type]
    assert pd.read_parquet(tmp_path / "cut" / "episodes.parquet")["steps"].le(3).all()
    with pytest.raises(InputError, match=r"a policy of 8 actions cannot play .*which has 4"):
        rollout(output=str(tmp_path / "x"), game="atari", env="Breakout", **common)  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


def test_what_cannot_be_recorded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ttyrecs=true: minihack"):
        rollout(ckpt="random", env=ROOM, ttyrecs=True, output=str(tmp_path / "x"))


def test_a_checkpoint_without_a_game_plays_nethack(run: Path, tmp_path: Path) -> None:
    old = read_checkpoint(run / "checkpoints" / "last.ckpt")
    del old["game"]
    torch.save(old, tmp_path / "old.ckpt")
    assert load_policy(tmp_path / "old.ckpt").game == Description("nethack", {})
