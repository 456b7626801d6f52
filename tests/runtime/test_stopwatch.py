from __future__ import annotations

import pytest

from agent_scaling.runtime.stopwatch import Waiting


def test_shares_of_a_clock_that_the_test_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    waiting = Waiting()
    now += 6
    with waiting:
        now += 2
    assert waiting.share() == pytest.approx(2 / 8)
    with waiting:
        now += 3
        # Asked in the middle of a wait: what is past of it counts now, the rest later.
        assert waiting.share() == pytest.approx(1)
        now += 1
    now += 3
    assert waiting.share() == pytest.approx(1 / 4)
    now += 5
    assert waiting.share() == 0
