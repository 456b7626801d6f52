"""IMPALA against MonoBeast's layout: a process per environment, each with inference at batch 1.

    OMP_NUM_THREADS=1 python benchmarks/impala.py [--lanes 32] [--unroll 20] [--updates 5]

Both sides play NetHackScore with the network of ``experiment=nethack_impala`` and learn with the
same objective, optimiser and batch; the peer keeps TorchBeast's shared buffers and queues
(arXiv 1910.03552, §3.1). Frames learnt from per CPU-second of the whole process tree, after the
first two updates, in rounds that take turns. The last line is one JSON object: ``vs_monobeast``,
the median of the rounds' ratios, and ``wall``, the same per second of wall time.

Sample Factory is no second peer: its last release, 2.1.1, requires gymnasium < 1.0 and numpy < 2.0,
while nle 1.3.0 requires gymnasium == 1.2.0, and so no environment holds both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from typing import Any, NamedTuple

import lightning
import numpy as np
import psutil
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from torch import Tensor, multiprocessing
from torch.nn.utils import clip_grad_norm_

from agent_scaling.data.batch import Batch, Played
from agent_scaling.envs.actions import NO_ACTION
from agent_scaling.envs.tasks import make_environment
from agent_scaling.policies.policy import Policy
from agent_scaling.training.build import quiet
from agent_scaling.training.modules.impala import Impala, freeze_norms
from data_modules.actors import ActorsDataModule

TASK, WARM_UP = "NetHackScore-v0", 2
ACTORS = 4  # processes of the peer; more do not change what a step costs
CLIP = 40.0


class Rate(NamedTuple):
    """Frames learnt from, per second."""

    cpu: float
    wall: float


class Meter:
    """CPU seconds of this process and its living descendants, and wall time, since a moment."""

    def __init__(self) -> None:
        self.cpu, self.wall = self.now()

    def now(self) -> tuple[float, float]:
        me = psutil.Process()
        times = [p.cpu_times() for p in [me, *me.children(recursive=True)]]
        return sum(t.user + t.system for t in times), time.monotonic()

    def rate(self, frames: int) -> Rate:
        cpu, wall = self.now()
        return Rate(frames / (cpu - self.cpu), frames / (wall - self.wall))


def parts() -> tuple[Policy, Any]:
    """The experiment's policy and its optimiser's factory."""
    with initialize_config_module("conf", version_base=None):
        cfg = compose("train", ["experiment=nethack_impala", "flops_budget=1"])
    torch.manual_seed(0)
    return instantiate(cfg.policy), instantiate(cfg.optimizer)


class Timed(lightning.Callback):
    """Measures the updates after the warm-up."""

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if trainer.global_step == WARM_UP:
            self.meter, self.frames = Meter(), module.frames
        elif trainer.global_step == trainer.max_steps:
            self.rate = self.meter.rate(module.frames - self.frames)


def ours(lanes: int, unroll: int, updates: int) -> Rate:
    """The module and the data module, as ``agent-scaling train`` runs them."""
    policy, optimizer = parts()
    timed = Timed()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=WARM_UP + updates,
        gradient_clip_val=CLIP,
        callbacks=[timed],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = ActorsDataModule(
        "agent_scaling.envs.tasks:Task",
        {"task": TASK},
        lanes=lanes,
        unroll_length=unroll,
        groups=1,
    )
    trainer.fit(Impala(policy.train(), optimizer), data)
    return timed.rate


def shared_buffers(policy: Policy, steps: int, count: int) -> dict[str, Tensor]:
    """[count, T+1, …] in shared memory; ``h`` and ``c`` are the state at each unroll's start."""
    frames = (count, steps + 1)
    layers, _, width = policy.initial_state(1)[0].shape
    shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "chars": ((24, 80), torch.uint8),
        "colors": ((24, 80), torch.int8),
        "cursor": ((2,), torch.uint8),
        "prev_action": ((), torch.int64),
        "action": ((), torch.int64),
        "first": ((), torch.bool),
        "reward": ((), torch.float32),
        "logits": ((policy.num_actions,), torch.float32),
    }
    made = {k: torch.zeros(*frames, *s, dtype=d).share_memory_() for k, (s, d) in shapes.items()}
    made |= {k: torch.zeros(count, layers, width).share_memory_() for k in ("h", "c")}
    return made


