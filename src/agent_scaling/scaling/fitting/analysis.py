"""Fits all laws to a table of runs; the results have the shape of ``fit.json``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.fitting import forms, returns
from agent_scaling.scaling.fitting.recency import LATEST
from agent_scaling.scaling.fitting.structure import layout
from agent_scaling.scaling.intervals import LEVEL, NORMAL, half_width
from agent_scaling.scaling.laws import bound, curves, parametric, profiles
from agent_scaling.scaling.runs.table import Runs

FEWEST = 3
"""Fewest budgets that give a power law's exponent an interval."""

ROUNDING = 1e-9
"""Differences of logarithms up to this are rounding errors, of which no interval is made."""


def laws_of(runs: Runs) -> dict[str, Any]:
    """Fit all laws to ``runs``; the forecast is not among them.

    Raises:
        InputError: Fewer than three budgets.
    """
    cells, flags = runs.cells, list[str]()
    budgets = np.sort(cells["flops"].unique())
    if len(budgets) < FEWEST:
        raise InputError(f"{len(budgets)} budgets: laws need {FEWEST} or more")
    targets = [t for t in ("loss", "return") if runs.target(t)["flops"].nunique() >= FEWEST]
    fitted: dict[str, Any] = {"budgets": [budgets[0], budgets[-1]], "level": LEVEL}
    for name in ("best_of_grid", "parabola", "saturating", "saturating_weighted"):
        fitted[name] = {}
    for target in targets:
        best = profiles.best_of_grid(cells, target)
        curved = of_parabolas(cells, target)
        flags += profiles.flags(best, target) + profiles.flags(curved["points"], target)
        fitted["best_of_grid"][target] = _best(best)
        if reason := layout(cells, target):
            _without_exponents(fitted["best_of_grid"][target], reason)
        flags += _one_size(fitted["best_of_grid"][target], target)
        fitted["parabola"][target] = curved
    if "loss" in targets and len(budgets) > FEWEST:
        best = profiles.best_of_grid(cells, "loss")
        fitted["saturating"]["loss"] = _saturating(best, 0.0, flags)
        fitted["saturating_weighted"]["loss"] = _saturating(best, 0.25, flags)
        fitted["parametric"] = _parametric(cells, flags)
        fitted["quadratic"] = _quadratic(cells)
    if "return" in targets and (bounded := _bounded(cells, runs.highest)):
        fitted["saturating"]["return"] = bounded
    fitted["return_from_loss"] = _return_from_loss(cells) if len(targets) == 2 else None
    return fitted | {"flags": flags}


def laws_of_return(cells: pd.DataFrame, with_loss: bool) -> dict[str, Any]:
    """Fit the power laws of the return alone; ``with_loss``, also those against the loss."""
    return {
        "best_of_grid": {"return": _best(profiles.best_of_grid(cells, "return"))},
        "parabola": {"return": of_parabolas(cells, "return")},
        "return_from_loss": _return_from_loss(cells) if with_loss else None,
    }


def exponent(
    x: pd.Series, y: pd.Series, sd: pd.Series | None = None, shifts: pd.Series | None = None
) -> dict[str, Any] | None:
    """Fit the slope of log y on log x, its t-interval, and each point's residual and leverage.

    With the standard errors ``sd`` of log y and its ``shifts`` (:func:`minima.shifts`), two
    intervals are computed, both scaled by the residuals: for equal variances, and for variances in
    the proportions of ``sd``. The wider one is used. Shifts common to all points are added in
    quadrature. Where the points lie on one line, to rounding, no residuals are left; the interval
    is then ``None``, with a ``reason``.
    """
    known = (x > 0) & (y > 0)
    if known.sum() < FEWEST:
        return None
    at, value = np.log(x[known].to_numpy(float)), np.log(y[known].to_numpy(float))
    curve = curves.fit_power(at, value)
    centred = at - at.mean()
    leverage, residuals = 1 / len(at) + centred**2 / (centred**2).sum(), value - curve(at)
    low, high = curve.interval(1)
    if sd is not None and shifts is not None:
        own = sd[known].to_numpy(float)
        half = _half(curve, centred, residuals, leverage, own, np.stack(list(shifts[known])))
        low, high = curve.theta[1] - half, curve.theta[1] + half
    found = {
        "exponent": curve.theta[1],
        "interval": (low, high),
        "log_coefficient": curve.theta[0],
        "residual_sd": curve.noise,
        "points": len(at),
        "residuals": residuals,
        "leverage": leverage,
        "without_lowest": _dropping(at, value),
    }
    if np.ptp(residuals) <= ROUNDING:
        found |= {"interval": None, "reason": "the points lie on one line"}
    return found


