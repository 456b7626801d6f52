from __future__ import annotations

import torch
from torch.testing import assert_close

from agent_scaling.data.windows.overlap import Overlapping
from tests.helpers.policies import cut, random_batch


def test_each_window_ends_with_the_beginning_of_the_next() -> None:
    whole = random_batch(12, 2, seed=1, openings=0.2)
    whole.openings = whole.opening_steps()
    parts = [cut(whole, slice(t, t + 4)) for t in (0, 4, 8)]
    for part in parts:
        part.openings = None
    first, second, last = Overlapping(parts, 2)
    for window, begin in ((first, 0), (second, 4)):
        assert (window.steps, window.ahead) == (6, 2)
        assert_close(window.chars_TBHW, whole.chars_TBHW[begin : begin + 6])  # type: ignore[index]
        assert_close(window.action_TB[:4], whole.action_TB[begin : begin + 4])
        assert (window.action_TB[4:] == -100).all()
        found = whole.first_TB[begin : begin + 6].any(dim=1).nonzero().flatten().tolist()
        assert list(window.opening_steps()) == found
    assert_close(last.chars_TBHW[:4], whole.chars_TBHW[8:])  # type: ignore[index]
    assert not last.chars_TBHW[4:].any()  # type: ignore[index]
    assert (last.game_TB[4:] == -1).all()  # type: ignore[index]
    assert (last.action_TB[4:] == -100).all()
    assert torch.equal(parts[0].action_TB, whole.action_TB[:4])  # its own window is untouched


def test_a_pass_can_be_begun_again() -> None:
    windows = Overlapping([random_batch(4, 1)], 1)
    assert len(list(windows)) == len(list(windows)) == 1
    assert list(Overlapping([], 1)) == []
