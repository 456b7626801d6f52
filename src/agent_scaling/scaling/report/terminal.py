"""Prints a fit on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from agent_scaling.runtime.terminal import plain_console
from agent_scaling.scaling.report.reasons import no_law
from agent_scaling.scaling.report.verdict import Verdict

WIDE = 140
"""Width, in columns, of output to a file or pipe."""
ALPHAS = ("alpha_N", "alpha_E", "N_opt")
"""Exponents of the law of intrinsic performance."""


def print_verdict(said: Verdict, most: int | None = None) -> None:
    """Print a verdict, a line per sentence; ``most``: sentences of one title at most."""
    console = plain_console(soft_wrap=True)
    for title, sentences in said.items():
        shown = list(sentences[:most])
        if more := len(sentences) - len(shown):
            shown.append(f"… and {more} more, in the report")
        for number, one in enumerate(shown):
            head = title if number == 0 else ""
            if console.is_terminal:  # folds at words; in a file, a sentence is a line
                grid = Table.grid(padding=(0, 2, 0, 0))
                grid.add_column(width=10, style="bold")
                grid.add_row(head, one)
                console.print(grid, soft_wrap=False)
            else:
                console.print(f"{head:10}  {one}")


def print_laws(fitted: Mapping[str, Any]) -> None:
    """Print the exponents, and the flags by kind, in a few lines."""
    console = plain_console(soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDE
    console.print(_exponents(fitted), soft_wrap=False)
    if told := _without_laws(fitted):
        console.print(told)
    if kinds := Counter(flag.partition(":")[0] for flag in fitted["flags"]):
        text = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
        console.print(Text.assemble((f"{'Flags':10}", "bold"), f"  {text}"))


def print_fit(fitted: dict[str, Any], written: Sequence[Path], logged: str | None = None) -> None:
    """Print the verdict, exponents, the forms side by side, forecast, flags by kind, and files."""
    print_verdict(fitted["verdict"])
    console = plain_console(soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDE
    show = partial(console.print, soft_wrap=False)  # tables fold cells; lines stay whole
    low, high = fitted["budgets"]
    console.print(f"budgets {low:.3g} to {high:.3g} FLOPs; intervals hold {fitted['level']:.0%}")
    show(_exponents(fitted))
    if told := _without_laws(fitted):
        console.print(told)
    if "loss" not in fitted["best_of_grid"]:
        show(_optima(fitted))
    if law := fitted.get("return_against_frames"):
        parts = [(f"{s['params']:,.0f}", s) for s in law["sizes"]]
        parts += [("best of all", law["best"])] if law["best"] else []
        text = ", ".join(f"{n} {s['exponent']:.3g} {_span(s['interval'])}" for n, s in parts)
        console.print(f"return against frames, exponents of D by size: {text}")
    if law := fitted.get("intrinsic"):
        console.print(_intrinsic(law))
    for name in ("saturating", "saturating_weighted"):
        if law := fitted[name].get("loss"):
            console.print(f"{name}: L = {law['L_inf']:.4g} + a C^-{law['gamma']:.4g}")
    if found := fitted.get("lowest_return"):
        kind = "given" if found["interval"] is None else f"estimated {_span(found['interval'])}"
        console.print(f"R counts from a return of {found['value']:.4g} ({kind})")
    if (highest := fitted.get("highest_return")) is not None:
        console.print(f"R is at most {highest:.4g}, by the game's rules")
    if law := fitted["saturating"].get("return"):
        half = f", half of it at {law['half_at']:.3g} FLOPs" if law["half_at"] else ""
        bound = f"{law['R_max']:.4g}{half}" if law["R_max"] else "none found"
        console.print(f"bounded: 1/R = 1/R_max + a C^-{law['gamma']:.4g}, R_max {bound}")
    if law := fitted.get("parametric"):
        state = "converged" if law["converged"] else "NOT converged"
        console.print(
            f"parametric: E {law['E']:.4g}, alpha {law['alpha']:.3g}, beta {law['beta']:.3g} -> "
            f"N_opt {law['N_opt']:.3g}{_resampled(fitted)}; optimiser {state}, "
            f"{len(law['minima'])} minima found"
        )
    if law := fitted.get("return_from_loss"):
        console.print(f"return from loss: R ~ L^{law['exponent']:.3g} {_span(law['interval'])}")
    for line in (*_repeated(fitted.get("repeated")), *_hyper(fitted.get("hyper"))):
        console.print(line)
    for target, checks in fitted["validation"].items():
        show(_validation(target, checks, fitted["chosen"][target]))
        if averaged := fitted["averaged"][target]:
            console.print(f"average: equal weights of {', '.join(averaged)}")
    show(_forecast(fitted["forecast"]))
    for target, noise in fitted["diagnostics"]["noise"].items():
        if noise:
            text = f"log SD {noise['log_sd']:.3g} over {noise['cells']} cells run more than once"
            console.print(f"noise of {target} between runs: {text}")
    kinds = Counter(flag.partition(":")[0] for flag in fitted["flags"])
    for kind, count in kinds.items():
        example = next(f for f in fitted["flags"] if f.startswith(kind)).partition(": ")[2]
        console.print(f"flag: {kind} ({count}), as: {example}")
    console.print("wrote " + ", ".join(map(str, written)))
    if logged:
        console.print(f"logged to {logged}")


def _resampled(fitted: dict[str, Any]) -> str:
    """Format the bootstrap's interval of the parametric law's N_opt, or the reason for none."""
    found = (fitted.get("bootstrap") or {}).get("parametric")
    if not found:
        return ""
    entry = found["N_opt"]
    return (
        f" {_span(entry['interval'])}"
        if entry["interval"]
        else f", no interval ({entry['reason']})"
    )


def _span(interval: Sequence[float | None] | None) -> str:
    if interval is None or None in interval:
        return "[unbounded]"
    return f"[{interval[0]:.3g}, {interval[1]:.3g}]"


def _exponents(fitted: Mapping[str, Any]) -> Table:
    table = Table(title="exponents of C", box=None, title_justify="left")
    for column in ("", "target", "N_opt", "D_opt", "optimum"):
        table.add_column(column)
    for form, target, name, part in _parts(fitted):
        laws = [part[n] for n in ("N_opt", "D_opt", "optimum")]
        if any(laws):
            why = no_law(fitted, form, target, name)
            table.add_row(f"  {name}" if name else form, target, *(_law(one, why) for one in laws))
    return table


def _parts(fitted: Mapping[str, Any]) -> Iterator[tuple[str, str, str | None, Mapping[str, Any]]]:
    """Yield form, target, name of the part or None for the whole, and its laws."""
    for form in ("best_of_grid", "parabola"):
        for target, law in fitted[form].items():
            yield form, target, None, law
            inner = ("without_edges", "significant", "symmetric")
            yield from ((form, target, name, law[name]) for name in inner if name in law)


def _without_laws(fitted: Mapping[str, Any]) -> str:
    """Name the parts that have no exponents, each with the reason; empty: all have some."""
    told = [
        f"{name or form} of {target} ({no_law(fitted, form, target, name)})"
        for form, target, name, part in _parts(fitted)
        if not any(part[n] for n in ("N_opt", "D_opt", "optimum"))
    ]
    return f"no exponents: {'; '.join(told)}" if told else ""


def _law(law: dict[str, Any] | None, why: str) -> str:
    if law is None:
        return f"none: {why}"
    if law["exponent"] is None:
        return f"none: {law.get('label', 'one size')}"
    if law["interval"] is None:
        return f"{law['exponent']:.4f} [none: {law['reason']}]"
    return f"{law['exponent']:.4f} {_span(law['interval'])}"


def _repeated(laws: dict[str, Any] | None) -> list[str]:
    """Return a line for each law of repeated data, with its own parameters."""
    if not laws:
        return []
    lines = []
    for name, law in laws["forms"].items():
        own = [key for key in law if f"{key}_interval" in law and key not in ("alpha", "beta")]
        values = ", ".join(f"{key} {law[key]:.3g} {_span(law[f'{key}_interval'])}" for key in own)
        error = law["held_out_error"]
        held = "" if error is None else f", most repeated cells off by {error:.3g} in logs"
        chosen = " (chosen)" if name == laws["chosen"] else ""
        lines.append(f"repeated data, {name}: {values}; SD {law['residual_sd']:.3g}{held}{chosen}")
    return lines


def _hyper(law: dict[str, Any] | None) -> list[str]:
    """Return a line for each setting with a law, and one for the critical batch."""
    if not law:
        return []
    at = f"at {law['params']:,.0f} parameters, {law['frames']:,.0f} frames"
    lines = []
    for name, found in law["settings"].items():
        powers = ", ".join(
            f"{term}^{found[f'{term}_exponent']:.3g} {_span(found[f'{term}_interval'])}"
            for term in "ND"
            if f"{term}_exponent" in found
        )
        lines.append(f"best {name}: {found['value']:.3g} {_span(found['interval'])} {at}; {powers}")
    if batch := law["critical_batch"]:
        lines.append(f"critical batch: {batch['value']:.3g} {_span(batch['interval'])} {at}")
    return lines


def _intrinsic(law: dict[str, Any]) -> str:
    """Return a line of the law of intrinsic performance."""
    parts = [f"{name} {law[name]:.3g} {_span(law[f'{name}_interval'])}" for name in ALPHAS]
    size = f"best size at {law['flops']:.3g} FLOPs {law['params']:,.0f}"
    return f"intrinsic performance: {', '.join(parts)}; {size} {_span(law['params_interval'])}"


def _optima(fitted: dict[str, Any]) -> Table:
    """Tabulate each budget's best size and its return, for policies that learn by playing."""
    title = "best size of each budget: frames are interactions, intervals are of the runs' mean"
    table = Table(title=title, box=None, title_justify="left")
    for column in ("FLOPs", "parameters", "frames", "return", "", "runs"):
        table.add_column(column, justify="right")
    best = fitted["best_of_grid"]["return"]["points"][["flops", "params"]]
    for row in best.merge(fitted["cells"]).to_dict("records"):
        interval = _span([row["return_low"], row["return_high"]])
        numbers = (f"{row['flops']:.3g}", f"{row['params']:,.0f}", f"{row['samples']:,.0f}")
        table.add_row(*numbers, f"{row['return']:.4g}", interval, str(row["runs"]))
    return table


def _validation(target: str, checks: dict[str, Any], chosen: str | None) -> Table:
    title = f"{target}: error of each form on budgets it had not seen"
    table = Table(title=title, box=None, title_justify="left")
    for column in ("form", "mean abs log error", ""):
        table.add_column(column)
    for name, check in checks.items():
        table.add_row(
            name, f"{check['mean_abs_log_error']:.4f}", "chosen" if name == chosen else ""
        )
    return table


def _forecast(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="forecast", box=None, title_justify="left")
    table.add_column("FLOPs")
    for row in rows:
        table.add_column(f"{row['flops']:.3g}")
    for name in ("params", "frames", "loss", "return"):
        if any(name in row for row in rows):
            table.add_row(name, *(f"{r[name]:.4g} {_span(r[f'{name}_interval'])}" for r in rows))
    return table
