"""Learning-rate schedules as functions of the frames or FLOPs trained, never of steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent_scaling.policies.flops import BUDGETS, Convention
from agent_scaling.runtime.errors import InputError

DECAYS: dict[str, Callable[[float, float], float]] = {
    "constant": lambda x, final: 1.0,
    "cosine": lambda x, final: final + (1 - final) * (1 + math.cos(math.pi * x)) / 2,
    "linear": lambda x, final: 1 - (1 - final) * x,
    "sqrt": lambda x, final: 1 - (1 - final) * math.sqrt(x),
}
"""(share of the way from warm-up to horizon, final fraction) → fraction of the rate."""

UNITS = ("flops", "frames")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The fraction of the learning rate at each point of training.

    The fraction rises linearly from 0 over ``warmup``, stays at 1 for ``hold`` of the way to the
    horizon, follows ``decay`` down to ``final`` at the horizon, and stays there. A step uses the
    rate of its last frame, so the rate at a frame does not depend on batch size, accumulation,
    ranks, or where a run was interrupted.

    Args:
        decay: ``constant``, ``cosine`` (arXiv 1608.03983, eq. 5, without restarts), ``linear``, or
            ``sqrt`` (1 − √ of the way: arXiv 2405.18392, §3).
        warmup: Length of the rise, in ``unit``.
        horizon: The point that ``final`` is reached at, in ``unit``; ``None``: at ``budget`` (in
            FLOPs only).
        hold: Share of the way from warm-up to horizon at the full rate.
        final: Fraction of the rate at the horizon and after it.
        unit: ``flops`` (training FLOPs of all ranks, in ``convention``) or ``frames``.
        budget: The run's FLOPs, in ``convention``.
        convention: The FLOPs convention: ``model``, ``paper``, ``paper_atari`` or ``6nd``.
        branches: Each milestone is the end of a branch, which leaves the run where a run of that
            budget alone would begin to decay.
    """

    decay: str = "constant"
    warmup: float = 0.0
    horizon: float | None = None
    hold: float = 0.0
    final: float = 0.0
    unit: str = "flops"
    budget: float | None = None
    convention: Convention = "model"
    branches: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: A value is unknown or out of its range, or a decay has no end.
        """
        for key, known in (("decay", DECAYS), ("unit", UNITS), ("convention", BUDGETS)):
            value = getattr(self, key)
            if value not in known:
                raise InputError(f"schedule.{key}={value!r}: use one of {', '.join(known)}")
        if self.warmup < 0 or not 0 <= self.final <= 1:
            raise InputError(
                f"schedule.warmup={self.warmup:g}, schedule.final={self.final:g}: the warm-up must "
                "be at least 0, and final a fraction from 0 to 1"
            )
        if not 0 <= self.hold < 1:
            raise InputError(f"schedule.hold={self.hold:g}: must be at least 0 and below 1")
        if self.branches and not (self.decays and self.hold and self.follows_budget):
            raise InputError(
                "schedule.branches=true: a branch leaves a rate that is held, and ends at its own "
                "budget: give schedule=cooldown, schedule.hold above 0, schedule.horizon=null and "
                "schedule.unit=flops"
            )
        if self.decays and self.end == math.inf:
            raise InputError(
                f"schedule={self.decay} has no end: set schedule.horizon, in {self.unit}"
            )
        if self.end <= self.warmup:
            raise InputError(
                f"schedule.warmup={self.warmup:g} is not shorter than the horizon, {self.end:g} "
                f"{self.unit}: set schedule.warmup or schedule.horizon"
            )

    @property
    def decays(self) -> bool:
        """True where the rate depends on the run's planned length."""
        return self.decay != "constant"

    @property
    def follows_budget(self) -> bool:
        """True where the horizon is the run's budget."""
        return self.horizon is None and self.unit == "flops"

    @property
    def end(self) -> float:
        """The horizon in ``unit``; infinite where there is none."""
        horizon = self.budget if self.follows_budget else self.horizon
        return math.inf if horizon is None or not self.decays else horizon

    def __call__(self, frames: int, spent: Mapping[Convention, float]) -> float:
        """The fraction after ``frames`` of all ranks, which have cost ``spent`` FLOPs."""
        done = spent[self.convention] if self.unit == "flops" else float(frames)
        rise = min(1.0, done / self.warmup) if self.warmup else 1.0
        return rise * DECAYS[self.decay](min(1.0, max(0.0, self.fallen(done))), self.final)

    def fallen(self, done: float) -> float:
        """The share of the decay that lies behind ``done``; at most 0 before the rate falls."""
        if not self.decays:
            return 0.0
        way = (done - self.warmup) / (self.end - self.warmup)
        return (way - self.hold) / (1 - self.hold)


def change(
    before: Schedule, after: Schedule, frames: int, spent: Mapping[Convention, float]
) -> str | None:
    """Describe in one line how the rate changes in a run resumed at ``frames`` with a new schedule.

    ``None`` where the schedules agree; constant schedules agree whatever the budget, and so do a
    run and its branch until the branch's rate falls.
    """
    old, new = (
        (s.decay, s.warmup, s.unit, s.end, *((s.hold, s.final) if s.decays else ()))
        for s in (before, after)
    )
    rates = [s(frames, spent) for s in (before, after)]
    if old == new or (before.branches and not after.branches and rates[0] == rates[1]):
        return None
    line = (
        f"another learning-rate schedule than before: at {frames:,} frames the rate was "
        f"{rates[0]:.3g} of optimizer.lr and is {rates[1]:.3g} now"
    )
    if before.decays and before.end != after.end:
        moved = f"its end moved from {before.end:.6g} {before.unit} to {after.end:.6g} {after.unit}"
        return f"{line}; {moved}; schedule.horizon={before.end:.6g} would keep it"
    return line
