from __future__ import annotations

import math

import pytest
import torch

from agent_scaling.evaluation.accuracy import AccuracyMargins, accuracy_rows, interval


def test_margins_and_their_errors_are_those_of_differences_by_game() -> None:
    """Three games, two actions; the slow version beside."""
    g = torch.Generator().manual_seed(0)
    action, game = torch.randint(0, 2, (40, 3), generator=g), torch.arange(3).expand(40, 3)
    action[::7] = -100
    logits = torch.randn(40, 3, 2, generator=g)
    metric = AccuracyMargins(4, torch.tensor([0.25, 0.75]).log())  # a fourth game is not seen
    for t in range(0, 40, 8):
        metric.update(logits[t : t + 8], action[t : t + 8], game[t : t + 8])
    found = metric.compute()
    own, majority, chance, frames = ([0.0] * 3 for _ in range(4))
    for t in range(40):
        for lane in range(3):
            target = int(action[t, lane])
            if target != -100:
                own[lane] += int(logits[t, lane].argmax()) == target
                majority[lane] += target == 1
                chance[lane] += (0.25, 0.75)[target]
                frames[lane] += 1
    for name, other in (("majority", majority), ("unigram", chance)):
        over = [a - b for a, b in zip(own, other, strict=True)]
        mean = sum(over) / sum(frames)
        spread = sum((o - mean * f) ** 2 for o, f in zip(over, frames, strict=True)) * 3 / 2
        assert found[f"over_{name}"] == pytest.approx(mean)
        assert found[f"over_{name}_se"] == pytest.approx(math.sqrt(spread) / sum(frames))
        assert found[f"{name}_top1"] == pytest.approx(sum(other) / sum(frames))
    assert found["margin_games"] == 3


def test_interval_is_student_s() -> None:
    low, high = interval(0.5, 0.1, 8)
    assert (low, high) == (pytest.approx(0.5 - 0.2364624), pytest.approx(0.5 + 0.2364624))
    assert all(math.isnan(side) for side in interval(0.5, math.nan, 1))


def test_rows_for_people() -> None:
    found = {"top1": 0.6, "top1_se": 0.01, "margin_games": 8.0}
    found |= {"majority_top1": 0.2, "over_majority": 0.4, "over_majority_se": 0.01}
    found |= {"unigram_top1": 0.1, "over_unigram": 0.5, "over_unigram_se": 0.02}
    rows = dict(accuracy_rows(found))
    assert rows["model"] == "60.0 % [57.6, 62.4]"
    assert rows["margin over unigram"] == "+50.0 points [45.3, 54.7]"
    assert accuracy_rows({"top1": 0.6}) == []
