"""The isoFLOP grid: sizes crossed with budgets, variants and seeds, as training runs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from agent_scaling.data.windows.growth import Growth
from agent_scaling.policies.flops import Convention
from agent_scaling.policies.sizes import on_meta, take_actions
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import absolute
from agent_scaling.runtime.formats import compact, short
from agent_scaling.studies.experiments import Bases, Settings, compose_train, with_values
from agent_scaling.studies.plan_file import Run, Store

Runs = Literal["milestones", "cells"]
PARAMS = "policy.params"
NAME = re.compile(r"[\w.-]+")
MOST = 1000
"""Budgets, or sizes, of one grid."""


@dataclass(frozen=True)
class Data:
    """Facts of one variant's data that a plan uses."""

    fingerprint: str
    epoch_frames: int
    lanes: int
    steps: int
    growth: Growth
    num_actions: int | None

    def batches(self, frames: float) -> int:
        """Return the steps of a run of ``frames`` frames."""
        return self.growth.steps(frames / self.lanes)


def values_of(given: object, key: str) -> list[float]:
    """``[a, b, …]``, or ``{lowest, highest, count}`` as a geometric series of two digits.

    Raises:
        InputError: Neither, or not positive.
    """
    try:
        if isinstance(given, Mapping) and set(given) == {"lowest", "highest", "count"}:
            low, high, count = (float(given[name]) for name in ("lowest", "highest", "count"))
            if not (0 < low <= high < math.inf and 1 <= count <= MOST):
                raise InputError(
                    f"{key}={given}: needs 0 < lowest <= highest, and a count of 1 to {MOST}"
                )
            values = [float(f"{value:.1e}") for value in np.geomspace(low, high, int(count))]
        elif isinstance(given, Sequence) and not isinstance(given, str) and given:
            values = [float(value) for value in given]
        else:
            raise InputError(f"{key}={given}: give [a,b,…] or {{lowest:a,highest:b,count:n}}")
    except (TypeError, ValueError):
        raise InputError(f"{key}={given}: must be numbers") from None
    if not all(0 < value < math.inf for value in values) or len(set(values)) < len(values):
        raise InputError(f"{key}={values}: must be positive and distinct")
    return sorted(values)


def sizes_of(given: object) -> tuple[str, list[float]]:
    """Return the unit of sizes, and the sizes: parameters, or ``{key of train: values}``.

    Raises:
        InputError: As :func:`values_of` does.
    """
    if isinstance(given, Mapping) and len(given) == 1:
        ((key, values),) = given.items()
        return key, values_of(values, f"sizes.{key}")
    return PARAMS, values_of(given, "sizes")


@dataclass(frozen=True)
class Request:
    """The axes of a grid: sizes as values of ``sized_by``, budgets in FLOPs of ``convention``.

    Attributes:
        sized_by: The key of ``train`` that makes the size: by default parameters, which are solved
            for.
        runs: ``milestones``: a run per size, which serves all budgets (a constant learning rate, or
            ``schedule=cooldown``, which branches at each); ``cells``: a run per budget and size (a
            rate that decays to the budget's end).
        ratios: Lowest and highest frames per parameter of a cell; ``None``: all cells.
        law: Settings of a run: (parameters, frames, frames of a lane in a step) → key and value.
        composed: Configs by variant, once :func:`compose` has made them; ``bases`` holds what
            variants, and requests made of one another, share of them.
    """

    name: str
    sizes: Sequence[float]
    budgets: Sequence[float]
    seeds: Sequence[int]
    variants: Mapping[str, Settings]
    train: Settings
    runs: Runs
    convention: Convention
    ratios: Sequence[float] | None
    sized_by: str = PARAMS
    law: Callable[[float, float, int], dict[str, float]] | None = None
    composed: dict[str, DictConfig] = field(default_factory=dict, init=False, compare=False)
    bases: Bases = field(default_factory=dict, compare=False)

    def study(self, variant: str) -> str:
        """Return the tag ``study`` of a variant's runs, by which ``fit`` finds them."""
        return f"{self.name}-{variant}" if variant else self.name

    def settings(self, variant: str) -> Settings:
        """Settings of ``train`` for a variant."""
        return {**self.train, **self.variants.get(variant, {})}

    def sized(self, size: float) -> Settings:
        """The setting of ``train`` that makes a size."""
        return {self.sized_by: int(size) if size == int(size) else size}


def grid(request: Request) -> tuple[list[Run], dict[str, Data]]:
    """Return the runs, and the data of each variant ("" in a plan without variants).

    Raises:
        InputError: An impossible size, name, setting or ratio, or budgets within one step.
    """
    runs: list[Run] = []
    data: dict[str, Data] = {}
    for variant in request.variants or [""]:
        data[variant] = data_of(compose(request, variant))
        for size in request.sizes:
            cfg = compose(request, variant, size)
            made = solved(request, variant, size, cfg, data[variant])
            budgets = served(request, made, data[variant])
            named_runs = [named(request, made, part, s) for s in request.seeds for part in budgets]
            runs += [by_law(request, run, data[variant]) for run in named_runs]
    for run in runs:
        if not NAME.fullmatch(run.name):
            raise InputError(f"{run.name!r}: names of studies and variants are letters and digits")
    if len({run.name for run in runs}) < len(runs) or not runs:
        raise InputError(f"sizes={list(request.sizes)}: give distinct ones, and budgets for them")
    return runs, data


