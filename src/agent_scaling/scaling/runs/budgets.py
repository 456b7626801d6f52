"""Merges close FLOPs into one budget, since runs stop at a step or checkpoint near their budget."""

from __future__ import annotations

import numpy as np

MERGE_WITHIN = 0.1
"""Largest spread of FLOPs that are merged into one budget, as a fraction of the lowest."""

APART = 2.0
"""The gaps to a budget's neighbours must exceed this many times its own spread."""


def merge_budgets(flops: np.ndarray, within: float = MERGE_WITHIN) -> tuple[np.ndarray, list[str]]:
    """Set each cluster of FLOPs to its geometric mean, and list the merged ones.

    A cluster spreads by no more than the fraction ``within``, and the gaps (of logarithms) on both
    sides of it are more than :data:`APART` times its spread. An even series of close budgets has no
    such gaps and stays unchanged; links from neighbour to neighbour would make it one budget.

    Returns:
        FLOPs of the same shape, and a line for each cluster of different values.
    """
    values = np.unique(flops)
    logs = np.log(values)
    merged, lines, start = values.copy(), [], 0
    while start < len(values):
        end = _end(logs, start, float(np.log1p(within)))
        if end > start:
            part = slice(start, end + 1)
            merged[part] = np.exp(logs[part].mean())
            lines.append(
                f"merged budgets: {end + 1 - start} from {values[start]:.4g} to {values[end]:.4g} "
                f"FLOPs are one, {merged[start]:.4g}"
            )
        start = end + 1
    result: np.ndarray = merged[np.searchsorted(values, flops)]
    return result, lines


def _end(logs: np.ndarray, start: int, most: float) -> int:
    """Return the last index of the widest cluster that begins at ``start``."""
    before = logs[start] - logs[start - 1] if start else np.inf
    last = start
    for end in range(start + 1, len(logs)):
        spread = logs[end] - logs[start]
        if spread > most or spread * APART >= before:
            break
        after = logs[end + 1] - logs[end] if end + 1 < len(logs) else np.inf
        if after > APART * spread:
            last = end
    return last