def _half(
    curve: curves.Curve,
    centred: np.ndarray,
    residuals: np.ndarray,
    leverage: np.ndarray,
    sd: np.ndarray,
    shifts: np.ndarray,
) -> float:
    weight = centred / (centred**2).sum()  # each point's weight in the slope
    variance = curve.covariance[1, 1]
    if curve.spare and np.isfinite(sd).all() and (sd > 0).all():
        scale = (residuals**2).sum() / (sd**2 * (1 - leverage)).sum()
        variance = max(variance, scale * (weight**2 * sd**2).sum())
    together = NORMAL * np.linalg.norm(weight @ shifts)
    return float(np.hypot(half_width(float(np.sqrt(variance)), curve.spare), together))


def _dropping(x: np.ndarray, y: np.ndarray) -> list[float]:
    """Return the exponents without the 1, 2, 3 … lowest budgets."""
    return [float(np.polyfit(x[k:], y[k:], 1)[0]) for k in range(1, len(x) - FEWEST + 1)]


def exponents(points: pd.DataFrame) -> dict[str, Any]:
    """Fit exponents of parameters, frames and value to the optima of a table of budgets.

    Where all optima have one size, the exponents of parameters and frames would be 0 and 1 whatever
    the truth. They and their intervals are then ``None``, with a ``reason``.
    """
    names = {"N_opt": "params", "D_opt": "samples", "optimum": "value"}
    found = {
        name: exponent(
            points["flops"],
            points[column],
            points.get(f"{column}_sd"),
            points.get(f"{column}_shifts"),
        )
        for name, column in names.items()
    }
    if one_size(points["params"]):
        reason = f"every best is of {points['params'].iloc[0]:,.0f} parameters"
        for name in ("N_opt", "D_opt"):
            if law := found[name]:
                law |= {"exponent": None, "interval": None, "reason": reason, "label": "one size"}
    return found


def one_size(params: pd.Series) -> bool:
    """Return True where all optima have one size, to rounding."""
    logs = np.log(params.to_numpy(float))
    return len(logs) > 0 and bool(np.ptp(logs) <= ROUNDING)


def _best(best: pd.DataFrame) -> dict[str, Any]:
    inner = best[~best["edge"]]
    return exponents(best) | {"without_edges": exponents(inner), "points": best}


def _without_exponents(law: dict[str, Any], reason: str) -> None:
    """Best cells of budgets without a choice of sizes: exponents of their sizes are ``None``."""
    for part in (law, law["without_edges"]):
        for name in ("N_opt", "D_opt"):
            if part[name]:
                part[name] |= {"exponent": None, "interval": None, "reason": reason}
                part[name] |= {"label": "no profiles"}


def _one_size(law: dict[str, Any], target: str) -> list[str]:
    """Return a flag for each part whose optima all have one size and so give no exponent."""
    parts = {"best of grid": law, "best of grid without edges": law["without_edges"]}
    laws = {name: part["N_opt"] for name, part in parts.items() if part["N_opt"]}
    return [
        f"{sizes['label']}: {name}, {target}: {sizes['reason']}; N_opt and D_opt say nothing"
        for name, sizes in laws.items()
        if sizes["exponent"] is None
    ]


def of_parabolas(cells: pd.DataFrame, target: str) -> dict[str, Any]:
    """Fit exponents to the profiles' minima; also return the minima and their shared shape."""
    shape = profiles.shape_of(cells, target)
    curved = profiles.parabolas(cells, target, shape)
    usable = curved[~curved["flag"].isin(["edge", "concave"])]
    significant = curved[curved["flag"] == ""]
    half = NORMAL * np.sqrt(np.diag(shape.covariance))
    ends = np.exp([shape.mean - half, shape.mean, shape.mean + half])
    shared = {
        name: {"value": middle, "interval": [low, high]}
        for name, low, middle, high in zip(("alpha", "beta"), *ends, strict=True)
    }
    plain = profiles.quadratics(cells, target)
    found = {
        "significant": exponents(significant),
        "symmetric": exponents(plain) | {"points": plain},
        "points": curved,
        "shape": shared,
    }
    return exponents(usable) | found


def _saturating(best: pd.DataFrame, recency: float, flags: list[str]) -> dict[str, Any]:
    x, y = np.log(best["flops"].to_numpy(float)), np.log(best["loss"].to_numpy(float))
    curve = curves.fit_saturating(x, y, recency)
    found = curves.has_floor(curve, x.max())
    if not found:
        flags.append("no irreducible loss: the saturating law's floor went to 0")
    low, high = curve.interval(0)
    return {
        "L_inf": np.exp(curve.theta[0]) if found else 0.0,
        "L_inf_interval": [np.exp(low), np.exp(high)] if found else [0.0, None],
        "gamma": curve.theta[2],
        "gamma_interval": curve.interval(2),
        "log_a": curve.theta[1],
        "residual_sd": curve.noise,
        "residuals": y - curve(x),
        "converged": curve.converged,
    }


