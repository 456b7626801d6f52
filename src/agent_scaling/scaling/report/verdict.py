"""Says in words what a fit forecasts, what was measured, what to train next, what is unknown."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent_scaling.runtime.formats import clock, compact, short
from agent_scaling.scaling.comparison import zero_of_row

UNITS = {"loss": "nats", "return": "points"}
WIDE = 4.0
"""Factor between the ends of a forecast's interval from which it says little."""
FAR = 10.0
"""Factor beyond the highest budget of the fit from which a forecast is far."""
SHOWN = 3
"""Flags of one kind that are told."""
COUNTED = {"params": "parameters", "frames": "frames"}
LACKS = {
    "no forecast of loss": "The loss ahead",
    "no forecast of return": "The return ahead",
    "not validated": "The forecast's own error",
    "no irreducible loss": "The irreducible loss",
    "failed run": "Runs that did not finish",
    "NaN loss": "Cells without a loss",
}
"""Kinds of flags, and what is not known where one is raised."""

Verdict = dict[str, list[str]]
"""Sentences by title; the first title is that of the verdict itself."""

ANSWER, GROWTH, NEXT, UNKNOWN = "Verdict", "Growth", "Train next", "Not known"


def verdict(fitted: Mapping[str, Any], cautions: Sequence[str] = ()) -> Verdict:
    """Say a fit in words.

    Args:
        fitted: In the shape of ``fit.json``, with DataFrames as points.
        cautions: Sentences about the grid that its plan found, added to what is not known.
    """
    return {
        ANSWER: list(answers(fitted)),
        GROWTH: list(growth(fitted)),
        NEXT: list(advice(fitted)),
        UNKNOWN: [*unknown(fitted), *map(sentence, cautions)],
    }


def sentence(text: str) -> str:
    """Write a line of a plan as a sentence: a capital first, a full stop last."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def answers(fitted: Mapping[str, Any]) -> Iterator[str]:
    """Yield for each target of the first forecast if it holds: the forecast, the measurement."""
    row = fitted["forecast"][0]
    known = [target for target in UNITS if target in row]
    if not known:
        yield "No forecast: it needs four budgets or more with the same measurement."
    for target in known:
        told = f"{digits(row[target])} {UNITS[target]} {span(row[f'{target}_interval'])}"
        found = (row.get("comparison") or {}).get(target)
        if found is None:
            yield f"Forecast of {target}, not tested: {told} for {flops(row['flops'])}."
            continue
        off, zero = math.expm1(found["log_error"]), zero_of_row(row, target)
        above = f" of what lies above {digits(zero)}" if zero else ""
        beside = f"the forecast is {abs(off):.1%}{above} too {'high' if off > 0 else 'low'}"
        holds = "holds" if found["within"] else "does NOT hold"
        ratio = loose(row, target)
        wide = f" But the ends of the interval differ by a factor of {ratio}." if ratio else ""
        yield (
            f"The forecast of {target} {holds}: {told} for {flops(row['flops'])}, and "
            f"{digits(found['measured'])} measured, {'inside' if found['within'] else 'outside'} "
            f"the interval ({beside}).{wide}"
        )


def loose(row: Mapping[str, Any], target: str) -> str:
    """Format the factor by which an interval's ends differ; empty where it is small."""
    low, high = row[f"{target}_interval"]
    zero = zero_of_row(row, target)
    ratio = math.inf if high is None or not low > zero else (high - zero) / (low - zero)
    return "" if ratio < WIDE else "∞" if math.isinf(ratio) else digits(ratio)


def growth(fitted: Mapping[str, Any]) -> Iterator[str]:
    """Yield how best values, sizes and frames grow with ten times the compute."""
    names = {"optimum": None, "N_opt": "size", "D_opt": "number of frames"}
    sizes_of = "loss" if "loss" in fitted["best_of_grid"] else "return"
    lowest = fitted.get("lowest_return")
    above = f", counted from {digits(lowest['value'])}," if lowest and lowest["value"] else ""
    highest = fitted.get("highest_return")
    above += "" if highest is None else f"{'' if above else ','} at most {digits(highest)},"
    for target, law in fitted["best_of_grid"].items():
        for quantity, name in names.items():
            if name is None:
                name = f"{target}{above}" if target == "return" else target
            elif target != sizes_of:
                continue
            bend = bent(fitted["forecast"], target, law[quantity]) if quantity == "optimum" else ""
            yield f"10 × the compute {change(f'the best {name}', law[quantity])}.{bend}"


def bent(forecast: Sequence[Mapping[str, Any]], target: str, law: Mapping[str, Any] | None) -> str:
    """Say how the forecasts grow, where that is not as the power law of the budgets does."""
    rows = [row for row in forecast if target in row]
    if law is None or law.get("interval") is None or len(rows) < 2:
        return ""
    first, last = rows[0], rows[-1]
    decades = math.log10(last["flops"] / first["flops"])
    low, high = (row[target] - zero_of_row(row, target) for row in (first, last))
    if not (decades > 0 and low > 0 and high > 0):
        return ""
    exponent = math.log10(high / low) / decades
    if law["interval"][0] <= exponent <= law["interval"][1]:
        return ""
    return (
        f" The forecasts bend: from {compact(first['flops'], 3)} to {flops(last['flops'])}, it is "
        f"{10.0**exponent:.3g}."
    )


