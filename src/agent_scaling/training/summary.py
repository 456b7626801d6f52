"""A run's summaries on the terminal: before it starts, at milestones, and at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent_scaling.config.command import command, quoted, setting
from agent_scaling.data.batch import blank_batch
from agent_scaling.evaluation.accuracy import accuracy_rows
from agent_scaling.runtime.formats import clock, compact, measured
from agent_scaling.runtime.terminal import is_first, plain_console, say
from agent_scaling.tracking.milestones import milestones
from agent_scaling.tracking.store import MODE
from agent_scaling.training.device.utilisation import describe_device
from agent_scaling.training.hooks import MeasuresSpeed, find, measurements, run_data, run_module

if TYPE_CHECKING:
    from lightning import Trainer

    from agent_scaling.policies.policy import Policy
    from agent_scaling.tracking.logger import BufferedMLFlowLogger
    from agent_scaling.training.course.branches import Branch
    from agent_scaling.training.modules.base import PolicyModule

LIKELY = 0.4
"""Utilisation that a large policy on a large GPU may reach."""
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


def print_start(trainer: Trainer, module: PolicyModule, budget: float | None) -> None:
    """Print data, policy, cost, budget and folder of the run that is about to begin."""
    data = run_data(trainer)
    policy, device = module.policy, describe_device(module)
    rows = {
        "data": data.description,
        "policy": f"{policy.num_params:,} parameters ({kinds(policy)}) on {device}",
        "cost": f"{module.flops_per_frame:,.0f} FLOPs per frame ({module.counted})",
        "budget": "none",
        "done": f"{module.flops:.3g} FLOPs, {module.frames:,} frames",
        "output": trainer.default_root_dir,
    }
    if aside := module.make_optimizer.flops_per_step(policy):
        rows["cost"] += f", and {aside:.3g} of the optimiser per step, which no budget counts"
    if budget:
        frames = budget / module.flops_per_frame
        epochs = data.progress(int(frames)).get("data/epoch")
        passes = "" if epochs is None else f" = {epochs:.3g} passes over the data"
        rows["budget"] = f"{budget:.3g} FLOPs = {frames:,.0f} frames{passes}"
    rows |= speed_row(trainer, module, budget)
    for name, text in rows.items():
        if name != "done" or module.frames:
            say(f"{name:8}{text}", bold=len(name))


def speed_row(trainer: Trainer, module: PolicyModule, budget: float | None) -> dict[str, str]:
    """The least time that the budget takes on this device, or how to give the device's peak."""
    measuring = find(trainer, MeasuresSpeed)
    if measuring is None:
        return {}
    if measuring.utilisation is None:
        device = describe_device(module).partition(",")[0]
        return {
            "mfu": f"not measured: the peak FLOP/s of {device} in {trainer.precision} is not "
            "known; callbacks.tracking.peak_flops=… gives it"
        }
    if not budget:
        return {}
    peak, steps = measuring.utilisation.peak, vars(run_data(trainer)).get("unroll_length", 80)
    ratio = module.executed(blank_batch(steps, 1, "meta")) / steps / module.flops_per_frame
    least = (budget - module.flops) * ratio / peak
    return {
        "time": f"{clock(least)} at the peak of {peak:.3g} FLOP/s, {clock(least / LIKELY)} at "
        f"{LIKELY:.0%} of it"
    }


def kinds(policy: Policy) -> str:
    """Name the classes of a policy's parts: ``NetHackEncoder, LSTMCore``."""
    return ", ".join(type(part).__name__ for part in (policy.encoder, policy.core))


def print_milestone(trainer: Trainer, module: PolicyModule, flops: float, console: Console) -> None:
    """Print a line with the measurements at a milestone."""
    found = measurements(trainer)
    parts = [f"{module.frames:,} frames"]
    for text, values, se, digits in (
        ("nats per action held out", "val/nats", "val/nats_se", 3),
        ("mean return", "rollout/return_mean", "rollout/return_se", 1),
    ):
        if values in found:
            parts.append(f"{measured(found[values], found.get(se), digits)} {text}")
    head = (f"milestone {flops:.3g} FLOPs", "bold")
    console.print(Text.assemble(head, f": {', '.join(parts)}"), soft_wrap=True)


def print_end(trainer: Trainer, output: Path, logger: BufferedMLFlowLogger) -> None:
    """Print losses beside baselines, returns beside references, and the next commands."""
    values, console = measurements(trainer), plain_console()
    losses = Table("held-out cross-entropy", "nats per action", title_justify="left")
    for key, text in LOSSES.items():
        if key in values:
            losses.add_row(text, measured(values[key], values.get(f"{key}_se")))
    returns = Table("mean return", "score", title_justify="left")
    for key, text in RETURNS.items():
        if f"{key}_mean" in values:
            returns.add_row(text, measured(values[f"{key}_mean"], values.get(f"{key}_se"), 1))
    accuracies = Table("held-out accuracy", "and 95 % interval", title_justify="left")
    for row in accuracy_rows({k.removeprefix("val/"): v for k, v in values.items()}):
        accuracies.add_row(*row)
    for table in (losses, accuracies, returns):
        if table.row_count:
            console.print(table)
    checkpoint = output / "checkpoints" / "last.ckpt"
    say(f"checkpoint {checkpoint}")
    if replays := sorted((output / "replays").glob("*/best.html"), key=mtime):
        say(f"replay     {replays[-1]}")
    ui = ("mlflow", "ui", "--backend-store-uri", logger.tracking_uri)
    say(f"metrics    {' '.join(map(quoted, ui))}")
    if logger.experiment_id:  # None if the store never answered
        page = f"#/experiments/{logger.experiment_id}/runs/{logger.run_id}/model-metrics"
        say(f"           then open http://127.0.0.1:5000/{page}?{MODE}")
    module = run_module(trainer.lightning_module)
    if module.policy.causal:
        say(f"play it    {command('rollout', setting('ckpt', checkpoint), 'episodes=100')}")
    else:
        words = ("label", setting("ckpt", checkpoint), "input=SHARDS", "output=LABELLED")
        say(f"label with {command(*words)}")


def begin_branch(branch: Branch) -> None:
    """Print the heading of a branch: its end, and the checkpoint that it leaves the run at."""
    say(f"branch  {branch.name} FLOPs, cooled down from {branch.point}", bold=6)


def print_branches(output: Path, schedule: DictConfig) -> None:
    """Print what a run and its branches measured, and what they took beside runs of their own."""
    rows, table = milestones(output), Table(box=SIMPLE)
    for column in ("FLOPs", "frames", "held-out nats", "mean return", "folder"):
        table.add_column(column, no_wrap=True)
    apart = beside = 0.0
    for row in rows:
        cells = [found(row, "val/nats", 3), found(row, "rollout/return_mean", 1)]
        where = str(row["folder"].relative_to(output))
        table.add_row(compact(row["milestone"]), f"{row['frames']:,}", *cells, where)
        apart += row["flops"]
        own = 1 - schedule.warmup / row["milestone"]
        share = (1 - schedule.hold) * own if row["folder"] != output else 1
        beside += share * row["flops"]
    if is_first():
        plain_console().print(table)
    say(f"in all  {beside:.3g} FLOPs; as runs of their own, {apart:.3g}", bold=6)


def found(row: Mapping[str, Any], key: str, digits: int) -> str:
    """Format a measurement of a milestone, with its standard error, if there is one."""
    name = key.removesuffix("_mean")
    return measured(row[key], row.get(f"{name}_se"), digits) if key in row else "not measured"


def mtime(path: Path) -> float:
    """Return the time of a file's last change."""
    return path.stat().st_mtime
