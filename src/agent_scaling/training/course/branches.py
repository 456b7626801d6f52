"""Branches of a run: at each milestone, one cools down as a run of that budget alone would."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from omegaconf import DictConfig, OmegaConf

from agent_scaling.policies.checkpoints.files import resume_path
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.formats import compact
from agent_scaling.tracking.milestones import BRANCHES, is_at, is_saved, milestones
from agent_scaling.tracking.store import RUN_ID_FILE
from agent_scaling.training.hooks import RunCallback, Stage, checkpoint_folder, run_module
from agent_scaling.training.modules.base import PolicyModule

NEEDED = ("flops", "tracking", "checkpoints")
"""Callbacks without which a branch has no end, no record or no checkpoint."""


@dataclass(frozen=True)
class Branch:
    """A branch of the run in ``trunk``, which ends at ``budget``."""

    budget: float
    """FLOPs, in the convention of the run's budget."""
    trunk: Path
    """The run's output folder."""

    @property
    def name(self) -> str:
        """The budget as one types it: ``3e12``."""
        return compact(self.budget)

    @property
    def output(self) -> Path:
        """The branch's own output folder, which is that of a run."""
        return self.trunk / BRANCHES / self.name

    @property
    def point(self) -> Path:
        """The run's checkpoint at which the branch leaves it."""
        return self.trunk / "checkpoints" / point_name(self.budget)

    @property
    def done(self) -> bool:
        """True where the branch has reached its end and saved it."""
        return any(is_at(r, self.budget) and is_saved(r) for r in milestones(self.output))

    def config(self, cfg: DictConfig) -> DictConfig:
        """The branch's config: the run's, with its own budget, folder and record."""
        own = copy.deepcopy(cfg)
        begun = resume_path(self.output / "checkpoints")
        settings = {
            "flops_budget": self.budget,
            "milestones": [],
            "callbacks.flops.budget": self.budget,
            "callbacks.flops.milestones": [],
            "schedule.budget": self.budget,
            "schedule.branches": False,
            "ckpt_path": str(self.point) if begun is None else "last",
            "output": str(self.output),
            "tags.budget": self.name,
            "tags.branch_of": self.trunk_id,
        }
        for key in ("tags.cell", "logger.run_name"):
            if given := OmegaConf.select(cfg, key):
                settings[key] = f"{given} {self.name}"
        for key, value in settings.items():
            OmegaConf.update(own, key, value, force_add=True)
        return own

    @property
    def trunk_id(self) -> str:
        """The id of the run's MLflow run; its folder while the store has not answered."""
        remembered = self.trunk / RUN_ID_FILE
        return remembered.read_text().strip() if remembered.exists() else str(self.trunk)


def point_name(budget: float) -> str:
    """File name of the checkpoint at which a budget's decay begins: ``branch_3e+12.ckpt``."""
    return f"branch_{budget:.4g}.ckpt"


def branches_of(cfg: DictConfig) -> list[Branch]:
    """The branches that a config asks for, by budget; none without milestones.

    Raises:
        InputError: Two have one name, or a callback is missing that they need.
    """
    if not cfg.schedule.get("branches", False):
        return []
    budgets = sorted({float(b) for b in OmegaConf.select(cfg, "callbacks.flops.milestones") or []})
    found = [Branch(b, Path(cfg.output).resolve()) for b in budgets if b < cfg.flops_budget]
    if len({branch.name for branch in found}) < len(found):
        raise InputError(f"milestones={budgets}: give ones that differ in four digits")
    lacking = [name for name in NEEDED if not cfg.callbacks.get(name)] if found else []
    if lacking:
        raise InputError(
            f"callbacks.{lacking[0]}=null: branches need it; keep it, or set schedule.branches="
            "false, which measures milestones on the way"
        )
    return found


class BranchPoints(RunCallback):
    """Saves a checkpoint at the last step before each branch's rate falls.

    Up to there, the run's steps are those of a run of the branch's budget alone. The run's own
    decay has such a checkpoint, too, from which it can be trained further.

    Args:
        branches: The run's branches.
        budget: The run's own budget, FLOPs.
    """

    stage = Stage.SAVE

    def __init__(self, branches: Sequence[Branch], budget: float) -> None:
        self.branches = {branch.budget: branch for branch in branches}
        self.budgets = (*self.branches, budget)
        self._before = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse branches that left the run before the place where it goes on.

        Raises:
            InputError: There is such a branch, without its checkpoint.
        """
        module = run_module(pl_module)
        self._before = spent(module)
        for budget in self.budgets:
            if replace(module.schedule, budget=budget).fallen(self._before) > 0:
                self._check(budget)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Save where the next step would be one of the falling rate.

        Raises:
            InputError: A branch's rate has fallen within one step, before it could be saved.
        """
        module = run_module(pl_module)
        if not module.step_frames:
            return  # gradients still accumulate
        before, now = self._before, spent(module)
        self._before = now
        # A little more than the step before: a branch that leaves a step early has the same bits.
        ahead = now + 1.001 * (now - before)
        for budget in self.budgets:
            fallen = replace(module.schedule, budget=budget).fallen
            if fallen(now) <= 0 < fallen(ahead):
                trainer.save_checkpoint(checkpoint_folder(trainer) / point_name(budget))
            elif fallen(before) <= 0 < fallen(now):
                self._check(budget)

    def _check(self, budget: float) -> None:
        branch = self.branches.get(budget)
        if branch is not None and not branch.point.exists() and not branch.done:
            raise InputError(
                f"milestones: {branch.name} FLOPs cool down from an earlier step than the run is "
                f"at, and there is no {branch.point}: leave it out, or begin a new run with it, "
                "with smaller batches where it is but a few steps long"
            )


def spent(module: PolicyModule) -> float:
    """FLOPs so far, in the schedule's convention."""
    return float(module.spent[module.schedule.convention])
