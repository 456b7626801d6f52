from __future__ import annotations

import math

import pytest
import torch

from agent_scaling.evaluation.action_tables import fit_tables
from tests.helpers.policies import random_batch


def test_tables_against_counting_by_hand() -> None:
    train, held_out = random_batch(40, 3, seed=0), random_batch(10, 2, seed=1)
    for batch in (train, held_out):
        batch.prev_action_TB %= 4
        batch.action_TB = (batch.prev_action_TB + batch.action_TB % 2) % 4
        batch.action_TB[0, 0] = -100
    tables = fit_tables([train], num_actions=5)

    pairs = [
        (int(p), int(a))
        for p, a in zip(train.prev_action_TB.flatten(), train.action_TB.flatten(), strict=True)
        if a != -100
    ]
    unigram = [(sum(a == k for _, a in pairs) + 0.5) / (len(pairs) + 2.5) for k in range(5)]
    nats = {"unigram_nats": 0.0, "bigram_nats": 0.0}
    frames = 0
    for p, a in zip(held_out.prev_action_TB.flatten(), held_out.action_TB.flatten(), strict=True):
        if a == -100:
            continue
        row = sum(q == p for q, _ in pairs)
        both = sum((q, b) == (p, a) for q, b in pairs)
        nats["unigram_nats"] -= math.log(unigram[a])
        nats["bigram_nats"] -= math.log((both + unigram[a]) / (row + 1))
        frames += 1
    expected = {name: value / frames for name, value in nats.items()}
    assert tables.nats([held_out]) == pytest.approx(expected)
    assert expected["bigram_nats"] < expected["unigram_nats"]


def test_tables_are_distributions() -> None:
    tables = fit_tables([random_batch(5, 2)])
    assert tables.unigram_A.exp().sum() == pytest.approx(1)
    assert torch.allclose(tables.bigram_AA.exp().sum(1), torch.ones(121, dtype=torch.float64))
