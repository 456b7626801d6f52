"""Tidies runs from a CSV or MLflow into one table, and flags everything that it leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import is_url
from agent_scaling.scaling.intervals import half_width
from agent_scaling.scaling.laws.lowest import Lowest
from agent_scaling.scaling.runs.budgets import MERGE_WITHIN, merge_budgets
from agent_scaling.scaling.runs.choice import (
    LETTERS,
    choose,
    cut,
    headings,
    listing,
    read_file,
    rename,
    texts,
)
from agent_scaling.scaling.runs.flags import flag_cells, flag_rows
from agent_scaling.scaling.runs.lowest import (
    RETURNS,
    check_highest,
    cut_returns,
    flag_lowest,
    lowest_of,
)
from agent_scaling.scaling.runs.settled import settled

if TYPE_CHECKING:
    from pandas.api.typing import SeriesGroupBy

COLUMNS = {
    "run": ("run", "run_id"),
    "seed": ("seed",),
    "params": ("params",),
    "flops": ("flops", "milestone", "budget"),
    "samples": ("samples", "frames", "tokens"),
    "unique": ("unique", "unique_frames", "unique_tokens"),
    "lr": ("lr", "learning_rate"),
    "batch": ("batch", "batch_frames"),
    "loss": ("eval_loss", "loss", "val/nats"),
    "loss_se": ("eval_se", "loss_se", "val/nats_se"),
    "return": ("return_mean", "return", "rollout/return_mean"),
    "return_se": ("return_se", "rollout/return_se"),
    "expert": ("reference/recorded_return_mean", "expert_return"),
    "rollouts": ("n_rollouts", "rollouts", "episodes", "rollout/episodes"),
    "status": ("status",),
    "cpu_seconds": ("cpu_seconds",),
    "mlflow_run_id": ("mlflow_run_id",),
}
"""Our column names, each with the names that a table may use; the first one found is read."""

TEXT = ("run", "status", "mlflow_run_id")
"""Columns of text; the others are numbers."""

JUDGED = ("flops", "params", "samples", "loss", "return")
"""Columns whose infinite values are flagged; infinite values of the others count as unknown."""

ENDLESS = 10**9
"""Degrees of freedom that stand for a known standard error."""

LARGEST = 1.79e308
"""The largest finite number: MLflow stores 1.797e308 for the infinity of a diverged run."""

EDGE = 0.01
"""Fraction by which a budget may lie outside the requested ``budgets``."""


@dataclass
class Runs:
    """A table of runs, ready for fitting.

    Attributes:
        rows: One row per evaluated checkpoint, columns of :data:`COLUMNS`; flops in FLOPs, samples
            in frames, loss in nats per action, return and the expert's return in the game's points.
        cells: One row per (flops, params), over its ``rows``: the mean of log loss, the mean return
            weighted by rollouts, ``_low`` and ``_high`` of both, and ``runs`` (their number).
        flags: Missing, failed, averaged and dropped data, one line each, "kind: detail".
        experiments: Ids of the MLflow experiments of the runs.
        every: All rows: of cells that were run on several numbers of distinct frames, or with
            several learning rates or batches, ``rows`` has the most frames and the best setting.
        lowest: The return that laws count from; ``None``: 0.
        highest: The highest return that the game's rules allow; ``None``: not known.
    """

    rows: pd.DataFrame
    cells: pd.DataFrame
    flags: list[str] = field(default_factory=list)
    experiments: list[str] = field(default_factory=list)
    every: pd.DataFrame = field(default_factory=pd.DataFrame)
    lowest: Lowest | None = None
    highest: float | None = None

    @property
    def zero(self) -> float:
        """The return that laws count from, in points per episode."""
        return self.lowest.value if self.lowest else 0.0

    def expert(self, given: float | None = None) -> float | None:
        """Return the expert's return: ``given``, else the median over the runs that hold one.

        ``None`` where no run holds one, or it does not lie above :attr:`zero`.

        Raises:
            InputError: ``given`` does not lie above :attr:`zero`, or lies above :attr:`highest`.
        """
        if given is not None:
            if not given > self.zero:
                raise InputError(f"expert_return={given}: give a return above {self.zero:g}")
            if self.highest is not None and given > self.highest:
                above = f"above highest_return={self.highest:g}; correct one of them"
                raise InputError(f"expert_return={given}: lies {above}")
            return float(given)
        known = self.rows["expert"].dropna()
        return float(known.median()) if known.median() > self.zero else None

    def cpu_rate(self) -> float | None:
        """Return the CPU seconds per FLOP of the largest run at its last budget, if it has them."""
        known = self.rows[self.rows["cpu_seconds"] > 0]
        if not len(known):
            return None
        last = known.sort_values(["flops", "params"]).iloc[-1]
        return float(last["cpu_seconds"] / last["flops"])

    def stored(self) -> list[str]:
        """Return the distinct known ids of the MLflow runs."""
        return [str(run_id) for run_id in self.rows["mlflow_run_id"].dropna().unique()]

    def counted(self, zero: float | None = None) -> Runs:
        """Return these runs with every return less ``zero``, by default :attr:`zero`.

        :attr:`highest` is counted from there, too.
        """
        by = self.zero if zero is None else zero
        if by == 0:
            return self
        rows = self.rows.assign(**{"return": self.rows["return"] - by})
        cells = self.cells.assign(**{name: self.cells[name] - by for name in RETURNS})
        highest = None if self.highest is None else self.highest - by
        return replace(self, rows=rows, cells=cells, lowest=None, highest=highest)

    def target(self, name: str) -> pd.DataFrame:
        """Select the cells where the target ``name``, ``loss`` or ``return``, is positive."""
        return self.cells[self.cells[name] > (self.zero if name == "return" else 0.0)]


def read_csv(
    path: str | Sequence[str],
    game: str | None = None,
    where: Mapping[str, object] | None = None,
    columns: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Read the rows of one CSV, or of several whose columns complete each other.

    ``where`` selects the rows whose columns have those values; None takes any. ``columns`` has the
    table's names for some of :data:`COLUMNS`. A column ``value`` is the return where the file's
    name contains "return", else the loss.

    Raises:
        InputError: A file is a URL or cannot be read, the game is unknown or ambiguous, or a column
            of text tells several tables apart that ``where`` does not choose from.
    """
    paths = [path] if isinstance(path, str) else list(path)
    if urls := [given for given in paths if is_url(given)]:
        raise InputError(f"path={urls[0]}: tables are read from files: download it")
    tables = [_read_one(Path(p), game, where or {}, columns or {}) for p in paths]
    # A copy, because pandas warns of a wide table that grows.
    return pd.concat(tables, ignore_index=True).copy().assign(partial=len(tables) > 1)


