"""Forward and backward of our policy against the published network, same weights, one process.

    python benchmarks/policy.py [--steps 80] [--lanes 8] [--rounds 5] [--compile] [--output FILE]

Interleaved rounds; a ratio is the median of the rounds' ratios. The last line is one JSON object:
``step_vs_published`` (times as fast in float32), ``step_vs_published_compiled``,
``max_abs_error``. On a GPU also ``step_vs_published_bf16`` and ``…_bf16_compiled``, against the
network in bf16 too, and ``mfu``: the utilisation of larger policies (``utilisation.py``; on a CPU
with ``--mfu --peak FLOPS``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from published_network import PublishedNetwork, Shape
from torch.nn import functional as F
from utilisation import Search, utilisation

from agent_scaling.data.batch import Batch
from agent_scaling.policies.checkpoints.load import build_policy
from agent_scaling.policies.checkpoints.published import policy_config, rename
from agent_scaling.policies.policy import Policy
from agent_scaling.training.device.peaks import find_peak


def screens(steps: int, lanes: int, device: str) -> Batch:
    """Windows that look like the game: mostly blank, a few characters that move."""
    g = torch.Generator().manual_seed(0)
    shape = (steps, lanes, 24, 80)
    written = torch.rand(shape, generator=g) < 0.15
    chars = torch.where(written, torch.randint(33, 127, shape, generator=g), 32).to(torch.uint8)
    colors = (written * torch.randint(1, 16, shape, generator=g)).to(torch.int8)
    cursor = torch.stack(
        [torch.randint(0, n, (steps, lanes), generator=g) for n in (24, 80)], dim=-1
    )
    actions = torch.randint(0, 121, (2, steps, lanes), generator=g)
    first = torch.zeros((steps, lanes), dtype=torch.bool)
    batch = Batch(
        chars_TBHW=chars,
        colors_TBHW=colors,
        cursor_TB2=cursor.to(torch.uint8),
        prev_action_TB=actions[0],
        action_TB=actions[1],
        first_TB=first,
    ).to(device)
    batch.openings = ()
    return batch


def pair(width: int, scale: float, device: str) -> tuple[PublishedNetwork, Policy]:
    """The peer with random weights, and our policy with the same ones."""
    torch.manual_seed(0)
    peer = PublishedNetwork(Shape(width, scale))
    weights = peer.state_dict()
    config = policy_config(weights)
    config["encoder"]["channels_last"] = True
    ours = build_policy(config)
    ours.load_state_dict(rename(weights)[0])
    return peer.to(device), ours.to(device)


def step_seconds(model: Any, batch: Batch, state: Any, bf16: bool) -> float:
    """One forward and backward pass."""
    device = batch.chars_TBHW.device.type
    begin = time.perf_counter()
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        logits, _, _ = model(batch, state)
    F.cross_entropy(logits.flatten(0, 1).float(), batch.action_TB.flatten()).backward()
    for parameter in model.parameters():
        parameter.grad = None
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def compare(models: dict[str, Any], batch: Batch, state: Any, rounds: int, bf16: bool) -> Any:
    """Median over rounds of how many times as fast as ``published`` each of the others is."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for number in range(rounds + 1):
        for name, model in models.items():
            taken = step_seconds(model, batch, state, bf16)
            if number:  # the first round warms up
                seconds[name].append(taken)
    precision, frames = ("bf16" if bf16 else "float32"), batch.steps * batch.lanes
    for name, taken_each in seconds.items():
        speed = frames / statistics.median(taken_each)
        print(f"{precision:>8} {name:>10}: {speed:10,.0f} frames/s", flush=True)
    peer = seconds.pop("published")
    return {
        name: round(statistics.median(p / s for p, s in zip(peer, own, strict=True)), 3)
        for name, own in seconds.items()
    }


def comparison(args: argparse.Namespace, device: str) -> dict[str, float]:
    """Ratios in float32, and on a GPU in bf16; the largest difference of outputs."""
    peer, ours = pair(args.width, args.scale, device)
    batch, state = screens(args.steps, args.lanes, device), ours.initial_state(args.lanes)
    with torch.no_grad():
        answers = [model.eval()(batch, state)[0] for model in (peer, ours)]
    found = {"max_abs_error": float((answers[0] - answers[1]).abs().max())}
    models = {"published": peer.train(), "ours": ours.train()}
    if args.compile:
        models["compiled"] = torch.compile(ours)
    for bf16 in (False, True)[: 2 if device == "cuda" else 1]:
        ratios = compare(models, batch, state, args.rounds, bf16)
        suffix = "_bf16" if bf16 else ""
        found[f"step_vs_published{suffix}"] = ratios["ours"]
        if args.compile:
            found[f"step_vs_published{suffix}_compiled"] = ratios["compiled"]
    torch.compiler.reset()
    return found


def utilisations(args: argparse.Namespace, device: str) -> list[dict[str, Any]]:
    """A row per size of policy."""
    name = torch.cuda.get_device_name() if device == "cuda" else "a CPU"
    peak = args.peak or find_peak(name)
    if peak is None:
        raise SystemExit(f"no peak FLOP/s known for {name}: give --peak")
    at = Search(device, args.steps, peak, args.most_lanes, args.seconds / len(args.sizes))
    rows = []
    for params in args.sizes:
        rows.append(utilisation(params, args.core, screens, at))
        print(f"{name}: {json.dumps(rows[-1])}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--lanes", type=int, default=8, help="of the comparison")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="always so on a GPU")
    parser.add_argument("--output", type=Path, help="also write the JSON object there")
    parser.add_argument("--mfu", action="store_true", help="utilisation also on a CPU")
    parser.add_argument("--sizes", type=float, nargs="+", default=[10e6, 50e6, 200e6])
    parser.add_argument("--core", default="lstm")
    parser.add_argument("--peak", type=float, help="FLOP/s; by default by the GPU's name")
    parser.add_argument("--most-lanes", type=int, default=2048)
    parser.add_argument("--seconds", type=float, default=330, help="of all sizes together")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    args.compile = args.compile or device == "cuda"
    result: dict[str, Any] = comparison(args, device)
    if args.mfu or device == "cuda":
        result["mfu"] = utilisations(args, device)
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
