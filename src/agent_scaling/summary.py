"""What a run says of itself on the terminal: before it starts, and when it has ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from agent_scaling.ranks import is_first

if TYPE_CHECKING:
    from lightning import Trainer

    from agent_scaling.tracking import BufferedMLFlowLogger

LOSSES = {
    "val/nats": "policy",
    "baseline/bigram_nats": "previous action alone (bigram)",
    "baseline/unigram_nats": "action frequencies (unigram)",
}
RETURNS = {
    "rollout/return": "policy",
    "reference/random_return": "uniformly random keys",
    "reference/demonstrator_return": "scripted demonstrator",
    "reference/recorded_return": "the recorded games (no step cap)",
}


def print_start(module: Any, data: Any, budget: float | None) -> None:
    """Data, policy, cost and budget of the run that is about to begin."""
    frames = f"{budget / module.flops_per_frame:,.0f}" if budget else "no budget"
    rows = {
        "data": data.description,
        "policy": f"{module.policy.num_params:,} parameters",
        "cost": f"{module.flops_per_frame:,.0f} FLOPs per frame ({module.counted})",
        "budget": f"{budget:.3g} FLOPs = {frames} frames" if budget else frames,
        "done": f"{module.flops:.3g} FLOPs, {module.frames:,} frames",
    }
    table = Table.grid(padding=(0, 2))
    for name, text in rows.items():
        if name != "done" or module.frames:
            table.add_row(f"[bold]{name}", text)
    Console().print(table)


def print_end(trainer: Trainer, output: Path, logger: BufferedMLFlowLogger) -> None:
    """Held-out loss beside the baselines, returns beside the references, and what to do next."""
    found: dict[str, Any] = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        found |= getattr(callback, "at_milestone", dict)()
    console = Console()
    losses = Table("held-out cross-entropy", "nats per action", title_justify="left")
    for key, text in LOSSES.items():
        if key in found:
            losses.add_row(text, measured(found[key], found.get(f"{key}_se")))
    returns = Table("mean return", "score", title_justify="left")
    for key, text in RETURNS.items():
        if f"{key}_mean" in found:
            returns.add_row(text, measured(found[f"{key}_mean"], found.get(f"{key}_se"), 1))
    for table in (losses, returns):
        if table.row_count:
            console.print(table)
    checkpoint = output / "checkpoints" / "last.ckpt"
    say(f"checkpoint {checkpoint}")
    page = f"#/experiments/{logger.experiment_id}/runs/{logger.run_id}/model-metrics"
    say(f"metrics    mlflow ui --backend-store-uri {logger.tracking_uri}")
    say(f"           then open http://127.0.0.1:5000/{page}")
    say(f"play it    agent-scaling rollout ckpt={checkpoint} episodes=100")


def say(text: str) -> None:
    """One line, however long: a path must stay whole to be copied. Of several ranks the first
    speaks."""
    if is_first():
        Console(soft_wrap=True, highlight=False, markup=False).print(text)


def measured(value: float, error: float | None, digits: int = 3) -> str:
    """``1.234 ± 0.005``: a value and its standard error, where there is one."""
    text = f"{value:,.{digits}f}"
    return text if error is None or error != error else f"{text} ± {error:,.{digits}f}"
