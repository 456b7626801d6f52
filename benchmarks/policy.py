"""Forward and backward of our policy against the published network, same weights, one process.

    python benchmarks/policy.py [--steps 80] [--lanes 8] [--rounds 5] [--compile]

Interleaved rounds; the ratio is the median of the rounds' ratios. The last line is one JSON object:
``step_vs_published`` (times as fast), ``step_vs_published_compiled``, ``max_abs_error``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from published_network import PublishedNetwork, Shape
from torch.nn import functional as F

from agent_scaling.batch import Batch
from agent_scaling.checkpoint import build_policy
from agent_scaling.policy import Policy
from agent_scaling.published import policy_config, rename


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
    batch = Batch(chars, colors, cursor.to(torch.uint8), actions[0], actions[1], first)
    batch = batch.to(device)
    batch.openings = ()
    return batch


def pair(width: int, scale: int, device: str) -> tuple[PublishedNetwork, Policy]:
    """The peer with random weights, and our policy with the same ones."""
    torch.manual_seed(0)
    peer = PublishedNetwork(Shape(width, scale))
    weights = peer.state_dict()
    config = policy_config(weights)
    config["encoder"]["channels_last"] = True
    ours = build_policy(config)
    ours.load_state_dict(rename(weights))
    return peer.to(device), ours.to(device)


def step_seconds(model: torch.nn.Module, batch: Batch, state: object, dtype: object) -> float:
    """One forward and backward pass."""
    device = batch.chars_TBHW.device.type
    begin = time.perf_counter()
    with torch.autocast(device, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        logits, _, _ = model(batch, state)
    F.cross_entropy(logits.flatten(0, 1).float(), batch.action_TB.flatten()).backward()
    for parameter in model.parameters():
        parameter.grad = None
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else None
    peer, ours = pair(args.width, args.scale, device)
    batch, state = screens(args.steps, args.lanes, device), ours.initial_state(args.lanes)

    with torch.no_grad():
        answers = [model.eval()(batch, state)[0] for model in (peer, ours)]
    result = {"max_abs_error": float((answers[0] - answers[1]).abs().max())}

    models = {"published": peer.train(), "ours": ours.train()}
    if args.compile:
        models["compiled"] = torch.compile(ours)  # type: ignore[assignment]
    rounds: dict[str, list[float]] = {name: [] for name in models}
    for number in range(args.rounds + 1):
        for name, model in models.items():
            seconds = step_seconds(model, batch, state, dtype)
            if number:  # the first round warms up
                rounds[name].append(seconds)
    frames = args.steps * args.lanes
    for name, seconds in rounds.items():
        print(f"{name:>10}: {frames / statistics.median(seconds):10,.0f} frames/s")
        ratios = [p / s for p, s in zip(rounds["published"], seconds, strict=True)]
        key = {"ours": "step_vs_published", "compiled": "step_vs_published_compiled"}.get(name)
        if key:
            result[key] = round(statistics.median(ratios), 3)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
