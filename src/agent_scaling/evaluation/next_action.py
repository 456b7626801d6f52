"""Metrics of a policy's prediction of the expert: nats, perplexity and top-k accuracy."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from agent_scaling.envs.actions import NO_ACTION

TOP_K = (1, 3, 5)


class NextActionMetrics(Metric):
    """Cross-entropy, perplexity and top-1/3/5 accuracy over all frames that have an action.

    Given the number of games, the metric also keeps sums per game, and ``compute`` adds
    ``nats_se``: the standard error of the mean over frames, with games as clusters, because frames
    of one game are not independent. It is that of the ratio estimator, e.g. Cochran, *Sampling
    Techniques*, §2.11 and §9A. Sums are divided once, in ``compute``.
    """

    full_state_update = False
    nats_G: Tensor
    frames_G: Tensor
    hits_K: Tensor

    def __init__(self, games: int | None = None) -> None:
        super().__init__()
        self.games = games
        groups = games or 1
        for name, size in (("nats_G", groups), ("frames_G", groups), ("hits_K", len(TOP_K))):
            zeros = torch.zeros(size, dtype=torch.float64)
            self.add_state(name, zeros, dist_reduce_fx="sum")

    def update(self, logits_TBA: Tensor, action_TB: Tensor, game_TB: Tensor | None = None) -> None:
        """Add a window. Frames whose action is -100 do not count."""
        logits_NA, action_N = logits_TBA.detach().flatten(0, 1).float(), action_TB.flatten()
        # Masks, not a selection: the host would wait for the device to count what is selected.
        counts_N = action_N != NO_ACTION
        nats_N = F.cross_entropy(logits_NA, action_N, ignore_index=NO_ACTION, reduction="none")
        own_N1 = logits_NA.gather(1, action_N.clamp(min=0)[:, None])
        # Number of actions rated above the expert's; below k, the expert's is in the top k.
        above_N = (logits_NA > own_N1).sum(1)
        self.hits_K += torch.stack([((above_N < k) & counts_N).sum() for k in TOP_K])
        nats_N, counts_N = nats_N.double(), counts_N.double()
        if self.games is None or game_TB is None:
            self.nats_G += nats_N.sum()
            self.frames_G += counts_N.sum()
        else:
            game_N = game_TB.flatten().clamp(min=0)  # -1 in padding, which counts nothing
            self.nats_G.index_add_(0, game_N, nats_N)
            self.frames_G.index_add_(0, game_N, counts_N)

    def compute(self) -> dict[str, float]:
        """Return the metrics by name; empty when no frame was seen."""
        frames = float(self.frames_G.sum())
        if frames == 0:
            return {}
        nats = float(self.nats_G.sum()) / frames
        found = {"nats": nats, "perplexity": math.exp(nats)}
        for k, hits in zip(TOP_K, self.hits_K.tolist(), strict=True):
            found[f"top{k}"] = hits / frames
        if self.games is not None:
            found["nats_se"] = cluster_se(self.nats_G, self.frames_G)
            found["frames"] = frames
        return found


def cluster_se(sums_G: Tensor, frames_G: Tensor) -> float:
    """Return the standard error of the mean over frames, Σ sums / Σ frames, with games as clusters.

    It is that of the ratio estimator; nan for fewer than two games.
    """
    seen, frames = int((frames_G > 0).sum()), float(frames_G.sum())
    if seen < 2:
        return float("nan")
    deviation_G = sums_G - float(sums_G.sum()) / frames * frames_G
    spread = float(deviation_G.square().sum()) * seen / (seen - 1)
    return math.sqrt(spread) / frames
