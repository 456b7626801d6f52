"""The ``flops`` verb: prints a policy's FLOPs by layer, a step's memory, and a run's cost."""

from __future__ import annotations

import re
from typing import Any

from hydra.utils import instantiate
from rich.box import SIMPLE
from rich.table import Table

from agent_scaling.policies.counting.memory import STATE_BYTES, step_memory, with_checkpoint
from agent_scaling.policies.flops import (
    BUDGETS,
    Convention,
    flops_per_frame,
    training_flops,
)
from agent_scaling.policies.policy import Policy
from agent_scaling.policies.sizes import on_meta
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.formats import short
from agent_scaling.runtime.terminal import plain_console

LSTM_PARAMETER = re.compile(r"(.*)\.\w+_l(\d+)")
OTHER = "embeddings, norms"
DEVICES_GB = (24, 80, 141)
"""Memory of an RTX 4090 or L4, an A100 or H100, and an H200."""


def account(
    *,
    policy: dict[str, Any],
    frames: float | None = None,
    flops_budget: float | None = None,
    convention: Convention = "model",
    unroll_length: int = 80,
    peak_flops: float = 989e12,
    utilisation: float = 0.4,
) -> None:
    """Print training FLOPs per frame by layer and convention, memory, and the cost of a run.

    Args:
        policy: A policy's config; built without memory.
        frames: Frames of the run.
        flops_budget: FLOPs of the run, if not its frames.
        convention: Convention of ``flops_budget``: model, exact, paper, paper_atari or 6nd.
        unroll_length: Steps of a training window: memory and the ``hardware`` convention depend
            on it.
        peak_flops: FLOP/s of one GPU at its best.
        utilisation: Share of it that model FLOPs reach.

    Raises:
        InputError: Both or impossible sizes of a run, or an unknown convention.
    """
    if frames is not None and flops_budget is not None:
        raise InputError("give frames= or flops_budget=, not both")
    if convention not in BUDGETS:
        raise InputError(f"convention={convention!r}: use one of {', '.join(BUDGETS)}")
    for name, value in {"peak_flops": peak_flops, "utilisation": utilisation}.items():
        if not value > 0:
            raise InputError(f"{name}={value}: must be positive")
    built = on_meta(policy) if "encoder" in policy else instantiate(policy)
    per_frame = {name: flops_per_frame(built, name) for name in BUDGETS}
    per_frame["hardware"] = flops_per_frame(built, "hardware", steps=unroll_length)
    console = plain_console()
    console.print(layer_table(built, per_frame))
    for name, value in per_frame.items():
        where = f", in steps of {unroll_length} frames" if name == "hardware" else ""
        console.print(f"{name}: {value:,.0f} FLOPs per frame{where}")
    state = STATE_BYTES * built.num_params
    console.print(f"memory: {short(state, gap=' ')}B for weights, gradients and Adam's moments")
    console.print(memory_table(built, unroll_length))
    if flops_budget is not None:
        frames = flops_budget / per_frame[convention]
    if frames is not None:
        console.print(run_table(frames, per_frame, peak_flops * utilisation))
        console.print(f"GPU-hours: {peak_flops:.3g} FLOP/s · {utilisation:.0%} model utilisation")


def layer_table(policy: Policy, per_frame: dict[Convention, float]) -> Table:
    """A row per layer: its parameters, and its training FLOPs per frame by convention."""
    table = Table(title="training FLOPs per frame", title_justify="left", box=SIMPLE)
    shown = [c for c in BUDGETS if c == "model" or per_frame[c] != per_frame["model"]]
    for name in ("layer", "parameters", *shown, "of model"):
        table.add_column(name, justify="left" if name == "layer" else "right", no_wrap=True)
    owned = layer_params(policy)
    for cost in policy.costs():
        params = owned.pop(cost.name, 0)
        costs = {c: training_flops(policy, cost, c) for c in BUDGETS} | {"6nd": 6 * params}
        share = f"{costs['model'] / per_frame['model']:.1%}"
        numbers = map(short, (params, *(costs[c] for c in shown)))
        table.add_row(cost.name, *numbers, share)
    rest = sum(owned.values())
    others = (short(6 * rest) if c == "6nd" else "0" for c in shown)
    table.add_row(OTHER, short(rest), *others, "0.0%")
    table.add_section()
    totals = (short(per_frame[name]) for name in shown)
    table.add_row("all", short(policy.num_params), *totals, "100.0%")
    return table


def layer_params(policy: Policy) -> dict[str, int]:
    """Parameters by the layer that ``costs()`` names; those of no such layer under their own."""
    layers = {cost.name for cost in policy.costs()}
    found = dict.fromkeys(layers, 0)
    for name, parameter in policy.named_parameters():
        if not parameter.requires_grad:
            continue
        stacked = LSTM_PARAMETER.fullmatch(name)
        full = f"{stacked[1]}.{stacked[2]}" if stacked else name
        layer = full.removeprefix("encoder.")
        owner = next((n for n in (layer, layer.rpartition(".")[0]) if n in layers), name)
        found[owner] = found.get(owner, 0) + parameter.numel()
    return found


def memory_table(policy: Policy, steps: int) -> Table:
    """Bytes per frame of a float32 training step, and the largest ``data.lanes`` by device."""
    ways = {"as it is": step_memory(policy, steps)}
    if recomputing := with_checkpoint(policy):
        ways["encoder.checkpoint=true"] = step_memory(recomputing, steps)
    table = Table(title=f"lanes of {steps} frames that fit", title_justify="left", box=SIMPLE)
    for name in ("", "B per frame", *(f"{size} GB" for size in DEVICES_GB)):
        table.add_column(name, justify="right" if name else "left")
    for way, memory in ways.items():
        lanes = [f"{memory.most_lanes(1e9 * size, steps):,}" for size in DEVICES_GB]
        table.add_row(way, short(memory.per_frame), *lanes)
    return table


def run_table(frames: float, per_frame: dict[Convention, float], speed: float) -> Table:
    """The cost of ``frames`` in every convention, and the time at ``speed`` FLOP/s."""
    table = Table("run", "", box=SIMPLE)
    table.add_row("frames", f"{frames:,.0f}")
    for name, value in per_frame.items():
        table.add_row(f"FLOPs, {name}", f"{frames * value:.4g}")
    table.add_row("GPU-hours", f"{frames * per_frame['model'] / speed / 3600:,.4g}")
    return table
