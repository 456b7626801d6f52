"""The parts of ``accelerator.py``: each yields rows, the dearest to lose first."""

from __future__ import annotations

import contextlib
import copy
import io
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
import torch
from accelerator_runs import measured_run
from made_games import MadeGames, Repeated, made_unroll
from policy import compare, pair, screens
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from utilisation import Search, attempt, best_lanes, step_seconds

from agent_scaling.data.batch import Batch, blank_batch
from agent_scaling.data.conversion.shard import shard
from agent_scaling.policies.compose import make_policy
from agent_scaling.policies.counting.memory import drop_gradient, learn, step_memory
from agent_scaling.policies.executed_flops import hardware_flops
from agent_scaling.policies.policy import Policy
from agent_scaling.training.device.peaks import find_peak
from agent_scaling.training.modules.bc import BehaviouralCloning
from agent_scaling.training.modules.impala import Impala
from agent_scaling.training.optim.optimizer import OptimizerFactory
from data_modules.shards import ShardsDataModule

Row = dict[str, Any]
DRAWN = 16
"""Lanes of random screens; more lanes repeat them."""
GOALS = {"step": (3, 6), "mfu": (0.4, 0.5)}
"""Bar and goal: times the published network's step, and utilisation at the largest size."""


@dataclass
class Setting:
    """Where to measure, and how large the cases are."""

    device: str
    peak: float | None
    """FLOP/s at best in bf16; None: unknown."""
    steps: int = 80
    lanes: int = 32
    sizes: tuple[float, ...] = (1e6, 10e6, 50e6, 200e6)
    cores: tuple[str, ...] = ("lstm", "transformer")
    small: float = 1e6
    """Parameters where the size does not matter."""
    medium: float = 10e6
    """Parameters of the policies whose memory is measured."""
    published: tuple[int, float] = (512, 1.0)
    """Width and scale of the published network."""
    rounds: int = 5
    backend: str = "inductor"
    most_lanes: int = 2048
    first_lanes: int = 8
    search_seconds: float = 14
    games: tuple[int, int] = (64, 4096)
    """Made games, and frames of each."""
    processes: int | None = None
    run_steps: int = 60
    measured: int = 5
    """Steps that are timed together."""
    lanes_of: dict[tuple[float, str], int] = field(default_factory=dict)
    """The best lanes that were found, by size and core."""
    flops_of: dict[tuple[float, str], float] = field(default_factory=dict)
    """FLOPs that a frame executes, likewise."""

    @staticmethod
    def of_device() -> Setting:
        """The whole, on the GPU that is there, or on the CPU."""
        if not torch.cuda.is_available():
            return Setting("cpu", None)
        return Setting("cuda", find_peak(torch.cuda.get_device_name()))

    @staticmethod
    def tiny() -> Setting:
        """The same parts in seconds, on the CPU."""
        return Setting(
            "cpu", 1e11, 2, 2, (2e4,), small=2e4, medium=2e4, published=(32, 0.25), rounds=1,
            backend="eager", most_lanes=2, first_lanes=2, search_seconds=1, games=(4, 64),
            processes=1, run_steps=4, measured=1,
        )  # fmt: skip

    @property
    def autocast(self) -> str:
        """Lightning's name of the precision in which runs are measured."""
        return "bf16-mixed" if self.device == "cuda" else "32-true"

    def search(self) -> Search:
        """The search for the best number of lanes."""
        times = (self.search_seconds, self.first_lanes, self.measured)
        return Search(self.device, self.steps, self.peak or 1.0, self.most_lanes, *times)


def facts(at: Setting) -> Row:
    """The machine and its programs."""
    name = torch.cuda.get_device_name() if at.device == "cuda" else platform.processor() or "cpu"
    return {
        "device": name,
        "peak_flops": at.peak,
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "python": platform.python_version(),
        "steps": at.steps,
    }


def tidy() -> None:
    """Forget what the last part has compiled and cached."""
    if "torch._dynamo" in sys.modules:  # else that imports it
        torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def made(at: Setting, *options: str, params: float | None = None, core: str = "lstm") -> Policy:
    """A policy with fresh weights, the same each time."""
    torch.manual_seed(0)
    sized = f"policy.params={params or at.small:.0f}"
    return make_policy(sized, f"policy/core={core}", *options)


def windows(steps: int, lanes: int, device: str) -> Batch:
    """As :func:`screens`, whose :data:`DRAWN` first lanes are repeated: many take long to draw."""
    drawn = screens(steps, min(lanes, DRAWN), device)
    lane = torch.arange(lanes, device=device) % drawn.lanes
    return drawn._map(lambda part: part.index_select(1, lane))


def agreement(at: Setting) -> Iterator[Row]:
    """Errors of logits and gradients in float32, on the CPU and on the device, against float64."""
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        for name in ("compact", "resnet_lstm"):
            for core in at.cores:
                policy = made(at, f"policy={name}", core=core)
                batch = screens(min(16, at.steps), 4, "cpu")
                exact = learnt(copy.deepcopy(policy).double(), batch)
                on_cpu = errors(learnt(copy.deepcopy(policy), batch), exact, "cpu")
                there = learnt(policy.to(at.device), batch.to(at.device))
                yield {"case": f"{name} {core}", **on_cpu, **errors(there, exact, "device")}
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32


