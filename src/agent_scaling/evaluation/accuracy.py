"""Margins of a model's accuracy over predictions that ignore the screen, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric

from agent_scaling.envs.actions import NO_ACTION
from agent_scaling.evaluation.next_action import cluster_se

BASELINES = {
    "majority": "most frequent action (majority)",
    "unigram": "draws from action frequencies (unigram)",
}


class AccuracyMargins(Metric):
    """Accuracy of a model, and its margins over two baselines that know action frequencies alone.

    ``majority`` always predicts the most frequent action. ``unigram`` draws from the frequencies;
    its expected accuracy is used. Frames of one game are not independent, so standard errors are
    those of ratios with games as clusters. A margin's error is that of the differences on the same
    frames.

    Args:
        games: Number of games that ``game_TB`` indexes.
        unigram_A: Log-probability of each action, in nats, from the model's training games.
    """

    full_state_update = False
    hits_GK: Tensor
    frames_G: Tensor

    def __init__(self, games: int, unigram_A: Tensor) -> None:
        super().__init__()
        chance_A = unigram_A.double().exp()
        majority_A = torch.zeros_like(chance_A)
        majority_A[chance_A.argmax()] = 1
        self.score_KA = torch.stack([majority_A, chance_A])
        hits_GK = torch.zeros(games, 1 + len(BASELINES), dtype=torch.float64)
        self.add_state("hits_GK", hits_GK, dist_reduce_fx="sum")
        self.add_state("frames_G", hits_GK[:, 0].clone(), dist_reduce_fx="sum")

    def update(self, logits_TBA: Tensor, action_TB: Tensor, game_TB: Tensor) -> None:
        """Add a window. Frames whose action is -100 do not count."""
        has_action_TB = action_TB != NO_ACTION
        target_N, game_N = action_TB[has_action_TB], game_TB[has_action_TB]
        own_N = (logits_TBA[has_action_TB].argmax(-1) == target_N).double()
        others_KN = self.score_KA.to(target_N.device)[:, target_N]
        self.hits_GK.index_add_(0, game_N, torch.cat([own_N[None], others_KN]).T)
        self.frames_G.index_add_(0, game_N, torch.ones_like(own_N))

    def compute(self) -> dict[str, float]:
        """Return accuracies, margins and standard errors; empty when no frame was seen.

        Keys: ``top1_se``; for each baseline ``<name>_top1``, ``over_<name>`` (the model's accuracy
        minus the baseline's) and ``over_<name>_se``; and ``margin_games``, the number of clusters.
        """
        frames = float(self.frames_G.sum())
        if frames == 0:
            return {}
        own_G = self.hits_GK[:, 0]
        found = {"top1_se": cluster_se(own_G, self.frames_G)}
        for index, name in enumerate(BASELINES, 1):
            over_G = own_G - self.hits_GK[:, index]
            found[f"{name}_top1"] = float(self.hits_GK[:, index].sum()) / frames
            found[f"over_{name}"] = float(over_G.sum()) / frames
            found[f"over_{name}_se"] = cluster_se(over_G, self.frames_G)
        return {**found, "margin_games": float((self.frames_G > 0).sum())}


def interval(
    mean: float, error: float, clusters: float, level: float = 0.95
) -> tuple[float, float]:
    """Return a mean's t-interval from its standard error over few clusters."""
    from scipy.special import stdtrit  # training needs no scipy

    half = float(stdtrit(clusters - 1, (1 + level) / 2)) * error if clusters > 1 else math.nan
    return mean - half, mean + half


def accuracy_rows(found: Mapping[str, float]) -> list[tuple[str, str]]:
    """Format ``top1`` and the results of :meth:`AccuracyMargins.compute` as rows (name, text)."""
    if "margin_games" not in found:
        return []
    games = found["margin_games"]

    def shown(value: float, error: float, sign: str = "") -> str:
        low, high = interval(value, error, games)
        return f"{100 * value:{sign}.1f} % [{100 * low:.1f}, {100 * high:.1f}]"

    rows = [("model", shown(found["top1"], found["top1_se"]))]
    for name, text in BASELINES.items():
        rows.append((text, f"{100 * found[f'{name}_top1']:.1f} %"))
    for name in BASELINES:
        over, error = found[f"over_{name}"], found[f"over_{name}_se"]
        rows.append((f"margin over {name}", shown(over, error, "+").replace(" %", " points", 1)))
    return rows