def _read_one(
    path: Path, game: str | None, where: Mapping[str, object], columns: Mapping[str, str]
) -> pd.DataFrame:
    table = rename(read_file(path), columns, path, COLUMNS)
    if "game" in table:
        known = texts(table["game"])
        if game is None and known and (len(known) > 1 or table["game"].isna().any()):
            raise InputError(f"path={path}: holds several games; add game= one of {listing(known)}")
        if game is not None and game not in known:
            raise InputError(f"game={game}: not in {path}; use one of {listing(known)}")
        table = table if game is None else table[table["game"].map(str) == game]
    table = choose(table, where, path, COLUMNS)
    if "value" in table:
        meant = "return" if "return" in path.name else "loss"
        if meant in table:
            raise InputError(f"path={path}: has both value and {meant}; remove or rename one")
        table = table.rename(columns={"value": meant})
    return table.reset_index(drop=True)


def as_rows(table: pd.DataFrame, origin: str) -> pd.DataFrame:
    """Rename a table's columns to ours; absent ones are NaN.

    Raises:
        InputError: The table has no FLOPs, no parameters, or neither loss nor return.
    """
    columns: dict[str, np.ndarray] = {}  # arrays, because a frame that grows by series is slow
    for ours, theirs in COLUMNS.items():
        found = next((name for name in theirs if name in table), None)
        if not found:
            columns[ours] = np.full(len(table), np.nan, object if ours in TEXT else float)
        elif ours in TEXT:
            columns[ours] = table[found].to_numpy(object)
        else:
            number = numbers_of(table[found])
            number = np.where(abs(number) > LARGEST, np.copysign(np.inf, number), number)
            columns[ours] = number if ours in JUDGED else np.where(np.isinf(number), np.nan, number)
    for name in ("flops", "params"):
        if np.isnan(columns[name]).all():
            raise InputError(f"{origin}: {without_numbers(table, COLUMNS[name])}")
    if np.isnan(columns["loss"]).all() and np.isnan(columns["return"]).all():
        names = COLUMNS["loss"] + COLUMNS["return"]
        raise InputError(f"{origin}: no loss and no return; name a column one of {names}")
    rows = pd.DataFrame(columns, index=table.index)
    rows["partial"] = bool(table["partial"].any()) if "partial" in table else False
    if rows["run"].isna().all():  # rows of one size are checkpoints of one run and correlate
        seed = table["seed"].astype(str) if "seed" in table else ""
        rows["run"] = rows["params"].map("{:.0f}".format) + "/" + seed
    return rows


def without_numbers(table: pd.DataFrame, names: Sequence[str]) -> str:
    """Say why a table has no numbers under any of ``names``."""
    found = next((name for name in names if name in table), None)
    if not len(table):
        return "has no row"
    if found is None:
        say_it = f"columns={{{names[0]}: NAME}}"
        return f"no column of {names}; name one of {headings(table)} so, or give {say_it}"
    held = cut(str(table[found].dropna().iloc[0]), LETTERS) if table[found].notna().any() else ""
    return f"column {found} holds no numbers, but {held!r}: write them as 1234567 or 1.2e6"