def learnt(policy: Policy, batch: Batch) -> tuple[Tensor, Tensor]:
    """All logits and all gradients, in float64 on the CPU."""
    logits_TBA, _, _ = policy.train()(batch, policy.initial_state(batch.lanes))
    F.cross_entropy(logits_TBA.flatten(0, 1), batch.action_TB.flatten()).backward()
    gradients = [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
    return logits_TBA.detach().cpu().double(), torch.cat(gradients).cpu().double()


def errors(found: tuple[Tensor, Tensor], exact: tuple[Tensor, Tensor], where: str) -> Row:
    """The largest error of the logits and of the gradients, relative to the largest of them."""
    names, pairs = ("logits", "gradients"), zip(found, exact, strict=True)
    shares = [float((a - b).abs().max() / b.abs().max()) for a, b in pairs]
    return {f"{name}_{where}": float(f"{s:.3g}") for name, s in zip(names, shares, strict=True)}


def step(at: Setting) -> Iterator[Row]:
    """Times as fast as the published network, forward and backward, same weights."""
    yield from steps_against_published(at, compiles=False)


def step_compiled(at: Setting) -> Iterator[Row]:
    """The same, with our policy compiled."""
    yield from steps_against_published(at, compiles=True)


def steps_against_published(at: Setting, compiles: bool) -> Iterator[Row]:
    """Float32, then bf16 on both sides."""
    peer, ours = pair(*at.published, at.device)
    batch, state = windows(at.steps, at.lanes, at.device), ours.initial_state(at.lanes)
    model = compiled(ours, at.backend) if compiles else ours
    for bf16 in (False, True):
        models = {"published": peer.train(), "ours": model.train()}
        times = compare(models, batch, state, at.rounds, bf16)["ours"]
        precision = "bf16" if bf16 else "float32"
        yield {"case": f"{precision}, {'compiled' if compiles else 'eager'}", "times": times}


def compiled(policy: Policy, backend: str) -> Policy:
    """The policy with its parts compiled, as ``trainer.compile`` does."""
    module = BehaviouralCloning(policy, OptimizerFactory(torch.optim.Adam, 1e-3))
    module.compile_parts(backend)
    return policy


def mfu(at: Setting) -> Iterator[Row]:
    """Training steps in bf16 with Adam: frames/s and utilisation at the best lanes, eager."""
    for params in reversed(at.sizes):
        for core in at.cores:
            policy = made(at, params=params, core=core)
            on_device = copy.deepcopy(policy).to(at.device).train()
            lanes, speed = best_lanes(on_device, windows, at.search())
            at.lanes_of[params, core] = lanes
            at.flops_of[params, core] = hardware_flops(policy, at.steps, lanes=1) / at.steps
            yield utilisation_row(at, policy, (params, core), speed)


def mfu_compiled(at: Setting) -> Iterator[Row]:
    """The same, compiled, at the lanes that were found: the largest size first."""
    for (params, core), lanes in at.lanes_of.items():
        policy = made(at, params=params, core=core)
        on_device = compiled(copy.deepcopy(policy).to(at.device).train(), at.backend)
        speed = attempt(on_device, on_device, windows, lanes, at.search()) if lanes else None
        torch.compiler.reset()
        yield utilisation_row(at, policy, (params, core), speed or 0.0)


def utilisation_row(at: Setting, policy: Policy, key: tuple[float, str], speed: float) -> Row:
    """A policy's frames per second, and the share of the device's peak."""
    per_frame = at.flops_of[key]
    return {
        "case": f"{policy.num_params:,} {key[1]}",
        "params": policy.num_params,
        "lanes": at.lanes_of[key],
        "frames_per_second": round(speed, 1),
        "flops_per_frame": round(per_frame),
        "mfu": at.peak and float(f"{speed * per_frame / at.peak:.4g}"),
    }


def loader(at: Setting) -> Iterator[Row]:
    """Frames/s of a Lightning run on shards, and on one batch again and again, without waiting."""
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder, "shards"))
        began = time.monotonic()
        source = MadeGames(*at.games)
        with contextlib.redirect_stderr(io.StringIO()):  # a table for people
            shard(input=folder, output=output, source=source, processes=at.processes, level=3)
        yield {"case": "conversion", "seconds": round(time.monotonic() - began, 2)}
        for options in (["policy=compact"], ["policy=resnet_lstm"]):
            data = ShardsDataModule(output, at.lanes, at.steps, workers=4, val_lanes=1)
            given = next(iter(data.train_dataloader()))
            speeds, waited = {}, 0.0
            for kind, batches in {"batch": Repeated([given]), "shards": data}.items():
                module = BehaviouralCloning(
                    made(at, *options), OptimizerFactory(torch.optim.Adam, 1e-3)
                )
                speeds[kind], waited = measured_run(module, batches, at)
            yield {
                "case": f"{options[0]}, 4 threads",
                "frames_per_second": round(speeds["shards"], 1),
                "of_one_batch": round(speeds["batch"], 1),
                "share_lost": round(max(0.0, 1 - speeds["shards"] / speeds["batch"]), 4),
                "share_host_waits": round(waited, 4),
            }


