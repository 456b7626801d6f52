"""Lanes over ranks, without processes: the epoch is whole, and every rank has as many steps."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch

from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.data.windows.loader import WindowLoader
from agent_scaling.data.windows.order import PADDING, TrainLanes, rank_lanes
from agent_scaling.runtime.errors import InputError

LANES, STEPS = 12, 7
WORLDS = (1, 2, 3, 4)


@pytest.mark.parametrize("ranks", WORLDS)
def test_each_frame_of_an_epoch_once(ranks: int) -> None:
    lengths = [1, 50, 333, 8, 120, 77, 501]
    order = TrainLanes([f"game {i}" for i in range(len(lengths))], lengths, LANES, seed=5)
    seen: Counter[tuple[int, int]] = Counter()
    for rank in range(ranks):
        positions = 0
        for lane in rank_lanes(LANES, rank, ranks):
            at = 0
            while at < order.positions:
                span = order.span(lane, at, min(STEPS, order.positions - at))
                if span.game != PADDING:
                    seen.update((span.game, span.frame + i) for i in range(span.length))
                at += span.length
            positions += at
        assert positions == order.positions * LANES // ranks  # no rank waits for another
    assert set(seen.values()) == {1}
    assert len(seen) == sum(lengths)


@pytest.mark.parametrize("ranks", WORLDS[1:])
def test_ranks_side_by_side_read_what_one_reads(tiny_shards: Path, ranks: int) -> None:
    reader = ShardReader(tiny_shards, "train")
    games = reader.games
    order = TrainLanes([g.id for g in games], [g.frames for g in games], LANES, seed=0)

    def windows(rank: int, world: int) -> WindowLoader:
        return WindowLoader(reader, order, rank_lanes(LANES, rank, world), STEPS, workers=rank % 2)

    parts = [islice(iter(windows(rank, ranks)), 5) for rank in range(ranks)]
    for whole, *dealt in zip(islice(iter(windows(0, 1)), 5), *parts, strict=True):
        for name in ("chars_TBHW", "action_TB", "prev_action_TB", "first_TB"):
            together = torch.cat([getattr(part, name) for part in dealt], dim=1)
            assert torch.equal(together, getattr(whole, name)), name


def test_lanes_that_ranks_cannot_share_evenly() -> None:
    with pytest.raises(InputError, match="lanes=12: must be a multiple of the 5 ranks"):
        rank_lanes(LANES, 0, 5)
