"""FLOPs: counts them, announces milestones, and stops the run at its budget."""

from __future__ import annotations

from collections.abc import Sequence

from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from agent_scaling.policies.flops import BUDGETS, Convention
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.course.stopping import preempted
from agent_scaling.training.hooks import HasBudget, run_callbacks, run_module
from agent_scaling.training.modules.base import PolicyModule


class FlopBudget(HasBudget):
    """Stops training at ``budget`` and announces each of ``milestones`` on the way.

    One run of a model serves all budgets below its own: at each milestone, ``on_milestone`` of
    every :class:`~agent_scaling.training.hooks.RunCallback` is called with the milestone's nominal
    FLOPs, in the trainer's order (evaluate, play, save), after ``before_milestone`` of all.
    The end of training is a milestone too. The module computes the FLOPs spent from frames and
    shapes, so there is nothing to restore. Budget and milestones are in ``convention``; logged
    metrics name their own.

    Args:
        budget: Training FLOPs, all ranks, forward and backward; ``None`` trains until something
            else stops it.
        milestones: FLOPs at which to evaluate, play and save; where the schedule branches, they
            are the budgets of its branches.
        convention: The convention of budget and milestones: ``model``, ``exact``, ``paper``,
            ``paper_atari`` or ``6nd``.
    """

    def __init__(
        self,
        budget: float | None,
        milestones: Sequence[float] = (),
        convention: Convention = "model",
    ) -> None:
        if budget is not None and budget <= 0:
            raise InputError(f"flops_budget={budget:g} must be positive")
        if convention not in BUDGETS:
            known = ", ".join(BUDGETS)
            raise InputError(f"callbacks.flops.convention={convention!r}: use one of {known}")
        self.budget, self.convention = budget, convention
        self.milestones = sorted(float(m) for m in milestones)
        self._announced: int | None = None
        self._before = 0.0

    def spent(self, module: PolicyModule) -> float:
        """Return the FLOPs so far, in the budget's convention."""
        return float(module.spent[self.convention])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop a run that resumes past its budget."""
        module = run_module(pl_module)
        self._before = self.spent(module)
        if self.budget is not None and self._before >= self.budget:
            trainer.should_stop = True
            self._announced = module.frames

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Announce the milestones that this step has crossed; stop at the budget."""
        module = run_module(pl_module)
        before, spent = self._before, self.spent(module)
        self._before = spent
        ways = [] if module.schedule.branches else self.milestones  # branches announce their ends
        crossed = [m for m in ways if before < m <= spent]
        if self.budget is not None and spent >= self.budget:
            trainer.should_stop = True
        elif crossed:
            self._announce(trainer, module, crossed[-1])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Announce the end as a milestone, unless the run was only interrupted."""
        if not preempted(trainer):
            module = run_module(pl_module)
            spent = self.spent(module)
            reached = self.budget is not None and spent >= self.budget
            self._announce(trainer, module, self.budget if self.budget and reached else spent)

    def _announce(self, trainer: Trainer, module: PolicyModule, flops: float) -> None:
        if self._announced == module.frames:
            return
        self._announced = module.frames
        callbacks = run_callbacks(trainer)
        for callback in callbacks:
            callback.before_milestone(trainer, module, flops)
        for callback in callbacks:
            callback.on_milestone(trainer, module, flops)
