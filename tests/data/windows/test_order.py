"""The data order against a slow version that writes it all down."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_scaling.data.windows.order import (
    PADDING,
    EvalLanes,
    JudgedLanes,
    TrainLanes,
    rank_lanes,
)
from agent_scaling.data.windows.windows import Order
from agent_scaling.runtime.errors import InputError

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=12)
Shown = tuple[int, int, bool]  # game, frame, first


def shown(order: Order, lane: int, begin: int, end: int, limit: int) -> list[Shown]:
    """Positions [begin, end) of a lane, asked for in pieces of at most ``limit``."""
    found: list[Shown] = []
    while len(found) < end - begin:
        span = order.span(lane, begin + len(found), min(limit, end - begin - len(found)))
        assert 1 <= span.length <= limit
        for i in range(span.length):
            frame = 0 if span.game == PADDING else span.frame + i
            found.append((span.game, frame, span.first and i == 0))
    return found


def slow_train(order: TrainLanes, lengths: list[int], epochs: int) -> list[list[Shown]]:
    """All lanes' positions over some epochs, frame by frame."""
    lanes: list[list[Shown]] = [[] for _ in range(order.lanes)]
    for epoch in range(epochs):
        games = order.stream(epoch).order.tolist()
        stream = [(game, frame) for game in games for frame in range(lengths[game])]
        total, n = len(stream), order.lanes
        longest = max((i + 1) * total // n - i * total // n for i in range(n))
        for lane in range(n):
            part = stream[lane * total // n : (lane + 1) * total // n]
            rows = [(g, f, f == 0 or i == 0) for i, (g, f) in enumerate(part)]
            lanes[lane] += rows + [(PADDING, 0, False)] * (longest - len(part))
    return lanes


@settings(deadline=None)
@given(lengths=LENGTHS, data=st.data(), seed=st.integers(0, 3))
def test_training_order_is_the_slow_one(lengths: list[int], data: st.DataObject, seed: int) -> None:
    lanes = data.draw(st.integers(1, sum(lengths)))
    order = TrainLanes([f"g{i}" for i in range(len(lengths))], lengths, lanes, seed)
    expected = slow_train(order, lengths, epochs=3)
    begin = data.draw(st.integers(0, len(expected[0]) - 1))
    limit = data.draw(st.integers(1, 40))
    for lane in range(lanes):
        assert shown(order, lane, begin, len(expected[lane]), limit) == expected[lane][begin:]


@given(lengths=LENGTHS, data=st.data())
def test_every_frame_once_per_epoch_over_all_ranks(lengths: list[int], data: st.DataObject) -> None:
    ranks = data.draw(st.integers(1, 3))
    lanes = ranks * data.draw(st.integers(1, 4))
    if lanes > sum(lengths):
        return
    order = TrainLanes([f"g{i}" for i in range(len(lengths))], lengths, lanes, 7)
    s = order.positions
    for epoch in (0, 5):
        seen = [
            (game, frame)
            for rank in range(ranks)
            for lane in rank_lanes(lanes, rank, ranks)
            for game, frame, _ in shown(order, lane, epoch * s, (epoch + 1) * s, 1000)
            if game != PADDING
        ]
        assert sorted(seen) == [(g, f) for g, n in enumerate(lengths) for f in range(n)]
        assert lanes * s - len(seen) < lanes


def test_epochs_and_seeds_differ_and_the_game_list_does_not_matter() -> None:
    ids = [f"g{i}" for i in range(50)]
    order = TrainLanes(ids, [10] * 50, 4, seed=0)
    first = order.stream(0).order.tolist()
    assert first != order.stream(1).order.tolist()
    assert first != TrainLanes(ids, [10] * 50, 4, seed=1).stream(0).order.tolist()
    # The place of a game follows from its identity: leaving one out moves no other.
    fewer = TrainLanes(ids[:-1], [10] * 49, 4, seed=0)
    assert fewer.stream(0).order.tolist() == [game for game in first if game != 49]


def test_positions_of_games_in_the_order_are_uniform() -> None:
    order = TrainLanes([f"g{i}" for i in range(20)], [1] * 20, 1, seed=0)
    places = np.array([np.argsort(order.stream(epoch).order)[0] for epoch in range(2000)])
    counts = np.bincount(places, minlength=20)
    assert 50 < counts.min() <= counts.max() < 150  # 100 each, standard deviation 10


@given(lengths=LENGTHS, lanes=st.integers(1, 8), steps=st.integers(1, 20), data=st.data())
def test_evaluation_shows_each_frame_once(
    lengths: list[int], lanes: int, steps: int, data: st.DataObject
) -> None:
    total = sum(lengths)
    cap = data.draw(st.none() | st.integers(lanes, total + lanes))
    order = EvalLanes(lengths, lanes, cap)
    end = order.steps(steps) * steps
    stream = [(game, frame) for game, n in enumerate(lengths) for frame in range(n)]
    seen = []
    for lane in range(lanes):
        part = stream[lane * total // lanes : (lane + 1) * total // lanes]
        part = part if cap is None else part[: cap // lanes]
        rows = [(g, f, f == 0 or i == 0) for i, (g, f) in enumerate(part)]
        rows += [(PADDING, 0, False)] * (end - len(part))
        assert shown(order, lane, 0, end, 7) == rows
        seen += part
    assert len(set(seen)) == len(seen) == (total if cap is None else len(seen))
    assert cap is None or len(seen) <= cap


def test_lanes_that_cannot_be() -> None:
    with pytest.raises(InputError, match="lanes=11"):
        TrainLanes(["a"], [10], 11, 0)
    with pytest.raises(InputError, match="multiple of the 2 ranks"):
        rank_lanes(5, 0, 2)
    with pytest.raises(InputError, match="max_frames=3"):
        EvalLanes([10], 4, 3)


@settings(deadline=None)
@given(lengths=LENGTHS, data=st.data())
def test_overlapping_windows_judge_each_frame_once_with_its_past(
    lengths: list[int], data: st.DataObject
) -> None:
    """The frames behind the first ``before`` of each window are the order's own, in order; those
    are what came before in the stream of all games."""
    lanes = data.draw(st.integers(1, min(4, sum(lengths))))
    order = EvalLanes(lengths, lanes, data.draw(st.none() | st.integers(lanes, sum(lengths))))
    length = data.draw(st.integers(2, 12))
    before = data.draw(st.integers(1, length - 1))
    judged = JudgedLanes(order, length, before)
    stream = [(game, frame) for game, frames in enumerate(lengths) for frame in range(frames)]
    end, limit = judged.steps(length) * length, data.draw(st.integers(1, 40))
    for lane in range(lanes):
        found = shown(judged, lane, 0, end, limit)
        windows = [found[begin : begin + length] for begin in range(0, end, length)]
        begin, frames = order.segment(lane)
        seen = [frame[:2] for window in windows for frame in window[before:]]
        assert seen[:frames] == stream[begin : begin + frames]
        assert all(game == PADDING for game, _ in seen[frames:])
        for number, window in enumerate(windows):
            assert window[0][2]
            at = begin + number * (length - before)
            past = [(PADDING, 0)] * max(0, before - at) + stream[max(0, at - before) : at]
            assert [frame[:2] for frame in window[:before]][: len(past)] == past
            opens = [first == (frame == 0 and game != PADDING) for game, frame, first in window[1:]]
            assert all(opens)
