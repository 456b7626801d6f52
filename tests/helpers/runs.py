"""Runs of ``train`` for tests: in this process, or in a child that can be killed."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker, spawn
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig

from agent_scaling.config.call import call_verb
from agent_scaling.config.compose import hydra
from agent_scaling.policies.checkpoints.files import read_checkpoint
from tests.helpers.forked import FOLDER, PYTHON
from tests.helpers.stores import new_store

SMALL = [
    "experiment=nethack_bc_paper",
    "policy.encoder.width=16",
    "policy.encoder.message_width=8",
    "policy.encoder.status_width=16",
    "policy.encoder.map_width=16",
    "policy.encoder.embedding=4",  # of 16, it would take half of a step's time
    "policy.encoder.blocks=2",
    "policy.encoder.residual_blocks=1",
    "data.lanes=4",
    "data.unroll_length=16",
    "data.val_lanes=4",
    "data.val_frames=128",
    "callbacks.rollouts=null",
    "callbacks.progress=null",
    "callbacks.model=null",
]
"""A run that is over in seconds."""
STEP_FRAMES = 4 * 16
"""Of each of its steps."""
UNCOMPARED = ["callbacks.baselines=null", "callbacks.reference_players=null"]
"""Settings of a run whose numbers are compared with no guesses' and no players'."""


def composed(verb: str, overrides: list[str]) -> DictConfig:
    """The config that the command line would make."""
    with hydra():
        return compose(verb, overrides)


def overrides(shards: Path, output: Path, *more: str) -> list[str]:
    """A small run on ``shards`` into ``output``, its MLflow store beside; ``more`` wins.

    Another ``experiment=`` says its own widths.
    """
    another = any(setting.startswith("experiment=") for setting in more)
    own = ("experiment=", "policy.") if another else ()
    return [
        *(setting for setting in SMALL if not setting.startswith(own)),
        f"data.shards={shards}",
        f"output={output}",
        f"logger.tracking_uri={new_store(output.parent / 'mlflow.db')}",
        f"logger.artifact_location={output.parent}/artifacts",
        *more,
    ]


def train(shards: Path, output: Path, *more: str) -> None:
    """Train in this process; raises what the verb raises."""
    call_verb(composed("train", overrides(shards, output, *more)))


def train_in_parts(shards: Path, folder: Path, *more: str) -> tuple[Path, Path]:
    """The last checkpoints of a run of five steps, and of one that goes on from its third."""
    steps = ["trainer.max_steps=5", f"callbacks.checkpoints.every_frames={3 * STEP_FRAMES}"]
    train(shards, folder / "whole", *more, *steps)
    third = folder / "whole" / "checkpoints" / "previous.ckpt"
    assert read_checkpoint(third)["frames"] == 3 * STEP_FRAMES
    train(shards, folder / "parts", *more, *steps, f"ckpt_path={third}")
    whole, parts = (folder / name / "checkpoints" / "last.ckpt" for name in ("whole", "parts"))
    return whole, parts


def child(shards: Path, output: Path, *more: str) -> BaseProcess:
    """Start training in a process of its own."""
    return forked(train, shards, output, *more)


def forked(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Start a process, forked from one that has imported everything."""
    process = fork_server("tests.helpers.imported", "tests.helpers.runs").Process(
        target=target, args=arguments
    )
    process.start()
    return process


def fork_server(*preloaded: str) -> ForkServerContext:
    """The processes that are forked from this process's fork server: the first call starts it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preloaded))
    if folder := os.environ.get(FOLDER):
        resource_tracker.ensure_running()  # by a Python of its own
        usual = spawn.get_executable()
        spawn.set_executable(Path(folder) / PYTHON)
        try:
            forkserver.ensure_running()
        finally:
            spawn.set_executable(usual)
    return context
