"""Maps returns that a game's rules bound to values without a bound, in which laws are fitted.

R̃ = R / (1 − R/H) equals R far below the highest return H, and grows without end as R nears it. A
power law of R̃ is 1/R = 1/H + a C^−γ: a sigmoid in log compute that ends at H.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MARGIN = 0.005
"""Least share of H by which a return counts as lying below it: half an episode of a hundred.
Without it, the R̃ of a game that is always solved would be infinite."""


def stretch(value: npt.ArrayLike, highest: float) -> np.ndarray:
    """Return R̃ of returns R, both counted from the return that laws count from."""
    known = np.asarray(value, float)
    stretched: np.ndarray = known / np.maximum(1 - known / highest, MARGIN)
    return stretched


def squeeze(log_stretched: npt.ArrayLike, highest: float) -> np.ndarray:
    """Return ln R of ln R̃; no R lies above ``highest``."""
    log_highest = np.log(highest)
    below = -np.logaddexp(-np.asarray(log_stretched, float), -log_highest)
    found: np.ndarray = np.minimum(below, log_highest)
    return found


def room(log_value: npt.ArrayLike, highest: float) -> np.ndarray:
    """Return 1 − R/H of returns ln R, the share of the highest return that is left to gain."""
    left: np.ndarray = np.maximum(-np.expm1(np.asarray(log_value, float) - np.log(highest)), 0.0)
    return left