def compose(request: Request, variant: str = "", size: float | None = None) -> DictConfig:
    """Compose the config of a variant's training at a size."""
    if variant not in request.composed:
        planned = {"flops_budget": max(request.budgets)}
        request.composed[variant] = compose_train(request.settings(variant), planned, request.bases)
    sized: Settings = {} if size is None else request.sized(size)
    return with_values(request.composed[variant], sized)


def data_of(cfg: DictConfig) -> Data:
    """Open the data that a config trains on, once.

    Raises:
        InputError: The config trains on recorded games, but names none.
    """
    if OmegaConf.is_missing(cfg.data, "shards"):
        raise InputError("train.data.shards=null: training on recorded games needs their folder")
    found: Any = instantiate(cfg.data)
    windows = cfg.data.get("unrolls", cfg.data)  # demonstrations that come beside are no frames
    steps = int(windows.get("unroll_length", 1))
    return Data(
        getattr(found, "fingerprint", ""),
        getattr(found, "train_frames", 0),
        int(windows.get("lanes", 1)),
        steps,
        getattr(found, "growth", Growth(steps, steps, 1)),
        getattr(found, "num_actions", None),
    )


def solved(request: Request, variant: str, size: float, cfg: DictConfig, data: Data) -> Run:
    """A run of a size with its costs, before it has a name, a seed and budgets."""
    take_actions(cfg.policy, data)
    config: Any = OmegaConf.to_container(cfg.policy, resolve=True)
    policy = on_meta(config)
    module: Any = instantiate(cfg.module, _partial_=True)(policy, None)  # which knows its costs
    return Run(
        name="",
        study=request.study(variant),
        variant=variant,
        size=size,
        params=policy.num_params,
        seed=0,
        budgets=(),
        cost=module.cost_of_batches(data.steps, request.convention),
        model_cost=module.cost_of_batches(data.steps),
        step_frames=data.lanes * data.growth.start,
        epoch_frames=data.epoch_frames,
        branched=1 - cfg.schedule.hold if cfg.schedule.get("branches", False) else 0.0,
    )


def served(request: Request, run: Run, data: Data) -> list[tuple[float, ...]]:
    """The budgets of each run of a size.

    Raises:
        InputError: Two of them end in the same step.
    """
    low, high = request.ratios or (0.0, math.inf)
    budgets = [b for b in request.budgets if low <= run.frames(b) / run.params <= high]
    if request.runs == "cells":
        return [(budget,) for budget in budgets]
    steps = [data.batches(run.frames(budget)) for budget in budgets]
    for budget, step, following in zip(budgets, steps, steps[1:], strict=False):
        if step == following:
            raise InputError(
                f"budgets: {budget:g} and the next end in the same step of a policy of "
                f"{run.params:,} parameters: give smaller batches or larger budgets"
            )
    return [tuple(budgets)] if budgets else []


def named(request: Request, run: Run, budgets: tuple[float, ...], seed: int) -> Run:
    """Name a run by variant, size, budget and seed, as far as they differ among runs."""
    parts = [run.variant]
    if request.sized_by == PARAMS:
        parts.append(short(run.size))
    else:
        parts.append(f"{request.sized_by.rpartition('.')[2]}{run.size:g}")
    parts += [compact(budgets[-1])] if request.runs == "cells" else []
    parts += [f"s{seed}"] if len(request.seeds) > 1 else []
    return replace(run, name="-".join(filter(None, parts)), seed=seed, budgets=budgets)


def by_law(request: Request, run: Run, data: Data) -> Run:
    """The run with the settings that the request's law has for it, at its last budget.

    They replace the study's own settings of all runs.

    Raises:
        InputError: The run's variant sets one of these keys.
    """
    if request.law is None:
        return run
    settings = request.law(run.params, run.frames(run.budgets[-1]), data.steps)
    if fixed := sorted(set(settings) & set(request.variants.get(run.variant, {}))):
        raise InputError(f"variants.{run.variant}.{fixed[0]}: hyper= sets it; take one of them out")
    lanes = settings.get("data.lanes")
    step = run.step_frames if lanes is None else round(lanes) * data.growth.start
    return replace(run, settings=settings, step_frames=step)


def store_of(cfg: DictConfig) -> Store:
    """Return the store that a config's runs are recorded in."""
    logger: Any = OmegaConf.to_container(cfg.logger, resolve=True)
    return Store(*(logger[f.name] for f in fields(Store)))


def planned(request: Request, run: Run, folder: Path, cfg: DictConfig) -> dict[str, Any]:
    """Overrides of a run's experiment, by dotted key of ``train``: paths are absolute."""
    store = asdict(store_of(cfg))
    found: dict[str, Any] = {
        "flops_budget": run.budgets[-1],
        "milestones": list(run.budgets[:-1]),
        "seed": run.seed,
        **run.settings,
        **request.sized(run.size),
        "output": str(run.output(folder)),
        "tags.study": run.study,
        "tags.cell": run.name,
        "tags.size": short(run.size if request.sized_by == PARAMS else run.params),
        "tags.budget": compact(run.budgets[-1]),
        "tags.seed": run.seed,
        "logger.run_name": f"{run.study} {run.name}",
        **{f"logger.{name}": value for name, value in store.items()},
    }
    if run.variant:
        found["tags.variant"] = run.variant
    if request.convention != "model":
        found["callbacks.flops.convention"] = request.convention
    for key in ("data.shards", "data.demonstrations.shards"):
        if shards := OmegaConf.select(cfg, key):
            found[key] = absolute(shards)
    return found
