"""Labels of games without actions, and learning from them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agent_scaling.data.conversion.finished_games import Output
from agent_scaling.data.conversion.shard import shard
from agent_scaling.data.recordings.altorg import AltorgSource
from agent_scaling.data.recordings.base import MENU_FRAMES
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.load import load_policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.labelling.game_labels import GameLabeller, as_batch
from agent_scaling.training.labelling.label import label
from data_modules.shards import ShardsDataModule
from tests.helpers.runs import train
from tests.helpers.ttyrecs import people_games

WINDOW = 50


@pytest.fixture(scope="module")
def ckpt(inverse_run: Path) -> str:
    return str(inverse_run / "checkpoints" / "last.ckpt")


@pytest.fixture(scope="module")
def silent(tiny_games: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny games without their actions, one shard per game."""
    folder = tmp_path_factory.mktemp("label") / "silent"
    shard(
        input=str(tiny_games), output=str(folder), chunk_frames=128, val_fraction=0.4,
        shard_megabytes=0.001, actions=False,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def labelled(ckpt: str, silent: Path) -> Path:
    folder = silent.parent / "labelled"
    label(ckpt=ckpt, input=str(silent), output=str(folder), window=WINDOW, device="cpu")
    return folder


def test_labels_are_the_model_s_most_probable_keys(ckpt: str, silent: Path, labelled: Path) -> None:
    """Each game read again, window by window, by the slow policy."""
    policy, seen = load_policy(ckpt), ShardReader(silent, "train")
    found = ShardReader(labelled, "train")
    assert found.layout.shows_as(seen.layout)
    assert [game.id for game in found.games] == [game.id for game in seen.games]
    for number, game in enumerate(seen.games):
        count = len(game.chunks)
        before, after = ([r.frames(number, c) for c in range(count)] for r in (seen, found))
        shown = {
            name: np.concatenate([chunk.shown[name] for chunk in before])
            for name in seen.layout.shown
        }
        for name, array in shown.items():
            assert (np.concatenate([chunk.shown[name] for chunk in after]) == array).all()
        key, given, answered = (
            np.concatenate([getattr(chunk, name) for chunk in after])
            for name in ("key", "probability", "decision")
        )
        assert answered.tolist() == [1] * (game.frames - 1) + [0]
        assert (key[-1], given[-1]) == (0, 0)
        for left, right in pairwise(after):
            assert right.previous_key == left.key[-1]
        state = policy.initial_state(1)
        # A window ends where a chunk does, and sees as far into the next.
        ends = sorted({*range(0, game.frames, 128), game.frames})
        for chunk_begin, chunk_end in pairwise(ends):
            for begin in range(chunk_begin, chunk_end, WINDOW):
                end = min(begin + WINDOW, chunk_end)
                with torch.no_grad():
                    logits, _, state = policy(as_batch(shown, begin, end, 2, begin == 0), state)
                last = min(end, game.frames - 1) - begin
                if not last:
                    continue
                odds = logits[:last, 0].softmax(-1)
                best, sure = odds.max(-1), odds.topk(2).values
                assert np.abs(given[begin:][:last] - 255 * best.values.numpy()).max() < 0.6
                clear = (sure[:, 0] - sure[:, 1] > 1e-5).numpy()
                expected = np.array(seen.layout.keys)[best.indices.numpy()]
                assert (key[begin:][:last] == expected)[clear].all()
                assert clear.mean() > 0.5


def test_what_labels_say_of_themselves(ckpt: str, silent: Path, labelled: Path) -> None:
    manifest, held_out = ShardReader(labelled, "train").manifest, read_checkpoint(ckpt)["held_out"]
    assert manifest.settings["labelled_by"]["held_out"]["top1"] == held_out["top1"]
    assert len(manifest.settings["labelled_by"]["sha256"]) == 64
    assert manifest.settings["input"] == ShardReader(silent, "train").manifest.fingerprint
    report = json.loads((labelled / "labels.json").read_text())
    games = [game for split in ("train", "val") for game in ShardReader(labelled, split).games]
    assert report["labels"] == sum(game.actions for game in games) == report["frames"] - len(games)
    assert sum(report["keys"].values()) == pytest.approx(1)
    assert 1 / 121 <= report["mean_probability"] <= 1


def stopped(output: Output, name: str, games: Iterable[object]) -> None:
    """In the place of writing a shard, all of whose games are labelled."""
    list(games)
    raise KeyboardInterrupt


def test_a_labelling_that_was_stopped_goes_on_to_the_same_bytes(
    ckpt: str, silent: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = tmp_path / "labelled"
    shutil.copytree(labelled, again)
    last = sorted(again.glob("train-*.json"))[-1]
    for lost in (again / "manifest.json", last, again / "labels.json"):
        lost.unlink()
    last.with_suffix(".tar").write_bytes(b"half of it")
    kept = sorted(again.glob("train-*.tar"))[0]
    at = kept.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(Output, "join", stopped)
        with pytest.raises(KeyboardInterrupt):
            label(ckpt=ckpt, input=str(silent), output=str(again), window=WINDOW, device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(GameLabeller, "chunks", None)  # what is labelled is not labelled again
        label(ckpt=ckpt, input=str(silent), output=str(again), window=WINDOW, device="cpu")
    assert kept.stat().st_mtime_ns == at  # it was finished
    assert {path.name for path in again.iterdir()} == {path.name for path in labelled.iterdir()}
    for path in labelled.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name
    with pytest.raises(InputError, match="other games or settings"):
        label(ckpt=ckpt, input=str(silent), output=str(again), window=60, device="cpu")


def test_batches_of_labelled_games_have_probabilities(labelled: Path, tiny_shards: Path) -> None:
    data = ShardsDataModule(str(labelled), lanes=2, val_lanes=2, val_shards=str(tiny_shards))
    batch = next(iter(data.train_dataloader()))
    assert batch.probability_TB is not None
    has_label = batch.action_TB != -100
    assert ((batch.probability_TB > 0) == has_label).all()
    lane = batch.action_TB[:, 0]  # it opens a game
    known = lane[:-1] != -100
    assert torch.equal(batch.prev_action_TB[1:, 0][known], lane[:-1][known])
    held_out = next(iter(data.val_dataloader()))
    assert held_out.probability_TB is None  # the players' own keys


def test_held_out_keys_that_are_labels_are_told_of(labelled: Path, tiny_shards: Path) -> None:
    told = "keys are a model's labels"
    assert told in ShardsDataModule(str(labelled), lanes=2, val_lanes=2).description
    own = ShardsDataModule(str(labelled), lanes=2, val_lanes=2, val_shards=str(tiny_shards))
    assert told not in own.description


def test_cloning_learns_from_labels_by_their_weight(
    labelled: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    own = [f"data.val_shards={tiny_shards}", "flops_budget=3e8"]
    for name, more in {"plain": [], "weighed": ["module.weights=probability"]}.items():
        train(labelled, tmp_path / name, *own, *more)
    plain, weighed = (
        read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")
        for name in ("plain", "weighed")
    )
    assert plain["frames"] == weighed["frames"]
    name = "policy.policy.weight"
    assert not torch.equal(plain["state_dict"][name], weighed["state_dict"][name])


def test_agreement_with_known_keys(
    ckpt: str, tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label(ckpt=ckpt, input=str(tiny_shards), output=str(tmp_path), evaluate=True, device="cpu")
    found = json.loads((tmp_path / "agreement.json").read_text())
    assert found["over_majority"] == pytest.approx(found["top1"] - found["majority_top1"])
    printed = capsys.readouterr().out
    assert "margin over majority" in printed
    assert "points [" in printed


def test_what_cannot_be_labelled_is_refused(
    ckpt: str, silent: Path, labelled: Path, tiny_shards: Path, atari_shards: Path, tmp_path: Path
) -> None:
    player = tmp_path / "player"
    train(tiny_shards, player, "flops_budget=1e7", "callbacks.baselines=null")
    last = str(player / "checkpoints" / "last.ckpt")
    for more, message in (
        ({"input": str(tiny_shards)}, "has actions already"),
        ({"input": str(labelled)}, "labels of a model"),
        ({"input": str(atari_shards)}, "atari with"),
        ({"evaluate": True}, "no actions to compare"),
        ({"ckpt": last}, "not an inverse-dynamics model"),
        ({"window": 0}, "window=0"),
        ({"output": "s3://bucket/labelled"}, "upload it afterwards"),
    ):
        given: dict[str, Any] = {"ckpt": ckpt, "input": str(silent), "output": str(tmp_path / "x")}
        with pytest.raises(InputError, match=message):
            label(**{**given, **more}, device="cpu")
    assert not (tmp_path / "x" / "manifest.json").exists()


def test_games_without_actions_teach_nothing(silent: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="agent-scaling label"):
        train(silent, tmp_path / "run", "flops_budget=1e8")


def test_recordings_of_people_are_labelled(
    ckpt: str, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "nao"
    games = people_games(reference, root)
    shards, output = tmp_path / "shards", tmp_path / "labelled"
    shard(input=str(root), output=str(shards), source=AltorgSource(), val_fraction=0)
    assert "10 frames of menus before 2 games are left out" in capsys.readouterr().err
    label(ckpt=ckpt, input=str(shards), output=str(output), device="cpu")
    found = ShardReader(output, "train")
    assert sorted(game.frames for game in found.games) == [209, 405]
    assert {game.id for game in found.games} == {game.identity for game in games}
    assert found.manifest.totals["train"].actions == 208 + 404
    assert sorted(game.metadata[MENU_FRAMES] for game in found.games) == [2, 8]


def test_parts_make_the_undivided_shards(ckpt: str, silent: Path, labelled: Path) -> None:
    """Whichever part is last writes the manifest; until then there is none."""
    parts = silent.parent / "parts"
    for number in (2, 1, 3):
        assert not (parts / "manifest.json").exists()
        label(
            ckpt=ckpt, input=str(silent), output=str(parts), window=WINDOW, device="cpu",
            part=f"{number}/3",
        )  # fmt: skip
    assert {p.name: p.read_bytes() for p in parts.iterdir()} == {
        p.name: p.read_bytes() for p in labelled.iterdir()
    }
    with pytest.raises(InputError, match="part="):
        label(ckpt=ckpt, input=str(silent), output=str(parts), evaluate=True, part="1/3")
