"""Model FLOPs utilisation of training steps in bf16, at the lanes that use a device best.

Part of ``benchmarks/policy.py``. FLOPs are those that the step executes (the ``hardware``
convention); the step is forward, backward and Adam on windows whose games go on.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from torch.nn import functional as F

from agent_scaling.data.batch import Batch
from agent_scaling.policies.executed_flops import hardware_flops
from agent_scaling.policies.policy import Policy

WARM_UP, MEASURED = 2, 5  # steps
Screens = Callable[[int, int, str], Batch]


@dataclass
class Search:
    """Where and how long to look for the best number of lanes.

    Args:
        device: ``cuda`` or ``cpu``.
        steps: Unroll length T.
        peak: FLOP/s of the device at its best.
        most_lanes: Where the search ends.
        seconds: Of each policy's search; the compiled policy is left out when they are over.
        least_lanes: Where the search begins.
        measured: Steps that are timed, of each number of lanes.
    """

    device: str
    steps: int
    peak: float
    most_lanes: int
    seconds: float
    least_lanes: int = 1
    measured: int = MEASURED


def sized_policy(params: float, core: str) -> Policy:
    """The policy of about so many parameters, as ``policy.params`` makes it."""
    with initialize_config_module("conf", version_base=None):
        config = compose("flops", [f"policy.params={params:.0f}", f"policy/core={core}"])
    policy: Policy = instantiate(config.policy)
    return policy


def step_seconds(
    policy: Policy, model: Any, batch: Batch, measured: int = MEASURED, warm_up: int = WARM_UP
) -> float:
    """Seconds of one training step, the mean of ``measured`` after ``warm_up`` others."""
    device = batch.first_TB.device.type
    optimizer = torch.optim.Adam(policy.parameters(), fused=device == "cuda")
    state = policy.initial_state(batch.lanes)
    for number in range(warm_up + measured):
        if number == warm_up:
            wait(device)
            began = time.perf_counter()
        with torch.autocast(device, torch.bfloat16):
            logits_TBA, _, after = model(batch, state)
        loss = F.cross_entropy(logits_TBA.flatten(0, 1).float(), batch.action_TB.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        state = tuple(part.detach() for part in after)
    wait(device)
    return (time.perf_counter() - began) / measured


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def attempt(policy: Policy, model: Any, screens: Screens, lanes: int, at: Search) -> float | None:
    """Frames per second with so many lanes; None where memory does not suffice."""
    try:
        batch = screens(at.steps, lanes, at.device)
        return at.steps * lanes / step_seconds(policy, model, batch, at.measured)
    except torch.OutOfMemoryError:
        return None
    finally:
        policy.zero_grad()
        gc.collect()
        if at.device == "cuda":
            torch.cuda.empty_cache()


def best_lanes(policy: Policy, screens: Screens, at: Search) -> tuple[int, float]:
    """Lanes in powers of two until memory, time or the gain (3 %) ends; their frames/s."""
    until, best, lanes = time.monotonic() + at.seconds, (0, 0.0), at.least_lanes
    while lanes <= at.most_lanes and time.monotonic() < until:
        speed = attempt(policy, policy, screens, lanes, at)
        if speed is None or (speed < 1.03 * best[1] and lanes > 64):
            break
        best = max(best, (lanes, speed), key=lambda found: found[1])
        lanes *= 2
    return best


def utilisation(params: float, core: str, screens: Screens, at: Search) -> dict[str, Any]:
    """What a policy of ``params`` parameters reaches, as it is and compiled."""
    began = time.monotonic()
    torch.manual_seed(0)
    policy = sized_policy(params, core)
    per_frame = hardware_flops(policy, at.steps, lanes=1) / at.steps
    policy = policy.to(at.device).train()
    lanes, eager = best_lanes(policy, screens, at)
    if not lanes:
        return {"params": policy.num_params, "core": core, "lanes": 0}
    compiled = None
    if time.monotonic() - began < at.seconds:
        compiled = attempt(policy, torch.compile(policy), screens, lanes, at)
        torch.compiler.reset()
    speed = max(eager, compiled or 0.0)
    return {
        "params": policy.num_params,
        "core": core,
        "lanes": lanes,
        "steps": at.steps,
        "flops_per_frame": per_frame,
        "frames_per_second": round(eager, 1),
        "frames_per_second_compiled": compiled and round(compiled, 1),
        "mfu": round(speed * per_frame / at.peak, 4),
    }
