"""Draws variants beside each other: best losses over compute, with the reference's law."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FormatStrFormatter

from agent_scaling.scaling.laws.curves import fit_power
from agent_scaling.scaling.multiplier import FEWEST, best_cells

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours of the Okabe–Ito palette."""

LABELS = {"flops": "training FLOPs", "cpu_seconds": "CPU-seconds of training"}


def draw_variants(cells: pd.DataFrame, cost: str, path: Path) -> Path:
    """Draw each variant's best losses over ``cost`` with its power law; return the PNG.

    An SVG is written beside it.
    """
    best = best_cells(cells, cost)
    figure, axes = plt.subplots(figsize=(6.0, 4.2), layout="constrained")
    for number, variant in enumerate(dict.fromkeys(cells["variant"])):
        own = best[best["variant"] == variant]
        colour = COLOURS[number % len(COLOURS)]
        x, y = own["spent"].to_numpy(float), own["loss"].to_numpy(float)
        label = str(variant)
        if len(own) >= FEWEST:
            law = fit_power(np.log(x), np.log(y))
            at = np.log(np.geomspace(best["spent"].min(), best["spent"].max(), 50))
            axes.plot(np.exp(at), np.exp(law(at)), color=colour, alpha=0.5)
            label += f": L ∝ C^{law.theta[1]:.3f}"
        axes.plot(x, y, "o", color=colour, label=label)
    axes.set(xscale="log", yscale="log", xlabel=LABELS[cost], ylabel="held-out nats per action")
    axes.yaxis.set_major_formatter(FormatStrFormatter("%.2f"))
    axes.yaxis.set_minor_formatter(FormatStrFormatter("%.1f"))
    axes.set_title("Best loss at each budget, by variant", loc="left", fontsize=10)
    axes.grid(alpha=0.25, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8)
    for suffix in (".svg", ".png"):
        figure.savefig(path.with_suffix(suffix), dpi=150)
    plt.close(figure)
    return path.with_suffix(".png")