def _bounded(cells: pd.DataFrame, highest: float | None) -> dict[str, Any] | None:
    """Fit R = 1 / (1/R_max + a C^−γ) to the latest budgets; ``None`` where there are too few.

    That is a sigmoid in log compute, R_max / (1 + (C_half / C)^γ), as ScaleRL has it (arXiv
    2510.13786); ``half_at`` is C_half, the FLOPs at which half of R_max is reached. R_max is
    ``highest`` where no bound is found below that.
    """
    try:
        curve = returns.fit_bounded(returns.stretched(cells, highest))
    except ValueError:
        return None
    at, value = forms.series(cells, "return")
    found = curves.has_floor(curve, at.max())
    most = np.array([-curve.theta[0], *(-end for end in curve.interval(0)[::-1])])
    if highest is not None:
        most = bound.squeeze(most, highest) if found else np.log([highest, 1.0, highest])
    with np.errstate(over="ignore"):
        half_at = np.exp((curve.theta[1] + most[0]) / curve.theta[2])
        bounds = np.exp(most)
    last = float(np.exp(value.max()))
    known = found or highest is not None
    return {
        "R_max": bounds[0] if known else None,
        "R_max_interval": [bounds[1] if found else last, bounds[2] if known else None],
        "half_at": half_at if known else None,
        "gamma": curve.theta[2],
        "gamma_interval": curve.interval(2),
        "log_a": curve.theta[1],
        "residual_sd": curve.noise,
        "budgets": len(returns.latest_returns(cells)[0]),
        "converged": curve.converged,
    }


def _parametric(cells: pd.DataFrame, flags: list[str]) -> dict[str, Any] | None:
    near = parametric.near_optimum(cells)
    if not parametric.enough(near):
        sizes = near["params"].nunique()
        found = f"{len(near)} cells of {sizes} sizes near the optimum"
        needed = f"{parametric.FEWEST} cells of 3 sizes whose losses differ are needed"
        flags.append(f"no parametric law: {found}; {needed}")
        return None
    law = parametric.fit_parametric(cells)
    values: dict[str, Any] = law.coefficients()
    if values["E"] < 1e-4 * near["loss"].min():
        flags.append("no irreducible loss: E of the parametric law went to 0")
    if not law.converged:
        flags.append("not converged: the parametric law")
    names = ("cells", "objective", "gradient", "converged", "minima")
    return values | {name: getattr(law, name) for name in names} | {"near": parametric.NEAR}


def _quadratic(cells: pd.DataFrame) -> dict[str, Any] | None:
    """Fit ln L = c0 + c1 n + c2 d + c3 n² + c4 n d + c5 d² to all cells; n = ln N, d = ln D."""
    known = cells[(cells["loss"] > 0) & (cells["samples"] > 0)]
    if len(known) < 8:
        return None
    n, d = np.log(known["params"].to_numpy(float)), np.log(known["samples"].to_numpy(float))
    y = np.log(known["loss"].to_numpy(float))
    design = np.stack([np.ones_like(n), n, d, n**2, n * d, d**2], 1)
    scale = np.linalg.norm(design, axis=0)
    coefficients = np.linalg.lstsq(design / scale, y, rcond=None)[0] / scale
    residual = y - design @ coefficients
    noise = np.sqrt((residual**2).sum() / (len(y) - 6)) if len(y) > 6 else None
    r2 = 1 - residual.var() / y.var() if y.var() > 0 else None
    return {"coefficients": coefficients, "residual_sd": noise, "r2": r2, "cells": len(y)}


def _return_from_loss(cells: pd.DataFrame) -> dict[str, Any] | None:
    variants: dict[str, Any] = {}
    for name, count in (("latest", LATEST), ("all", None)):
        try:
            curve = returns.from_loss(cells, count)
        except ValueError:
            return None
        variants[name] = {"exponent": curve.theta[1], "interval": curve.interval(1)}
        variants[name] |= {"log_coefficient": curve.theta[0], "residual_sd": curve.noise}
    both = cells[(cells["loss"] > 0) & (cells["return"] > 0)]
    loss, score = (np.log(both[c].to_numpy(float)) for c in ("loss", "return"))
    size = np.log(both["params"].to_numpy(float))
    design = np.stack([np.ones_like(loss), loss, size], 1)
    theta = np.linalg.lstsq(design, score, rcond=None)[0]
    with_size = {"exponent": theta[1], "size_exponent": theta[2], "cells": len(both)}
    latest: dict[str, Any] = variants.pop("latest")
    return latest | variants | {"with_size": with_size}