def numbers_of(values: pd.Series) -> npt.NDArray[np.float64]:
    """Return a column's numbers; text is NaN, and integers beyond a double's range are infinite."""
    if values.dtype != np.float64:
        try:
            values = pd.to_numeric(values, errors="coerce")
        except OverflowError:  # pandas reads them as Python's own
            values = pd.to_numeric(values.map(str), errors="coerce")
    return values.to_numpy(float, na_value=np.nan)


def tidy(
    table: pd.DataFrame,
    origin: str,
    budgets: Sequence[float] | None = None,
    merge_within: float = MERGE_WITHIN,
    lowest_return: float | None = None,
    highest_return: float | None = None,
) -> Runs:
    """Select rows within ``budgets`` (lowest, highest FLOPs), average them into cells, and flag.

    Budgets are merged by :func:`merge_budgets`; :func:`lowest_of` finds the return that laws count
    from. Intervals of cells end at ``highest_return``.

    Raises:
        InputError: No rows are left to fit, ``merge_within`` is not a fraction, no return lies
            above ``lowest_return``, or one lies above ``highest_return``.
    """
    if not 0 <= merge_within < 1:
        raise InputError(f"merge_within={merge_within}: give a fraction from 0 (none) to below 1")
    rows = as_rows(table, origin)
    flags: list[str] = []
    numbers = rows[["flops", "params"]]
    unusable = ~((numbers > 0) & np.isfinite(numbers)).all(axis=1)
    for number, row in rows[unusable].iterrows():
        flags.append(f"missing metric: row {number} (run {row['run']}) has no flops or params")
    rows = rows[~unusable].copy()
    if rows.empty:
        raise InputError(f"{origin}: no row has FLOPs and parameters above 0")
    rows["flops"], merged = merge_budgets(rows["flops"].to_numpy(float), merge_within)
    flags += merged
    if budgets is not None:
        low, high = budgets[0] * (1 - EDGE), budgets[-1] * (1 + EDGE)
        rows = rows[(rows["flops"] >= low) & (rows["flops"] <= high)]
    if rows.empty:
        raise InputError(f"{origin}: no run within budgets={budgets}; widen them")
    if highest_return is not None:
        check_highest(rows, origin, highest_return)
    rows = rows.sort_values(["flops", "params"], kind="stable").reset_index(drop=True)
    values = ["samples", "loss", "return"]
    finite = rows.assign(**{name: rows[name].where(np.isfinite(rows[name])) for name in values})
    used, lines = settled(finite)
    cells = cut_returns(_average(used), RETURNS, highest_return)
    lowest = lowest_of(cells, lowest_return)
    zero = {"return": lowest.value if lowest else 0.0}
    if highest_return is not None and not zero["return"] < highest_return < np.inf:
        above = f"give a return above {zero['return']:g}, that laws count from"
        raise InputError(f"highest_return={highest_return:g}: {above}")
    flags += [*flag_rows(rows, zero), *flag_lowest(lowest, lowest_return), *lines]
    flags += flag_cells(used, cells, zero)
    return Runs(used, cells, flags, every=finite, lowest=lowest, highest=highest_return)


def _average(rows: pd.DataFrame) -> pd.DataFrame:
    """Average rows into cells: the mean of log loss, and of returns weighted by rollouts."""
    work = rows.copy()
    work["log_loss"] = np.log(work["loss"].where(work["loss"] > 0))
    known = work["return"].notna()
    work["weight"] = work["rollouts"].fillna(1.0).where(known)
    work["weighted"] = work["return"] * work["weight"]
    work["weighted_se2"] = (work["return_se"] * work["weight"]) ** 2
    groups = work.groupby(["flops", "params"])
    cells = groups[["samples", "log_loss", "loss_se"]].mean()
    weight = groups["weight"].sum(min_count=1)
    cells["loss"] = np.exp(cells["log_loss"])
    cells["return"] = groups["weighted"].sum(min_count=1) / weight
    cells["return_se"] = np.sqrt(groups["weighted_se2"].sum(min_count=1)) / weight
    cells["rollouts"] = weight
    cells["runs"] = groups.size()
    half = _half_width(groups["log_loss"], cells["loss_se"] / cells["loss"])
    cells["loss_low"], cells["loss_high"] = (cells["loss"] * np.exp(s * half) for s in (-1, 1))
    half = _half_width(groups["return"], cells["return_se"])
    cells["return_low"], cells["return_high"] = cells["return"] - half, cells["return"] + half
    return cells.reset_index()


def _half_width(runs: SeriesGroupBy[Any, Any], own_se: pd.Series) -> pd.Series:
    """Return half of the t-interval of a mean over runs; of a single run, by its standard error.

    The variance between runs includes each run's own error. A bootstrap of three runs would cover
    the truth in fewer than 8 of 10 cases (``tests/scaling/test_runs.py``).
    """
    count, known = runs.count(), own_se.copy()
    several = count > 1
    known[several] = (runs.std() / np.sqrt(count))[several]
    spare = (count - 1).where(several, ENDLESS)
    return known * spare.map({n: half_width(1.0, n) for n in spare.unique()})
