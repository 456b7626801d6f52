"""Baselines that ignore the screen: unigram and bigram tables of the expert's actions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from agent_scaling.data.batch import Batch
from agent_scaling.envs.actions import NO_ACTION, NUM_ACTIONS
from agent_scaling.runtime.ranks import gathered


@dataclass(frozen=True)
class ActionTables:
    """Log-probabilities of the next action, alone and given the previous one."""

    unigram_A: Tensor
    """float64 [A]: log-probability in nats."""
    bigram_AA: Tensor
    """float64 [A, A]: log-probability in nats; row = previous action, column = next."""

    def nats(self, windows: Iterable[Batch]) -> dict[str, float]:
        """Return both tables' mean cross-entropy over all ranks' decisions, in nats per frame."""
        sums = torch.zeros(3, dtype=torch.float64)
        for batch in windows:
            before_N, action_N = decisions(batch)
            sums[0] -= self.unigram_A[action_N].sum()
            sums[1] -= self.bigram_AA[before_N, action_N].sum()
            sums[2] += action_N.numel()
        unigram, bigram, frames = sum(gathered(sums), torch.zeros_like(sums)).tolist()
        return {"unigram_nats": unigram / max(frames, 1), "bigram_nats": bigram / max(frames, 1)}


def fit_tables(windows: Iterable[Batch], num_actions: int = NUM_ACTIONS) -> ActionTables:
    """Count the actions of all ranks' ``windows`` and smooth the frequencies.

    The unigram adds ½ to each count (Krichevsky–Trofimov). Each bigram row adds the unigram once, a
    Dirichlet prior (MacKay & Peto 1995), so that unseen pairs follow the unigram.
    """
    counts_AA = torch.zeros(num_actions * num_actions, dtype=torch.float64)
    for batch in windows:
        before_N, action_N = decisions(batch)
        pairs_N = before_N * num_actions + action_N
        counts_AA += torch.bincount(pairs_N, minlength=counts_AA.numel())
    counts_AA = sum(gathered(counts_AA), torch.zeros_like(counts_AA))
    counts_AA = counts_AA.view(num_actions, num_actions)
    unigram_A = counts_AA.sum(0) + 0.5
    unigram_A = unigram_A / unigram_A.sum()
    smoothed_AA = counts_AA + unigram_A
    bigram_AA = smoothed_AA / smoothed_AA.sum(1, keepdim=True)
    return ActionTables(unigram_A.log(), bigram_AA.log())


def decisions(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the previous and the next action of each frame that has one, both int64 [N]."""
    has_action_TB = batch.action_TB != NO_ACTION
    return batch.prev_action_TB[has_action_TB], batch.action_TB[has_action_TB]
