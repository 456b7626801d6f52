"""The data module on real games, against nle's own reader and the games' own counts."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agent_scaling.data.shards.manifest import load_manifest
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.data.shards.storage import Folder
from agent_scaling.data.windows.loader import WindowLoader
from agent_scaling.data.windows.order import EvalLanes, Span
from agent_scaling.envs.actions import NO_ACTION, key_to_action
from agent_scaling.runtime.errors import InputError
from data_modules.shards import ShardsDataModule
from tests.helpers.ttyrecs import ttyrec_dataset


class Openings:
    """One lane per game, each from its first frame on."""

    def span(self, lane: int, position: int, length: int) -> Span:
        return Span(length, lane, position, position == 0)


def test_the_first_200_frames_of_every_game_are_nles(
    many_games: Path, many_shards: Path, tmp_path: Path
) -> None:
    data = ttyrec_dataset(many_games, tmp_path / "db", batch_size=1, seq_length=200)
    numbers = {data.get_paths(number)[0]: number for number in data._gameids}
    compared = 0
    for split in ("train", "val"):
        reader = ShardReader(many_shards, split)
        lanes = range(len(reader.games))
        (batch,) = WindowLoader(reader, Openings(), lanes, 200, end_step=1, scores=True, games=True)
        for lane, game in enumerate(reader.games):
            number = numbers[game.parts[0].removeprefix("nle_data/")]
            data._gameids = [number]
            nle = {k: v[0] for k, v in next(iter(data)).items()}
            assert batch.score_TB is not None
            assert np.array_equal(batch.chars_TBHW[:, lane], nle["tty_chars"])
            assert np.array_equal(batch.colors_TBHW[:, lane], nle["tty_colors"])
            assert np.array_equal(batch.cursor_TB2[:, lane], nle["tty_cursor"])
            assert np.array_equal(batch.score_TB[:, lane], nle["scores"])
            answer = key_to_action()[nle["keypresses"]]
            begin, _ = game.decisions
            assert (batch.action_TB[:begin, lane] == NO_ACTION).all()
            assert np.array_equal(batch.action_TB[begin:, lane], answer[begin:])
            assert batch.prev_action_TB[0, lane] == 0
            assert np.array_equal(batch.prev_action_TB[1:, lane], answer[:-1])
            compared += 1
    assert compared == len(list((many_games / "nle_data").iterdir()))


def test_games_end_where_nles_reader_ends_them(
    short_games: Path, short_shards: Path, tmp_path: Path
) -> None:
    """Whole games, in one lane each: every frame, and where the next game begins."""
    for split in ("train", "val"):
        reader = ShardReader(short_shards, split)
        total = sum(game.frames for game in reader.games)
        order = EvalLanes([game.frames for game in reader.games], 1)
        (batch,) = WindowLoader(reader, order, range(1), total, end_step=1, games=True)
        data = ttyrec_dataset(short_games, tmp_path / split, batch_size=1, seq_length=total)
        numbers = {data.get_paths(number)[0]: number for number in data._gameids}
        ids = [numbers[game.parts[0].removeprefix("nle_data/")] for game in reader.games]
        data._gameids = ids
        nle = {k: v[0].copy() for k, v in next(iter(data)).items()}
        assert np.array_equal(batch.chars_TBHW[:, 0], nle["tty_chars"])
        assert batch.game_TB is not None
        assert np.array_equal(np.array(ids)[batch.game_TB[:, 0]], nle["gameids"])
        # nle marks no row's first game.
        expected = torch.from_numpy(nle["done"] == 1)
        expected[0] = True
        assert torch.equal(batch.first_TB[:, 0], expected)


def test_frames_and_actions_agree_with_the_games_own_counts(
    reference: Path, many_games: Path, many_shards: Path
) -> None:
    converted = {folder.name for folder in (many_games / "nle_data").iterdir()}
    with (reference / "nld-aa-mini" / "manifest.tsv").open() as file:
        counts = csv.DictReader(file, delimiter="\t")
        rows = {row["dir"]: row for row in counts if row["dir"] in converted}
    games = [g for split in ("train", "val") for g in ShardReader(many_shards, split).games]
    assert {game.id.split("/")[0] for game in games} == set(rows) == converted
    for game in games:
        row = rows[game.id.split("/")[0]]
        assert (game.frames, game.actions) == (int(row["frames"]), int(row["env_steps"])), game.id
        assert game.unknown_keys == 0
    totals = load_manifest(Folder(many_shards)).totals.values()
    assert sum(t.frames for t in totals) == sum(int(row["frames"]) for row in rows.values())
    assert sum(t.actions for t in totals) == sum(int(row["env_steps"]) for row in rows.values())


def module(shards: Path, **options: Any) -> ShardsDataModule:
    defaults: dict[str, Any] = {"lanes": 6, "unroll_length": 40, "val_lanes": 2, "workers": 0}
    return ShardsDataModule(str(shards), **(defaults | options))


def test_a_checkpoint_goes_on_where_it_stood(short_shards: Path) -> None:
    data = module(short_shards)
    batches = list(itertools.islice(data.train_dataloader(), 8))
    state = data.state_dict()
    assert state == {
        "step": 0,
        "seed": 0,
        "lanes": 6,
        "unroll_length": 40,
        "fingerprint": load_manifest(Folder(short_shards)).fingerprint,
    }
    resumed = module(short_shards, workers=3)
    resumed.load_state_dict(state | {"step": 5})
    for batch, expected in zip(resumed.train_dataloader(), batches[5:], strict=False):
        assert torch.equal(batch.chars_TBHW, expected.chars_TBHW)
        assert torch.equal(batch.action_TB, expected.action_TB)


@pytest.mark.parametrize("other", [{"lanes": 8}, {"seed": 1}, {"unroll_length": 41}])
def test_a_checkpoint_of_other_data_is_refused(short_shards: Path, other: dict[str, int]) -> None:
    state = module(short_shards).state_dict()
    with pytest.raises(InputError, match=next(iter(other))):
        module(short_shards, **other).load_state_dict(state)
    with pytest.raises(InputError, match="fingerprint"):
        module(short_shards).load_state_dict(state | {"fingerprint": "x"})


def test_sizes(short_shards: Path) -> None:
    data = module(short_shards, val_frames=300)
    total = load_manifest(Folder(short_shards)).totals["train"]
    assert (data.train_frames, data.train_games) == (total.frames, total.games)
    assert len(list(data.val_dataloader())) == 4  # 150 frames per lane


def test_values_that_cannot_be(short_shards: Path, tmp_path: Path) -> None:
    for options, message in (
        ({"lanes": 10**9}, "lanes"),
        ({"unroll_length": 0}, "unroll_length"),
        ({"workers": -1}, "workers"),
    ):
        with pytest.raises(InputError, match=message):
            module(short_shards, **options)
    with pytest.raises(InputError, match="is missing"):
        module(tmp_path)


def test_fractions_are_nested_and_leave_the_held_out_games_alone(tiny_shards: Path) -> None:
    whole = ShardsDataModule(str(tiny_shards), lanes=1)
    ids = {game.id for game in whole.train_reader.games}
    before: set[str] = set()
    for fraction in (1e-9, 0.3, 0.6, 0.9, 1.0):
        data = ShardsDataModule(str(tiny_shards), lanes=1, fraction=fraction)
        kept = {game.id for game in data.train_reader.games}
        assert before <= kept <= ids
        assert kept  # at least one game
        assert data.val_games == whole.val_games
        assert (data.fingerprint == whole.fingerprint) == (fraction == 1)
        before = kept
    assert before == ids
    with pytest.raises(InputError, match=r"data\.fraction=0"):
        ShardsDataModule(str(tiny_shards), fraction=0)


def test_overlapping_windows_judge_every_held_out_frame_once(tiny_shards: Path) -> None:
    options: dict[str, Any] = {"lanes": 2, "unroll_length": 32, "val_lanes": 3, "workers": 0}
    apart = ShardsDataModule(str(tiny_shards), **options)
    overlapping = ShardsDataModule(str(tiny_shards), **options, val_before=20)

    def judged(windows: Any) -> tuple[int, list[list[int]]]:
        """Frames of the split's games, and the actions of each lane in order."""
        found: list[list[int]] = [[], [], []]
        for window in windows:
            for lane, actions in enumerate(window.action_TB.T):
                found[lane] += actions[actions != NO_ACTION].tolist()
        return sum(map(len, found)), found

    assert judged(overlapping.val_dataloader()) == judged(apart.val_dataloader())
    for window in overlapping.val_dataloader():
        assert bool(window.first_TB[0].all())
        assert bool((window.action_TB[:20] == NO_ACTION).all())
    for wrong in ({"val_before": 32}, {"val_before": 0}, {"val_before": 4, "lookahead": 2}):
        with pytest.raises(InputError, match=r"data\.val_before=\d+: must be 1 to"):
            ShardsDataModule(str(tiny_shards), **options | wrong)


def test_a_manifest_that_names_a_folder_is_refused(short_shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(short_shards, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["layout"]["options"] = {"record_dir": str(tmp_path)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"data\.shards=.*record_dir"):
        module(folder)
