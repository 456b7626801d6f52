"""A damaged chunk that is skipped: padding without a target, said once, counted, and all else the
same."""

from __future__ import annotations

import itertools
import logging
import shutil
from pathlib import Path

import pytest
import torch

from agent_scaling.data.batch import Batch
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.data.shards.storage import Storage
from agent_scaling.data.windows.loader import WindowLoader
from agent_scaling.data.windows.order import PADDING, TrainLanes
from agent_scaling.envs.actions import NO_ACTION
from agent_scaling.runtime.errors import InputError
from data_modules.shards import ShardsDataModule
from tests.data.shards.test_reader import same
from tests.helpers.remote_shards import remote
from tests.helpers.shard_server import ShardServer

LANES, STEPS, WINDOWS = 5, 60, 130  # chunks of 300 frames end where windows do; above an epoch
LOST = ((1, 1), (1, 2), (0, 0), (2, 4))
"""Chunks (game, number): two side by side, a game's first, one inside."""


@pytest.fixture(scope="module")
def torn(short_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The short shards with a flipped bit in each chunk of :data:`LOST`."""
    folder = tmp_path_factory.mktemp("torn") / "shards"
    shutil.copytree(short_shards, folder)
    reader = ShardReader(folder, "train")
    for game, number in LOST:
        offset, size, _ = reader.games[game].chunks[number]
        with (folder / reader._shards[game].tar).open("r+b") as file:
            file.seek(offset + size // 2)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))
    return folder


def loader(
    shards: Storage | Path, lanes: range = range(LANES), start: int = 0, workers: int = 0
) -> WindowLoader:
    reader = ShardReader(shards, "train", on_corrupt="skip")
    frames = [game.frames for game in reader.games]
    order = TrainLanes([game.id for game in reader.games], frames, LANES, 3)
    return WindowLoader(
        reader, order, lanes, STEPS, start_step=start, workers=workers, scores=True, games=True
    )


def windows(shards: Storage | Path, start: int = 0, workers: int = 0) -> list[Batch]:
    return list(itertools.islice(loader(shards, start=start, workers=workers), WINDOWS - start))


@pytest.fixture(scope="module")
def skipped(torn: Path) -> list[Batch]:
    return windows(torn)


def test_the_frames_are_padding_and_the_state_starts_anew_behind_them(
    torn: Path, short_shards: Path, skipped: list[Batch]
) -> None:
    whole, order = windows(short_shards), loader(torn).order
    chunk_frames = ShardReader(torn, "train").chunk_frames
    behind = 0
    for step, (batch, good) in enumerate(zip(skipped, whole, strict=True)):
        lost = torch.zeros(STEPS, LANES, dtype=torch.bool)
        first = good.first_TB.clone()
        for lane, t in itertools.product(range(LANES), range(STEPS)):
            span = order.span(lane, step * STEPS + t, 1)
            number, at = divmod(span.frame, chunk_frames)
            lost[t, lane] = (span.game, number) in LOST
            if at == 0 and (span.game, number - 1) in LOST and not span.first:
                first[t, lane] = True
                behind += 1
        assert batch.skipped == int(lost.sum())
        assert torch.equal(batch.first_TB, first)
        assert batch.openings == tuple(first.any(dim=1).nonzero().flatten().tolist())
        assert batch.game_TB is not None
        assert good.game_TB is not None
        assert torch.equal(batch.game_TB, good.game_TB.masked_fill(lost, PADDING))
        assert torch.equal(batch.action_TB, good.action_TB.masked_fill(lost, NO_ACTION))
        assert torch.equal(batch.prev_action_TB, good.prev_action_TB.masked_fill(lost, 0))
        for seen, shown in zip(batch.terminal(), good.terminal(), strict=True):
            assert not seen[lost].any()
            assert torch.equal(seen[~lost], shown[~lost])
    assert behind > len(LOST)
    assert sum(batch.skipped for batch in skipped) > 300 * len(LOST)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_and_starting_points_do_not_change_a_byte(
    torn: Path, skipped: list[Batch], workers: int
) -> None:
    # Lanes stand behind a lost chunk at some starts; it is known to none of these readers.
    starts = [s for s, batch in enumerate(skipped) if batch.first_TB[0].any() or batch.skipped]
    assert len(starts) > 10
    for start in (0, *starts[:: 1 + workers]):
        found = itertools.islice(loader(torn, start=start, workers=workers), 12)
        assert all(same(a, b) for a, b in zip(found, skipped[start:], strict=False))


def test_a_run_that_goes_on_exactly_behind_a_lost_chunk_sees_it(torn: Path) -> None:
    order = loader(torn).order
    game, number = LOST[-1]
    wanted = (game, (number + 1) * ShardReader(torn, "train").chunk_frames)
    positions = itertools.product(range(LANES), range(WINDOWS * STEPS))
    lane, at = next(
        (lane, at)
        for lane, at in positions
        if (span := order.span(lane, at, 1)) and (span.game, span.frame) == wanted
    )
    reader = ShardReader(torn, "train", on_corrupt="skip")
    found = WindowLoader(reader, order, range(lane, lane + 1), 1, start_step=at)
    first = [bool(batch.first_TB.all()) for batch in itertools.islice(found, 3)]
    assert first == [True, False, False]


def test_ranks_do_not_change_a_byte(torn: Path, skipped: list[Batch]) -> None:
    parts = [loader(torn, lanes, workers=1) for lanes in (range(2), range(2, LANES))]
    for whole, left, right in zip(skipped, *parts, strict=False):
        for name in ("chars_TBHW", "action_TB", "prev_action_TB", "first_TB", "game_TB"):
            both = torch.cat([getattr(left, name), getattr(right, name)], dim=1)
            assert torch.equal(both, getattr(whole, name)), name
        assert left.skipped + right.skipped == whole.skipped


def test_each_chunk_is_said_once(torn: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = loader(torn, workers=3)
    for _ in range(2):
        list(itertools.islice(found, WINDOWS))
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    reader = found.reader
    for game, number in LOST:
        member = f"{reader.games[game].key}-{number:05d}.frames.zst is damaged"
        (line,) = (line for line in said if member in line)
        assert reader._shards[game].tar in line
        assert "leaves out its 300 frames" in line
        assert "\n" not in line
    assert len(said) == len(LOST)


def test_a_url_gives_the_same_batches(
    torn: Path, tmp_path: Path, skipped: list[Batch], caplog: pytest.LogCaptureFixture
) -> None:
    """Only what the retries do not heal is left out; whole chunks of the same piece are not."""
    with ShardServer(torn) as server:
        found = windows(remote(server.url, tmp_path, attempts=2), workers=2)
        assert all(same(a, b) for a, b in zip(found, skipped, strict=True))
        server.fault = lambda number, name: "503" if name.endswith(".tar") else ""
        with pytest.raises(InputError, match="cannot be read in 1 attempts"):
            windows(remote(server.url, tmp_path / "empty", patience=0))
    said = [
        record for record in caplog.records if record.name == "agent_scaling.data.shards.reader"
    ]
    assert len(said) == len(LOST)


def test_stop_is_the_default_and_names_the_way_on(torn: Path, tmp_path: Path) -> None:
    data = ShardsDataModule(str(torn), lanes=LANES, val_lanes=2)
    with pytest.raises(InputError, match=r"is damaged: .*on_corrupt=skip"):
        list(itertools.islice(data.train_dataloader(), 200))
    with pytest.raises(InputError, match=r"data\.on_corrupt=drop: must be stop or skip"):
        ShardsDataModule(str(torn), on_corrupt="drop")  # type: ignore[arg-type]


def test_held_out_frames_are_never_skipped(short_shards: Path, tmp_path: Path) -> None:
    """A loss over fewer frames would be another measure under the same name."""
    folder = tmp_path / "s"
    shutil.copytree(short_shards, folder)
    offset, size, _ = ShardReader(folder, "val").games[0].chunks[0]
    tar = bytearray((folder / "val-00000.tar").read_bytes())
    tar[offset + size // 2] ^= 1
    (folder / "val-00000.tar").write_bytes(tar)
    data = ShardsDataModule(str(folder), lanes=LANES, val_lanes=2, on_corrupt="skip")
    with pytest.raises(InputError, match=r"val-00000\.tar: .* is damaged") as error:
        list(data.val_dataloader())
    assert "on_corrupt" not in str(error.value)
