"""Windows are the recordings' frames; damage on disk is one clear line."""

from __future__ import annotations

import gc
import itertools
import json
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from agent_scaling.data.batch import Batch
from agent_scaling.data.shards import codec
from agent_scaling.data.shards.manifest import load_manifest
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.data.shards.storage import Folder
from agent_scaling.data.windows.loader import WindowLoader
from agent_scaling.data.windows.order import PADDING, EvalLanes, TrainLanes
from agent_scaling.envs.actions import NO_ACTION, key_to_action
from agent_scaling.runtime.errors import InputError


def train_order(reader: ShardReader, lanes: int) -> TrainLanes:
    return TrainLanes([g.id for g in reader.games], [g.frames for g in reader.games], lanes, 3)


def loader(shards: Path, lanes: int = 5, steps: int = 70, **options: object) -> WindowLoader:
    reader = ShardReader(shards, "train")
    return WindowLoader(
        reader,
        train_order(reader, lanes),
        range(lanes),
        steps,
        scores=True,
        games=True,
        **options,
    )


def same(one: Batch, other: Batch) -> bool:
    pairs = ((getattr(one, f.name), getattr(other, f.name)) for f in fields(Batch))
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def test_windows_are_the_games_frames_one_by_one(short_shards: Path) -> None:
    lanes, steps = 5, 70
    windows = loader(short_shards, lanes, steps, workers=0)
    order, reader = windows.order, windows.reader
    assert isinstance(order, TrainLanes)
    games = []
    for game, entry in enumerate(reader.games):
        chunks = [codec.decode(*reader.raw(game, i)) for i in range(len(entry.chunks))]
        planes = [
            c.shown | {n: getattr(c, n) for n in ("key", "decision", "score")} for c in chunks
        ]
        games.append({n: np.concatenate([p[n] for p in planes]) for n in planes[0]})
    count = 2 * order.positions // steps  # past two epochs' ends
    for step, batch in enumerate(itertools.islice(windows, count)):
        for lane, t in itertools.product(range(lanes), range(0, steps, 3)):
            span = order.span(lane, step * steps + t, 1)
            assert batch.game_TB is not None
            assert batch.score_TB is not None
            assert batch.game_TB[t, lane] == span.game
            assert batch.first_TB[t, lane] == span.first
            if span.game == PADDING:
                assert batch.action_TB[t, lane] == NO_ACTION
                assert not batch.chars_TBHW[t, lane].any()
                continue
            game, frame = games[span.game], span.frame
            assert np.array_equal(batch.chars_TBHW[t, lane], game["chars"][frame])
            assert np.array_equal(batch.colors_TBHW[t, lane], game["colors"][frame])
            assert batch.cursor_TB2[t, lane].tolist() == game["cursor"][frame].tolist()
            assert batch.score_TB[t, lane] == game["score"][frame]
            action = key_to_action()[game["key"][frame]]
            assert batch.action_TB[t, lane] == (action if game["decision"][frame] else NO_ACTION)
            before = key_to_action()[game["key"][frame - 1]] if frame else 0
            assert batch.prev_action_TB[t, lane] == before
        assert batch.openings == tuple(batch.first_TB.any(dim=1).nonzero().flatten().tolist())


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_and_starting_points_do_not_change_a_byte(short_shards: Path, workers: int) -> None:
    expected = list(itertools.islice(loader(short_shards, workers=0), 120))
    for start in (0, 1, 57):
        found = loader(short_shards, workers=workers, start_step=start, prefetch=3)
        assert all(same(a, b) for a, b in zip(expected[start:], found, strict=False))


def test_a_batch_that_is_kept_stays_as_it_was(short_shards: Path) -> None:
    windows = iter(loader(short_shards, workers=2))
    kept = [next(windows) for _ in range(12)]
    views = [batch.chars_TBHW[3:5] for batch in itertools.islice(windows, 12)]
    copies = [view.clone() for view in views], [batch.chars_TBHW.clone() for batch in kept]
    for _ in range(60):
        next(windows)
    assert all(torch.equal(a, b) for a, b in zip(views, copies[0], strict=True))
    assert all(torch.equal(b.chars_TBHW, c) for b, c in zip(kept, copies[1], strict=True))


