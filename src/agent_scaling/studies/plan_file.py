"""``plan.json``: the runs of a study, what they cost, and where they are recorded."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import (
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

from agent_scaling.config.check import first_fault
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.secrets import masked
from agent_scaling.scaling.runs.fit_file import check_row

if TYPE_CHECKING:  # workers of a sweep read plans and need no torch
    from agent_scaling.policies.flops import Convention

FILE = "plan.json"
FORMAT = "agent-scaling-plan"
VERSION = 1
Finite = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Plain = bool | int | float | str | None | list[bool | int | float | str | None]
STRICT = ConfigDict(strict=True, extra="forbid")
Setting = Annotated[str, Field(pattern=r"\A(optimizer\.lr|data\.lanes)\z")]

Bound = Annotated[str, Field(pattern=r"\A(expert|lowest|highest)_return\z")]

NAME = re.compile(r"(?!\.)[\w.+-]+")
"""Names of runs: their folders lie in the plan's, and nowhere else."""
LAUNCHER = re.compile(r"hydra/launcher|hydra\.launcher\.(?!_target_)\w[\w.]*")
"""Settings with which ``sweep`` launches: the choice of an installed launcher, and its values."""


@dataclass(frozen=True)
class Run:
    """One training run; its budgets are the cells of the grid that it serves."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    study: str
    """Its tag ``study``: that of the plan, and of its variant where there are any."""
    variant: str
    """The variant's name; empty in a plan without variants."""
    size: FiniteFloat
    """Parameters asked for, or the value of the key that makes the size."""
    params: PositiveInt
    """Parameters that it has."""
    seed: NonNegativeInt
    budgets: Annotated[tuple[Finite, ...], Field(min_length=1)]
    """FLOPs in the plan's convention, ascending; the last one ends the run."""
    cost: Finite
    """Training FLOPs per frame, the plan's convention."""
    model_cost: Finite
    """Training FLOPs per frame, ``model`` convention."""
    step_frames: PositiveInt
    """Frames of an optimiser step, of the first ones where they grow; of a run that plays,
    interactions with the game."""
    epoch_frames: NonNegativeInt
    """Frames of the training games that it uses; 0: it plays, and each frame is a new one."""
    branched: FiniteFloat = 0.0
    """Share of a budget below its last that a branch trains by itself; 0: it has no branches."""
    settings: dict[Setting, PositiveInt | Finite] = field(default_factory=dict)
    """Settings of ``train`` of this run alone, by a law of hyper-parameters."""

    def frames(self, budget: float) -> float:
        """Frames that a budget buys."""
        return budget / self.cost

    def flops(self, budget: float) -> float:
        """A budget in the ``model`` convention."""
        return self.frames(budget) * self.model_cost

    @property
    def trained(self) -> float:
        """FLOPs of all that it trains, branches included, in the plan's convention."""
        return self.budgets[-1] + self.branched * sum(self.budgets[:-1])

    def output(self, folder: Path) -> Path:
        """Its output folder in the plan's ``folder``."""
        return folder / "runs" / self.name


@dataclass(frozen=True)
class Store:
    """Where the runs are recorded."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    tracking_uri: str
    experiment_name: str
    artifact_location: str | None


@dataclass(frozen=True)
class Plan:
    """A plan as ``agent-scaling plan`` wrote it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    convention: Convention
    train: Mapping[str, Any]
    """Settings of ``train`` that all runs share."""
    variants: Mapping[str, Mapping[str, Any]]
    """Settings of each variant."""
    data: str
    """Fingerprint of the data."""
    store: Store
    runs: tuple[Run, ...]
    launcher: Mapping[str, Plain] = field(default_factory=dict)
    """Hydra's settings with which ``sweep`` launches."""
    speeds: tuple[tuple[Finite, Finite], ...] = ()
    """(parameters, FLOP/s of the ``model`` convention) as measured."""
    warnings: tuple[str, ...] = ()
    forecast: Mapping[str, Any] = field(default_factory=dict)
    """The fit's predictions for a compute-optimal run, with intervals."""
    returns: Mapping[Bound, FiniteFloat] = field(default_factory=dict)
    """Returns that fits of the runs are told of, those that are known."""

    @property
    def studies(self) -> list[str]:
        """Tags ``study`` of the runs, in order."""
        return list(dict.fromkeys(run.study for run in self.runs))

    def speed(self, params: float) -> float | None:
        """FLOP/s at a size: a line between measured sizes in logarithms, flat outside."""
        if not self.speeds:
            return None
        points = sorted(self.speeds)
        for (n0, s0), (n1, s1) in pairwise(points):
            if n0 <= params <= n1:
                share = math.log(params / n0) / math.log(n1 / n0)
                return float(s0 * (s1 / s0) ** share)
        return points[0][1] if params < points[0][0] else points[-1][1]

    def hours(self, run: Run, budget: float) -> float | None:
        """Hours until ``run`` has spent ``budget``, one process alone."""
        speed = self.speed(run.params)
        return None if speed is None else run.flops(budget) / speed / 3600

    def to_json(self) -> str:
        """Return the JSON text that :func:`load` reads."""
        return (
            json.dumps(masked({"format": FORMAT, "version": VERSION} | asdict(self)), indent=1)
            + "\n"
        )

    def differs(self, other: Plan) -> str | None:
        """The first field in which ``other`` trains something else; ``None``: it does not."""
        for name in ("name", "convention", "train", "variants", "data", "runs"):
            if _on_record(getattr(self, name)) != _on_record(getattr(other, name)):
                return name
        return None


def _on_record(value: object) -> Any:
    """A field of a plan as its file has it: a new password is no other plan."""
    return tuple(map(_on_record, value)) if isinstance(value, tuple) else masked(value)


def load(folder: Path) -> Plan:
    """The plan that a folder holds.

    Raises:
        InputError: None is there, or it cannot be read.
    """
    path = folder / FILE
    try:
        found = json.loads(path.read_text())
        if found.pop("format") != FORMAT or found.pop("version") != VERSION:
            raise ValueError("another format or version")
        plan = _adapter().validate_json(json.dumps(found))
        _check_names(plan)
        return plan
    except OSError as error:
        raise InputError(f"plan={folder}: no {FILE} there; make it with agent-scaling plan") from (
            error
        )
    except ValidationError as error:
        fault = first_fault(error)
        raise InputError(f"{path} is broken ({fault}): plan into another folder") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is broken ({error}): plan into another folder") from error


def _adapter() -> TypeAdapter[Plan]:
    adapter = TypeAdapter(Plan, config=None)
    adapter.rebuild(_types_namespace={"Convention": str})  # its own module imports torch
    return adapter


def _check_names(plan: Plan) -> None:
    """Raise ValueError for names that lead elsewhere, and for numbers that lack their fellows."""
    if odd := [run.name for run in plan.runs if not NAME.fullmatch(run.name)]:
        raise ValueError(f"a run is called {odd[0]!r}, which is no name of a folder")
    if odd := [key for key in plan.launcher if not LAUNCHER.fullmatch(key)]:
        raise ValueError(f"launcher: {odd[0]!r} is no setting of a launcher")
    if len({size for size, _ in plan.speeds}) < len(plan.speeds):
        raise ValueError("speeds: a size has two")
    check_row(plan.forecast)