def act(
    number: int, policy: Policy, buffers: dict[str, Tensor], steps: int, free: Any, full: Any
) -> None:
    """An actor process: its environment, the shared network, batch 1; ends at None."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    env = make_environment(TASK)
    env.seed(number, number)
    frame, _ = env.reset()
    generator = torch.Generator().manual_seed(number)
    state, previous, first, reward = policy.initial_state(1), 0, True, 0.0
    shown: dict[str, Tensor] = {}

    def look() -> None:
        shown["chars"] = torch.from_numpy(np.array(frame["tty_chars"]))
        shown["colors"] = torch.from_numpy(np.array(frame["tty_colors"]))
        shown["cursor"] = torch.from_numpy(np.array(frame["tty_cursor"]))

    look()
    while (index := free.get()) is not None:
        buffers["h"][index], buffers["c"][index] = state[0][:, 0], state[1][:, 0]
        for step in range(steps + 1):
            for name, value in shown.items():
                buffers[name][index, step] = value
            buffers["prev_action"][index, step] = previous
            buffers["first"][index, step] = first
            if step == steps:
                break
            batch = Batch(
                chars_TBHW=shown["chars"][None, None],
                colors_TBHW=shown["colors"][None, None],
                cursor_TB2=shown["cursor"][None, None],
                prev_action_TB=torch.tensor([[previous]]),
                action_TB=torch.tensor([[NO_ACTION]]),
                first_TB=torch.tensor([[first]]),
            )
            with torch.no_grad():
                logits, _, state = policy(batch, state)
            probabilities = logits[0, 0].softmax(-1)
            previous = int(torch.multinomial(probabilities, 1, generator=generator))
            frame, reward, first, _, _ = env.step(previous)
            buffers["action"][index, step] = previous
            buffers["logits"][index, step] = logits[0, 0]
            buffers["reward"][index, step] = reward
            if first:
                frame, _ = env.reset()
                previous = 0
            look()
        full.put(index)
    env.close()


def take_batch(buffers: dict[str, Tensor], lanes: int, free: Any, full: Any) -> Batch:
    """As many unrolls as there are lanes, stacked; their buffers are free again."""
    indices = [full.get() for _ in range(lanes)]
    stacked = {k: torch.stack([buffer[i] for i in indices], dim=1) for k, buffer in buffers.items()}
    for index in indices:
        free.put(index)
    stacked["action"][-1] = NO_ACTION
    return Batch(
        chars_TBHW=stacked["chars"],
        colors_TBHW=stacked["colors"],
        cursor_TB2=stacked["cursor"],
        prev_action_TB=stacked["prev_action"],
        action_TB=stacked["action"],
        first_TB=stacked["first"],
        reward_TB=stacked["reward"],
        behaviour_logits_TBA=stacked["logits"],
        played=Played((stacked["h"], stacked["c"]), 0, []),
    )


def monobeast(lanes: int, unroll: int, updates: int) -> Rate:
    """The peer: actors' processes, queues of buffers, and a learner in this process."""
    learner, factory = parts()
    module = Impala(learner.train(), factory)
    optimizer = factory(learner)
    actors_policy, _ = parts()
    actors_policy.eval().requires_grad_(False).share_memory()
    context = multiprocessing.get_context("spawn")
    free, full = context.SimpleQueue(), context.SimpleQueue()
    buffers = shared_buffers(actors_policy, unroll, 2 * lanes)
    processes = [
        context.Process(target=act, args=(n, actors_policy, buffers, unroll, free, full))
        for n in range(ACTORS)
    ]
    for process in processes:
        process.start()
    for index in range(2 * lanes):
        free.put(index)
    for update in range(WARM_UP + updates):
        if update == WARM_UP:
            meter = Meter()
        batch = take_batch(buffers, lanes, free, full)
        freeze_norms(learner)
        logits_TBA, values_TB, _ = learner(batch, batch.played.state)
        reward_TB = module.rewards(batch.reward_TB[:-1])
        losses = module.objective.losses(batch, reward_TB, logits_TBA, values_TB)
        optimizer.zero_grad()
        module.objective.total(losses, critic_only=False).backward()
        clip_grad_norm_(learner.parameters(), CLIP)
        optimizer.step()
        actors_policy.load_state_dict(learner.state_dict())
    rate = meter.rate(updates * lanes * unroll)
    for process in processes:
        process.kill()
        process.join()
    return rate


def main() -> None:
    """Print the rates and the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lanes", type=int, default=32)
    parser.add_argument("--unroll", type=int, default=20)
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    quiet()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    size = (args.lanes, args.unroll, args.updates)
    ratios: list[Rate] = []
    for _ in range(args.rounds):
        peer, own = monobeast(*size), ours(*size)
        ratios.append(Rate(own.cpu / peer.cpu, own.wall / peer.wall))
        for name, rate in (("ours", own), ("monobeast", peer)):
            print(
                f"{name:>9}: {rate.cpu:7,.0f} frames per CPU-second, {rate.wall:7,.0f} per second"
            )
    found = {
        "vs_monobeast": round(statistics.median(ratio.cpu for ratio in ratios), 2),
        "wall": round(statistics.median(ratio.wall for ratio in ratios), 2),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