def change(name: str, law: Mapping[str, Any] | None) -> str:
    """Say the change of a quantity with ten times the compute, from its power law."""
    if law is None:
        return f"changes {name} by an unknown factor (not measured at three budgets)"
    if law["exponent"] is None:
        return f"changes {name} by an unknown factor ({law['reason']})"
    factor = 10.0 ** law["exponent"]
    if law["interval"] is None:
        within = f"no interval: {law['reason']}"
    else:
        low, high = (10.0**end for end in law["interval"])
        within = f"{low:.3g} to {high:.3g}"
    exponent = f"{law['exponent']:.3g}".replace("-", "−")
    return f"multiplies {name} by {factor:.3g} ({within}; C^{exponent})"


def advice(fitted: Mapping[str, Any]) -> Iterator[str]:
    """Yield the run to train next: the last forecast's, with its cost."""
    row = fitted["forecast"][-1]
    if "params" not in row:
        yield "No size is forecast: the table has no three budgets with a best size."
        return
    highest = max([fitted["budgets"][1], *(r["flops"] for r in fitted["forecast"][:-1])])
    times = row["flops"] / highest
    beside = f", {times:.3g} × the highest so far" if times > 1 else ""
    sized = [amount(row, name, text) for name, text in COUNTED.items() if name in row]
    text = f"For {flops(row['flops'])}{beside}: {' on '.join(sized)}."
    expected = [
        f"a {target} of {digits(row[target])} {span(row[f'{target}_interval'])}"
        for target in UNITS
        if target in row
    ]
    yield f"{text} Expect {' and '.join(expected)}." if expected else text
    if rate := fitted.get("cpu_seconds_per_flop"):
        yield (
            f"It costs about {clock(row['flops'] * rate)} of CPU time in training, at the rate of "
            "the largest run so far."
        )


def amount(row: Mapping[str, Any], name: str, unit: str) -> str:
    """Say a forecast of sizes or frames; one that is the end of its interval is a bound."""
    low, high = (math.inf if e is None else float(e) for e in row[f"{name}_interval"])
    text = f"{short(row[name], 3)} {unit}"
    if not low > 0:
        return f"at most {text}"
    return f"at least {text}" if math.isinf(high) else f"{text} {span((low, high))}"


def unknown(fitted: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the runs do not show."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for flag in fitted["flags"]:
        kind, _, text = flag.partition(": ")
        kinds[kind].append(text)
    for text in kinds["grid missed the optimum"]:
        yield f"The best size itself: {text}."
    yield from _of_grid(fitted)
    noise = fitted["diagnostics"]["noise"]
    if alone := [target for target, found in noise.items() if not found]:
        yield (
            f"The {' and the '.join(alone)} of another seed: no cell was run twice, so intervals "
            "contain the noise within a run alone."
        )
    for target in UNITS:
        rows = [row for row in fitted["forecast"] if target in row]
        wide = [f"{loose(r, target)} at {flops(r['flops'])}" for r in rows if loose(r, target)]
        if wide:
            yield (
                f"The {target} ahead: the ends of its interval differ by a factor of "
                f"{', and of '.join(wide)}."
            )
    highest, far = fitted["budgets"][1], fitted["forecast"][-1]["flops"]
    if far > highest * FAR:
        times = f"{far / highest:.3g} × the highest budget fitted"
        yield f"The laws at {flops(far)}, {times}: they may not go on so far."
    for kind, start in LACKS.items():
        if kinds[kind]:
            yield f"{start}: {'; '.join(kinds[kind][:SHOWN])}."


def _of_grid(fitted: Mapping[str, Any]) -> Iterator[str]:
    for target, law in fitted["best_of_grid"].items():
        edges, count = int(law["points"]["edge"].sum()), len(law["points"])
        curved = fitted["parabola"][target]["points"]
        inside = int((curved["flag"] == "").sum()) if len(curved) else 0
        told = []
        if edges:
            told.append(f"{edges} have it at an end of the grid, so a better one may lie beyond")
        if inside < count:
            told.append(f"{count - inside} have a profile too flat or too noisy to bound it")
        if told:
            yield f"The best size by {target}: of {count} budgets, {', and '.join(told)}."


def flops(number: float) -> str:
    """Format a budget: ``3e11 FLOPs``."""
    return f"{compact(number, 3)} FLOPs"


def digits(number: float) -> str:
    """Format to three digits, without an exponent where k, M or G do."""
    return short(number, 3) if 1000 <= abs(number) < 1e15 else compact(number, 3)


def span(interval: Sequence[float | None]) -> str:
    """Format an interval; an unbounded end is ∞."""
    ends = [math.inf if end is None else float(end) for end in interval]
    return "[{}, {}]".format(*("∞" if math.isinf(end) else digits(end) for end in ends))


def markdown(said: Verdict) -> str:
    """Write a verdict for MLflow's page of a run."""
    parts = []
    for title, sentences in said.items():
        if sentences:
            parts.append(f"**{title}**\n\n" + "\n".join(f"- {one}" for one in sentences))
    return "\n\n".join(parts)
