"""Finds the checkpoint that a run resumes from, checks that it fits, and compares the ranks."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, LightningDataModule, LightningModule, Trainer
from omegaconf import DictConfig

from agent_scaling.policies.checkpoints.files import LAST, read_checkpoint, resume_path
from agent_scaling.policies.checkpoints.load import check_weights, policy_weights, refuse_nan
from agent_scaling.runtime.errors import InputError, reading
from agent_scaling.runtime.files import PARTIAL, disk_errors
from agent_scaling.runtime.ranks import gathered
from agent_scaling.runtime.terminal import is_first, say
from agent_scaling.training.course.saved import (
    check_counts,
    check_generators,
    check_lanes,
    check_states,
    is_count,
)
from agent_scaling.training.modules.base import PolicyModule
from agent_scaling.training.optim.schedules import Schedule, change

Start = tuple[int, int]
"""Frames and optimiser steps of the run before the resume."""
NEEDED = ("state_dict", "optimizer_states", "loops", "callbacks", "frames", "global_step", "epoch")
"""Keys of a checkpoint without which a run would go on from another place than it was at."""
COUNTED = ("frames", "global_step", "epoch")
BEGINNING: Start = (0, 0)
LANES = {"lane_state", "demo_state"}
"""States of lanes: of the run's windows, and of IMPALA's demonstrations."""
NAMED = 4
"""Most ranks that an error line names."""


def find_resume(cfg: DictConfig, folder: Path) -> Path | None:
    """Find the checkpoint that ``ckpt_path`` names: null for a new run, ``last``, or a file.

    The first rank, which holds the run's lock, removes partial files of a save that was killed.

    Raises:
        InputError: ``ckpt_path`` is null and the folder holds a run, or the file cannot be read.
    """
    if is_first():
        clean(folder.parent)
    if cfg.ckpt_path is None:
        if any(folder.glob("*.ckpt")):
            raise InputError(
                f"{folder.parent} holds a run: continue it with ckpt_path=last, "
                "or give another output="
            )
        return None
    if cfg.ckpt_path != "last":
        read_checkpoint(cfg.ckpt_path)
        return Path(cfg.ckpt_path)
    found = resume_path(folder)
    if found is None:
        say(f"no checkpoint in {folder} yet: starting a new run")
    elif found.name != LAST:
        say(f"{LAST} is missing, torn or damaged: resuming from {found}")
    return found


def clean(output: Path) -> None:
    """Remove the parts of files and folders that a killed process has left in an output folder."""
    with disk_errors(output):
        for part in [*output.rglob(f".*{PARTIAL}")]:
            if part.name.startswith(".mlflow.db."):  # another process may be making the store
                continue
            shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)


def check_fits(
    module: PolicyModule, data: LightningDataModule, callbacks: Sequence[Callback], path: Path
) -> Start:
    """Check that a checkpoint fits the run; return the point that the run resumes at.

    The data and the callbacks take their states once beforehand, so that a run that cannot go on
    has written and recorded nothing yet.

    A line on the terminal says how the learning rate changes, if the schedule has changed.

    Raises:
        InputError: The checkpoint's policy has other shapes, or its optimiser other groups.
    """
    saved = read_checkpoint(path)
    with reading(path, "go on from an earlier one with ckpt_path="):
        if lacking := [key for key in NEEDED if key not in saved]:
            raise InputError(f"{path}: has no {', '.join(lacking)}: a run cannot go on from it")
        check_weights(module.policy, policy_weights(saved), path)
        module.make_optimizer.check_saved(module.policy, saved["optimizer_states"][0], path)
        frames, steps, _ = (is_count(saved[name], name) for name in COUNTED)
        check_states(saved["loops"], "loops")
        check_counts(saved["loops"], "loops")
        check_states(saved["callbacks"], "callbacks")
        if "rng" in saved:
            check_generators(saved["rng"])
        refuse_nan(saved.get("current_model_state"), "current_model_state")  # EMA's
        place: Any = {}
        if data.state_dict():
            name = type(data).__qualname__
            place = saved.get(name)
            check_states({name: place}, "data")
            data.load_state_dict(place)
        for name in LANES & saved.keys():
            if saved[name] is not None:
                check_lanes(saved[name], module.policy, place.get("lanes"), name)
        for callback in callbacks:
            if (state := saved["callbacks"].get(callback.state_key)) is not None:
                callback.load_state_dict(state)
        if "schedule" in saved:
            spent = {name: frames * cost for name, cost in module.costs_per_frame.items()}
            if line := change(Schedule(**saved["schedule"]), module.schedule, frames, spent):
                say(line)
    return frames, steps


class OneStart(Callback):
    """Stops all ranks, before any loads its checkpoint, where they have found different ones.

    Ranks differ where ``output=`` is not a folder that they share, or where one cannot read the
    last checkpoint. Without this check each would silently train at its own place in the data.

    Args:
        start: The point that this rank would resume at.
        output: The run's folder.
    """

    def __init__(self, start: Start, output: Path) -> None:
        self.start, self.output = start, output
        self.restored = False
        """True after the first step: all of the checkpoint has been taken."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: object, **__: object
    ) -> None:
        """Note that the checkpoint has been taken, the optimiser's state last."""
        self.restored = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare the ranks' starts as soon as they are connected.

        Raises:
            InputError: On every rank, where the starts differ.
        """
        starts = gathered(self.start)
        if any(start != starts[0] for start in starts):
            found = "; ".join(
                f"{ranks_of(starts, start)} at frame {start[0]:,}" for start in sorted({*starts})
            )
            raise InputError(
                f"{self.output}: ranks would resume from different checkpoints ({found}): output= "
                f"must be a folder that all ranks see, and each must be able to read its {LAST}"
            )


def ranks_of(starts: list[Start], start: Start) -> str:
    """Name the ranks with that start, such as ``ranks 0, 2, 3, 5 and 12 more``."""
    ranks = [str(rank) for rank, own in enumerate(starts) if own == start]
    more = f" and {len(ranks) - NAMED} more" if len(ranks) > NAMED else ""
    return f"rank{'s'[: len(ranks) > 1]} {', '.join(ranks[:NAMED])}{more}"
