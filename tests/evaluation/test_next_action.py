from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.text import Perplexity

from agent_scaling.evaluation.next_action import NextActionMetrics


def windows() -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    g = torch.Generator().manual_seed(0)
    made = []
    for steps in (4, 9):
        logits = torch.randn(steps, 3, 121, generator=g)
        action = torch.randint(0, 121, (steps, 3), generator=g)
        action[0, 0] = action[2, 1] = -100
        made.append((logits, action, torch.randint(0, 4, (steps, 3), generator=g)))
    return made


def test_agrees_with_torchmetrics() -> None:
    metrics = NextActionMetrics()
    perplexity = Perplexity(ignore_index=-100)
    accuracy = {
        k: MulticlassAccuracy(121, top_k=k, average="micro", ignore_index=-100) for k in (1, 3, 5)
    }
    for logits, action, _ in windows():
        metrics.update(logits, action)
        perplexity.update(logits, action)
        for metric in accuracy.values():
            metric.update(logits.flatten(0, 1), action.flatten())
    found = metrics.compute()
    assert found["perplexity"] == pytest.approx(float(perplexity.compute()), rel=1e-5)
    assert found["nats"] == pytest.approx(math.log(float(perplexity.compute())), rel=1e-5)
    for k, metric in accuracy.items():
        assert found[f"top{k}"] == pytest.approx(float(metric.compute()))


def test_standard_error_by_game() -> None:
    metrics = NextActionMetrics(games=4)
    sums, counts = [0.0] * 4, [0] * 4
    for logits, action, game in windows():
        metrics.update(logits, action, game)
        for t in range(action.shape[0]):
            for b in range(action.shape[1]):
                if action[t, b] != -100:
                    nats = -logits[t, b].log_softmax(0)[action[t, b]].item()
                    sums[int(game[t, b])] += nats
                    counts[int(game[t, b])] += 1
    mean = sum(sums) / sum(counts)
    spread = sum((s - mean * n) ** 2 for s, n in zip(sums, counts, strict=True)) * 4 / 3
    found = metrics.compute()
    assert found["frames"] == sum(counts)
    assert found["nats"] == pytest.approx(mean, rel=1e-5)
    assert found["nats_se"] == pytest.approx(math.sqrt(spread) / sum(counts), rel=1e-4)


def test_nothing_seen_is_nothing_said() -> None:
    metrics = NextActionMetrics()
    metrics.update(torch.zeros(2, 1, 121), torch.full((2, 1), -100))
    assert metrics.compute() == {}
