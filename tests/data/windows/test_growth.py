"""Windows that grow show the frames of those that do not, in the same order."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from agent_scaling.data.windows.growth import Growth
from agent_scaling.runtime.errors import InputError
from data_modules.shards import ShardsDataModule

SHORT: dict[str, Any] = {"lanes": 2, "unroll_length": 16}
GROWS: dict[str, Any] = {**SHORT, "unroll_start": 4, "unroll_doubling": 6}


def test_each_step_begins_where_the_one_before_ends() -> None:
    growth = Growth(16, 4, 6)  # 8 of 4 frames, 6 of 8: whole windows of 16
    assert [growth.frames(step)[1] for step in range(16)] == [4] * 8 + [8] * 6 + [16] * 2
    position = 0
    for step in range(40):
        begin, length = growth.frames(step)
        assert begin == position
        position += length
        assert growth.steps(position) == step + 1
        assert growth.steps(position - 1) == step + 1
    assert Growth(16, 16, 9).frames(5) == (80, 16)


@pytest.mark.parametrize("start", [0, 3, 5, 32, -4])
def test_lengths_that_do_not_double_to_the_whole(start: int) -> None:
    with pytest.raises(InputError, match=f"data.unroll_start={start}: must be"):
        Growth(16, start, 9)


def test_short_windows_are_parts_of_the_whole_ones(tiny_shards: Path) -> None:
    whole = ShardsDataModule(str(tiny_shards), **SHORT)
    grows = ShardsDataModule(str(tiny_shards), **GROWS, workers=0)
    windows = list(itertools.islice(whole.train_dataloader(), 8))
    batches = list(itertools.islice(grows.train_dataloader(), 17))
    assert [batch.steps for batch in batches] == [4] * 8 + [8] * 6 + [16] * 3
    for name in ("chars_TBHW", "action_TB", "prev_action_TB", "first_TB"):
        ours = torch.cat([getattr(batch, name) for batch in batches])
        assert torch.equal(ours, torch.cat([getattr(w, name) for w in windows]))
    for batch in batches:
        found = tuple(batch.first_TB.any(dim=1).nonzero().flatten().tolist())
        assert batch.opening_steps() == found
    for step in (3, 9, 15):  # from the middle of a window, too
        grows.start_step = step
        for batch, expected in zip(grows.train_dataloader(), batches[step:], strict=False):
            assert torch.equal(batch.chars_TBHW, expected.chars_TBHW)
    frames = [sum(span["frames"] for span in lane) for lane in grows.coordinates(9)["lanes"]]
    assert frames == [8, 8]


def test_another_growth_is_another_order(tiny_shards: Path) -> None:
    state = ShardsDataModule(str(tiny_shards), **GROWS).state_dict()
    with pytest.raises(InputError, match=r"data\.unroll_start=None: the checkpoint"):
        ShardsDataModule(str(tiny_shards), **SHORT).load_state_dict(state)
    with pytest.raises(InputError, match=r"data\.unroll_start=4: not with"):
        ShardsDataModule(str(tiny_shards), **GROWS, lookahead=2)
