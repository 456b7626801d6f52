"""The ``plan`` verb: a grid of runs, or the best run of a fitted law, as configs of ``train``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from omegaconf import DictConfig
from pydantic import NonNegativeInt

from agent_scaling.config.check import flatten
from agent_scaling.config.command import command, config_dir, setting
from agent_scaling.policies.flops import BUDGETS, Convention
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import part_of, remove_left
from agent_scaling.runtime.secrets import mask
from agent_scaling.runtime.terminal import say
from agent_scaling.scaling.forecast import forecast
from agent_scaling.scaling.runs.fit_file import Positive, read_fit
from agent_scaling.scaling.runs.lowest import check_bounds
from agent_scaling.studies import grid as grids
from agent_scaling.studies.display.planned import show, summarise
from agent_scaling.studies.display.warnings import REPETITIONS, cautions
from agent_scaling.studies.experiments import experiment_file
from agent_scaling.studies.mlflow_parent import check_store
from agent_scaling.studies.plan_file import FILE, Plan, Run, load
from agent_scaling.studies.planning.by_laws import best_of_repeated, settings_by

STORE = "logger.tracking_uri"
"""Setting of ``train`` that names the user's MLflow store; a fit's runs are read there alone."""


def plan(
    *,
    name: str,
    train: Mapping[str, Any],
    budgets: object = None,
    sizes: object = None,
    fit: str | None = None,
    budget: Positive | None = None,
    unique: Positive | None = None,
    hyper: str | None = None,
    runs: grids.Runs = "milestones",
    convention: Convention = "model",
    seeds: Sequence[NonNegativeInt] | NonNegativeInt = (0,),
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    ratios: Sequence[float] | None = None,
    speed: float | str | None = None,
    launcher: Mapping[str, Any] | None = None,
    expert_return: float | None = None,
    lowest_return: float | None = None,
    highest_return: float | None = None,
    output: str,
    epochs: Positive = REPETITIONS,
    brief: bool = False,
) -> Plan:
    """Write ``plan.json`` and an experiment of ``train`` for each run to ``output``.

    With ``fit`` and ``budget``, the run that the fit says is the best at that budget; else the grid
    of ``budgets`` and ``sizes``.

    Args:
        name: Of the study: the tag ``study`` of its runs.
        train: Settings of ``train`` for all runs, nested or by dotted key.
        budgets: FLOPs: a list, or ``lowest``, ``highest`` and ``count``.
        sizes: Parameters, likewise; or ``{policy.encoder.width: [1, 3]}``: values of one key.
        fit: A ``fit.json`` or its folder.
        budget: FLOPs to forecast from ``fit``.
        unique: Frames of the distinct games that there are: the size is then that of the fit's law
            of repeated data, and what more games would buy is printed.
        hyper: A ``fit.json`` or its folder whose laws of learning rate and batch set those of each
            run, at its size and the frames of its last budget.
        runs: ``milestones``: a run per size; ``cells``: a run per size and budget.
        convention: Convention that budgets count FLOPs in.
        seeds: Of each cell; a number n is 0 to n − 1.
        variants: Settings by name, crossed with the grid.
        ratios: Lowest and highest frames per parameter of a cell.
        speed: FLOP/s, ``probe``, or a study in MLflow; for the hours.
        launcher: Hydra's settings with which ``sweep`` launches.
        expert_return: For fits of the runs, which ``sweep`` and ``study`` make: the return at which
            a form may saturate.
        lowest_return: Likewise: the return that laws count from.
        highest_return: Likewise: the highest return that the game's rules allow.
        output: Folder.
        epochs: Passes over the games above which a warning is raised.
        brief: For ``study``: print a line in place of the cells, and warnings only of a grid that
            was typed; ask the store whether it can be used, before anything is written.

    Returns:
        The plan.

    Raises:
        InputError: Impossible settings, or another plan in ``output``.
    """
    shared = flatten(train)
    if shared.get("data.shards", "") is None:  # learning by playing has none
        del shared["data.shards"]
    check_bounds(expert_return, lowest_return, highest_return)
    seeds = range(seeds) if isinstance(seeds, int) else seeds
    best = fit is not None and budget is not None
    if unique is not None and not best:
        raise InputError(f"unique={unique:g}: needs fit= and budget=")
    if best:
        ahead = float(budget or 0)
        request, row = best_run(name, str(fit), ahead, shared, convention, seeds, unique, not brief)
    elif budgets is None or sizes is None:
        raise InputError("give budgets= and sizes=, or fit= and budget=")
    else:
        row = {}
        sized_by, values = grids.sizes_of(sizes)
        request = grids.Request(
            name=name,
            sizes=values,
            sized_by=sized_by,
            budgets=grids.values_of(budgets, "budgets"),
            seeds=list(seeds),
            variants={name: flatten(more) for name, more in (variants or {}).items()},
            train=shared,
            runs=runs,
            convention=convention,
            ratios=ratios,
        )
    if hyper is not None:
        request = replace(request, law=settings_by(hyper, shared.get(STORE)))
    check(request)
    folder = Path(output).resolve()
    made = lay_out(request, row, None if best else fit, flatten(launcher or {}), epochs)
    bounds = {"expert_return": expert_return, "lowest_return": lowest_return}
    bounds |= {"highest_return": highest_return}
    known = {name: float(value) for name, value in bounds.items() if value is not None}
    made = replace(made, returns=known)
    there = (folder / FILE).exists()
    if there:
        made = same(made, folder)
    else:
        if brief:
            check_store(made.store)
        if speed is not None:
            made = with_speeds(made, request, speed)
        write(made, request, folder)
    if brief:
        summarise(made)
        return made
    show(made)
    say(f"{'unchanged' if there else 'written'}  {folder / FILE}")
    say(f"one run   {train_one(folder, made.runs[0])}")
    say(f"all runs  {command('sweep', setting('plan', folder))}")
    return made


def train_one(folder: Path, run: Run) -> str:
    """Return the command that trains one run of the plan in ``folder``."""
    return command("train", *config_dir(folder), setting("experiment", run.name))


def with_speeds(made: Plan, request: grids.Request, speed: float | str) -> Plan:
    """The plan with how fast its policies train."""
    from agent_scaling.studies.planning.speed import speeds_of  # it imports all that training needs

    speeds = speeds_of(
        speed, made.runs, made.store, lambda run: grids.compose(request, run.variant, run.size)
    )
    return replace(made, speeds=speeds)


def check(request: grids.Request) -> None:
    """Raise :class:`InputError` for values that no grid can have."""
    if request.runs not in get_args(grids.Runs):
        raise InputError(f"runs={request.runs}: use one of {', '.join(get_args(grids.Runs))}")
    if request.convention not in BUDGETS:
        raise InputError(f"convention={request.convention!r}: use one of {', '.join(BUDGETS)}")
    if not request.seeds:
        raise InputError(f"seeds={list(request.seeds)}: give at least one")
    if not grids.NAME.fullmatch(request.name):
        raise InputError(f"name={request.name!r}: letters, digits, '.', '_' and '-' only")
    ratios = request.ratios
    if ratios is not None and not (len(ratios) == 2 and 0 <= ratios[0] < ratios[1]):
        raise InputError(f"ratios={list(ratios)}: give [lowest,highest] frames per parameter")


def best_run(
    name: str,
    fit: str,
    budget: float,
    train: Mapping[str, Any],
    convention: Convention,
    seeds: Sequence[int],
    unique: float | None = None,
    show: bool = True,
) -> tuple[grids.Request, dict[str, Any]]:
    """The grid of the one cell that a fit says is the best at ``budget``, and what it predicts.

    With ``unique`` frames of distinct games, by the law of repeated data.
    """
    if unique is None:
        row = forecast(fit=fit, budget=budget, tracking_uri=train.get(STORE), show=show)
    else:
        row = best_of_repeated(fit, budget, unique, train.get(STORE))
    if "params" not in row:
        raise InputError(f"fit={fit}: it forecasts no size; fit 4 budgets and 3 sizes or more")
    size = float(f"{row['params']:.4g}")
    request = grids.Request(
        name=f"{name}-forecast",
        sizes=[size],
        budgets=[budget],
        seeds=list(seeds),
        variants={},
        train=train,
        runs="cells",
        convention=convention,
        ratios=None,
    )
    return request, row


def lay_out(
    request: grids.Request,
    row: Mapping[str, Any],
    fit: str | None,
    launcher: Mapping[str, Any],
    epochs: float,
) -> Plan:
    """The plan of a request, without speeds."""
    runs, data = grids.grid(request)
    cfg = grids.compose(request, next(iter(request.variants), ""))
    fitted = None if fit is None else read_fit(fit)
    return Plan(
        name=request.name,
        convention=request.convention,
        train=request.train,
        variants=request.variants,
        data=" ".join(dict.fromkeys(d.fingerprint for d in data.values())),
        store=grids.store_of(cfg),
        runs=tuple(runs),
        launcher=launcher,
        warnings=() if row else tuple(cautions(runs, fitted, epochs)),
        forecast=dict(row),
    )


def same(made: Plan, folder: Path) -> Plan:
    """The plan that ``folder`` holds, if it is the one just made, with that one's ``returns``.

    Raises:
        InputError: It is another.
    """
    before = load(folder)
    different = made.differs(before)
    if different:
        raise InputError(
            f"output={folder}: holds another plan (other {different}); give another output="
        )
    return replace(before, returns=made.returns)


def write(made: Plan, request: grids.Request, folder: Path) -> None:
    """Write the folder beside its place, then put it there.

    Raises:
        InputError: The place is taken, or cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"output={folder}: holds something that is no plan; give another output=")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_left(folder)
        partial = part_of(folder)
        try:
            (partial / "experiment").mkdir(parents=True)
            (partial / FILE).write_text(made.to_json())
            cfgs = {v: grids.compose(request, v) for v in {run.variant for run in made.runs}}
            for run in made.runs:
                text = experiment(made, request, run, folder, cfgs[run.variant])
                (partial / "experiment" / f"{run.name}.yaml").write_text(mask(text))
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise InputError(f"output={folder}: cannot be written ({error.strerror})") from error


def experiment(made: Plan, request: grids.Request, run: Run, folder: Path, cfg: DictConfig) -> str:
    """The YAML of a run whose variant composes to ``cfg``; what is expected of it at its head."""
    last = run.budgets[-1]
    head = [
        f"{run.study} {run.name}: {run.params:,} parameters, {run.frames(last):,.0f} frames, "
        f"{last:.4g} FLOPs ({made.convention} convention)",
        f"  {train_one(folder, run)}",
    ]
    if run.settings:
        values = ", ".join(f"{key}={value:g}" for key, value in run.settings.items())
        head.append(f"by the law of hyper-parameters: {values}")
    for key in ("params", "frames", "loss", "return"):
        if key in made.forecast:
            low, high = made.forecast[f"{key}_interval"]
            head.append(f"forecast {key}: {made.forecast[key]:.4g} ({low:.4g} to {high:.4g}, 90 %)")
    return experiment_file(
        request.settings(run.variant), grids.planned(request, run, folder, cfg), head
    )