def learner(at: Setting) -> Iterator[Row]:
    """Frames/s of IMPALA's learner alone, on unrolls that wait for it."""
    for options in (["policy=compact"], ["policy=resnet_lstm"]):
        policy = made(at, *options, "+policy.baseline=true")
        unrolls = [made_unroll(policy, at.steps, at.lanes, seed) for seed in range(2)]
        module = Impala(policy, OptimizerFactory(torch.optim.Adam, 1e-4))
        speed, _ = measured_run(module, Repeated(unrolls), at)
        yield {"case": options[0], "frames_per_second": round(speed, 1)}


def memory(at: Setting) -> Iterator[Row]:
    """The peak of a float32 step without its gradients, against the computed one."""
    for name in ("compact", "resnet_lstm"):
        for core in at.cores:
            for again in ("false", "true"):
                options = [f"policy={name}", f"policy.encoder.checkpoint={again}"]
                policy = made(at, *options, core=core, params=at.medium)
                computed = step_memory(policy, at.steps).per_frame * at.steps * at.lanes
                peak = measured_peak(policy.to(at.device).train(), at)
                yield {
                    "case": f"{name} {core}, checkpoint={again}",
                    "computed_mb": round(computed / 1e6, 2),
                    "measured_mb": round(peak / 1e6, 2),
                    "times": round(peak / computed, 3),
                }


def measured_peak(policy: nn.Module, at: Setting) -> int:
    """Bytes that a step takes at its fullest, beside the weights; the batch counts."""
    assert isinstance(policy, Policy)
    for parameter in policy.parameters():
        parameter.register_post_accumulate_grad_hook(drop_gradient)
    if at.device == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        learn(policy, played(at))
        return int(torch.cuda.max_memory_allocated() - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        learn(policy, played(at))
    now = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


def played(at: Setting) -> Batch:
    """A window of NetHack's blank screens on the device."""
    batch = blank_batch(at.steps, at.lanes, at.device)
    batch.frame_TBHW = batch.inv_glyphs_TBI = None
    batch.openings = ()
    batch.action_TB.zero_()
    return batch


def kernels(at: Setting) -> Iterator[Row]:
    """The ten dearest kernels of the largest size's training steps in bf16, by core."""
    for core in at.cores:
        params = at.sizes[-1]
        policy = made(at, params=params, core=core).to(at.device).train()
        batch = windows(at.steps, at.lanes_of.get((params, core)) or at.lanes, at.device)
        kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (at.device == "cuda")
        step_seconds(policy, policy, batch, measured=1, warm_up=1)
        with profile(activities=kinds) as seen:
            step_seconds(policy, policy, batch, at.measured, warm_up=0)
        column = f"self_{'device' if at.device == 'cuda' else 'cpu'}_time_total"
        averages = [e for e in seen.key_averages() if not e.key.startswith("ProfilerStep")]
        if at.device == "cuda":  # operators repeat the time of the kernels that they start
            averages = [e for e in averages if e.device_type == torch.autograd.DeviceType.CUDA]
        total = sum(getattr(e, column) for e in averages)
        for event in sorted(averages, key=lambda e: -getattr(e, column))[:10]:
            yield {
                "case": f"{core}: {event.key[:80].replace('|', ' ')}",
                "share": round(getattr(event, column) / total, 4),
                "calls": event.count,
            }


def bars(found: dict[str, list[Row]]) -> Row:
    """The best of what has a bar, with bar and goal beside it."""
    steps = [row["times"] for part in ("step", "step_compiled") for row in found.get(part, ())]
    rows = [row for part in ("mfu", "mfu_compiled") for row in found.get(part, ())]
    largest = max((row["params"] for row in rows), default=0)
    shares = [row["mfu"] or 0.0 for row in rows if row["params"] > 0.9 * largest]
    reached: Row = {}
    for name, values in {"step": steps, "mfu": shares}.items():
        if values:
            bar, goal = GOALS[name]
            reached[name] = f"{max(values)} (bar {bar}, goal {goal})"
    return reached


PARTS: dict[str, tuple[Callable[[Setting], Iterator[Row]], float]] = {
    "agreement": (agreement, 60),
    "step": (step, 45),
    "mfu": (mfu, 140),
    "loader": (loader, 60),
    "learner": (learner, 40),
    "memory": (memory, 40),
    "kernels": (kernels, 40),
    "step_compiled": (step_compiled, 120),
    "mfu_compiled": (mfu_compiled, 300),
}
"""Name → part, and the most seconds that it may take. Compilation is last: it may take longest."""