def test_memory_is_used_again(short_shards: Path) -> None:
    stream = loader(short_shards, workers=1)
    windows = iter(stream)
    for _ in range(30):
        next(windows)
    allocated = len(stream.pool._all)
    for _ in range(100):
        next(windows)
    # Windows on their way are a few more or less; without the pool there would be 100 more.
    assert len(stream.pool._all) <= allocated + 5


def test_memory_that_a_tensor_shows_is_left_alone(short_shards: Path) -> None:
    windows = iter(loader(short_shards, workers=1))
    part = next(windows).chars_TBHW[3:, 1:]  # a view alone holds the storage
    seen = part.clone()
    for _ in range(60):
        next(windows)
    assert torch.equal(part, seen)


def test_evaluation_ends_and_can_be_repeated(short_shards: Path) -> None:
    reader = ShardReader(short_shards, "val")
    order = EvalLanes([game.frames for game in reader.games], 4, 500)
    windows = WindowLoader(
        reader, order, range(4), 60, end_step=order.steps(60), workers=2, games=True
    )
    once, again = list(windows), list(windows)
    assert len(once) == order.steps(60) == 3  # 125 frames per lane
    assert all(same(a, b) for a, b in zip(once, again, strict=True))
    assert sum(int((batch.game_TB != PADDING).sum()) for batch in once) == 500


def damaged(shards: Path, target: Path, name: str, at: int) -> Path:
    """A copy with one bit of a file's byte ``at`` flipped."""
    shutil.copytree(shards, target)
    data = bytearray((target / name).read_bytes())
    data[at] ^= 1
    (target / name).write_bytes(data)
    return target


@pytest.mark.parametrize("workers", [0, 2])
def test_a_flipped_bit_is_found(short_shards: Path, tmp_path: Path, workers: int) -> None:
    game = ShardReader(short_shards, "train").games[1]
    offset, size, _ = game.chunks[1]
    shards = damaged(short_shards, tmp_path / "s", "train-00001.tar", offset + size // 2)
    expected = f"train-00001.tar: {game.key}-00001.frames.zst is damaged"
    with pytest.raises(InputError, match=expected):
        for _ in itertools.islice(loader(shards, workers=workers), 1000):
            pass
    gc.collect()


def test_a_cut_shard_is_found_when_it_is_opened_and_when_it_is_read(
    short_shards: Path, tmp_path: Path
) -> None:
    shutil.copytree(short_shards, tmp_path / "s")
    open_before = loader(tmp_path / "s", workers=0)
    tar = tmp_path / "s" / "train-00000.tar"
    with tar.open("r+b") as file:
        file.truncate(tar.stat().st_size // 3)
    with pytest.raises(InputError, match=r"train-00000.tar: .* is cut"):
        for _ in itertools.islice(open_before, 1000):
            pass
    with pytest.raises(InputError, match=r"train-00000.tar has .* bytes"):
        ShardReader(tmp_path / "s", "train")
    tar.unlink()
    with pytest.raises(InputError, match=r"train-00000.tar is missing"):
        ShardReader(tmp_path / "s", "train")


def test_a_manifest_that_does_not_match(short_shards: Path, tmp_path: Path) -> None:
    shards = damaged(short_shards, tmp_path / "a", "train-00000.json", 40)
    with pytest.raises(InputError, match=r"train-00000.json"):
        ShardReader(shards, "train")
    shutil.copytree(short_shards, tmp_path / "b")
    (tmp_path / "b" / "val-00000.json").unlink()
    ShardReader(tmp_path / "b", "train")
    with pytest.raises(InputError, match=r"val-00000.json is missing"):
        ShardReader(tmp_path / "b", "val")
    value = json.loads((short_shards / "manifest.json").read_text())
    for change, message in (
        ({"version": 99}, "format version 99"),
        ({"format": "other"}, "not a manifest"),
        ({"splits": {"train": [{"name": "x"}]}}, "broken"),
    ):
        (tmp_path / "b" / "manifest.json").write_text(json.dumps(value | change))
        with pytest.raises(InputError, match=message):
            load_manifest(Folder(tmp_path / "b"))
    (tmp_path / "b" / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="broken"):
        load_manifest(Folder(tmp_path / "b"))
    with pytest.raises(InputError, match="is missing"):
        load_manifest(Folder(tmp_path / "c"))
