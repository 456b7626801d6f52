"""Draw docs/tour.svg, the parts from a recording to a figure: python docs/scripts/tour.py."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

WIDTH, HEIGHT = 2.5, 1.0
BLUE, GREEN, YELLOW, GREY = "#dbe9f6", "#dff0d8", "#fdf1cf", "#eeeeee"
BOXES = {
    "games": (0, 3, BLUE, "recorded games", "NLD-AA, NLD-NAO,\nAtari, Minari, yours"),
    "shards": (3.2, 3, BLUE, "shards", "sources/ → shards/\nmanifest, checksums"),
    "lanes": (6.4, 3, BLUE, "lanes", "data_modules/shards.py\na function of (seed, step)"),
    "pool": (0, 1.5, GREEN, "games that run", "envs/: NLE, MiniHack,\nAtari, in processes"),
    "actors": (3.2, 1.5, GREEN, "actors", "data_modules/actors.py\nactor.py, unrolls.py"),
    "batch": (6.4, 1.5, GREY, "Batch [T, B]", "batch.py: all that\ncrosses folders"),
    "policy": (9.6, 1.5, YELLOW, "policy", "encoders/ → cores/\n→ logits, baseline"),
    "module": (12.8, 1.5, YELLOW, "module", "modules/bc.py, impala.py\nloss, step, FLOPs"),
    "callbacks": (12.8, 3, GREY, "callbacks/", "milestones: held-out loss,\nrollouts, checkpoint"),
    "mlflow": (12.8, 0, GREY, "MLflow, run folder", "tracking.py, checkpoint.py\nmilestones.json"),
    "rollouts": (9.6, 0, GREEN, "rollouts", "play.py, replays/\nepisodes.parquet"),
    "fit": (6.4, 0, BLUE, "laws", "scaling/: fit, forecast\nfigures, report.html"),
    "plan": (3.2, 0, BLUE, "plan, sweep", "studies/: grid of runs,\nthe best next one"),
}
ARROWS = [
    ("games", "shards", "shard"), ("shards", "lanes", ""), ("lanes", "batch", ""),
    ("pool", "actors", ""), ("actors", "batch", ""), ("batch", "policy", ""),
    ("policy", "module", ""), ("module", "callbacks", ""), ("module", "mlflow", ""),
    ("mlflow", "rollouts", "rollout"), ("rollouts", "fit", "fit"), ("fit", "plan", "plan"),
]  # fmt: skip


def draw(path: Path) -> None:
    """Write the picture."""
    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "tour", "font.family": "sans-serif"}
    figure, axes = plt.subplots(figsize=(12.4, 4.2))
    for x, y, color, title, text in BOXES.values():
        style = "round,pad=0,rounding_size=0.1"
        axes.add_patch(FancyBboxPatch((x, y), WIDTH, HEIGHT, style, fc=color, ec="#444444"))
        axes.text(x + WIDTH / 2, y + 0.78, title, ha="center", va="center", weight="bold", size=10)
        axes.text(x + WIDTH / 2, y + 0.34, text, ha="center", va="center", size=7.5)
    for begin, end, verb in ARROWS:
        (x, y, *_), (u, v, *_) = BOXES[begin], BOXES[end]
        if y == v:
            right = u > x
            start, stop = (x + WIDTH * right, y + 0.5), (u + WIDTH * (not right), v + 0.5)
            axes.text(
                (start[0] + stop[0]) / 2, y + 0.6, verb, ha="center", size=7.5, style="italic"
            )
        else:
            up = v > y
            start, stop = (x + WIDTH / 2, y + HEIGHT * up), (u + WIDTH / 2, v + HEIGHT * (not up))
        axes.annotate("", stop, start, arrowprops={"arrowstyle": "-|>", "color": "#444444"})
    axes.annotate(
        "", (0.2, 1.5), (3.2, 0.5),
        arrowprops={"arrowstyle": "-|>", "color": "#444444", "connectionstyle": "angle3"},
    )  # fmt: skip
    axes.text(1.1, 0.3, "train: a run per size", ha="center", size=7.5, style="italic")
    axes.set(xlim=(-0.1, 15.4), ylim=(-0.1, 4.1))
    axes.axis("off")
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(__file__).resolve().parents[1] / "tour.svg")
