"""Reads ``fit.json``, which may come from anybody: the values that forecasts and plans need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from agent_scaling.config.check import first_fault
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.secrets import complete, mask
from agent_scaling.tracking.store import STORE_VARIABLE, default_store, same_store

FILE = "fit.json"

Name = Annotated[str, Field(pattern=r"\A\w{1,30}\z")]
Target = Literal["loss", "return"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Value = Positive | None
End = Annotated[float, Field(ge=0)] | None
Ends = tuple[End, End]
STRICT = ConfigDict(strict=True, extra="forbid")
PREDICTED = ("params", "frames", "loss", "return")
NO_FIT = "not a fit.json of `fit`"


@with_config(STRICT)
class Origin(TypedDict, total=False):
    """The options by which a fit's runs are read again."""

    source: Literal["csv", "mlflow"]
    path: str | list[str] | None
    study: str | None
    experiment: str | None
    tracking_uri: str | None
    game: str | None
    merge_within: Number
    where: dict[str, bool | int | float | str | None]
    columns: dict[str, str]
    measure: str
    lowest_return: Number | None
    highest_return: Number | None


@with_config(STRICT)
class Compared(TypedDict):
    """A measurement beside its forecast."""

    measured: Number
    log_error: Annotated[float, Field(ge=-700, le=700)]
    within: bool


Row = TypedDict(
    "Row",
    {
        "flops": Positive,
        "params": Value,
        "params_interval": Ends,
        "frames": Value,
        "frames_interval": Ends,
        "loss": Value,
        "loss_interval": Ends,
        "return": Number | None,
        "return_interval": tuple[float | None, float | None],
        "lowest_return": Number,
        "highest_return": Number,
        "comparison": dict[Target, Compared],
        "law": Name,
        "unique": float | None,
        "passes": float | None,
        "passes_interval": tuple[float | None, float | None],
        "more_games": list[dict[Name, float | tuple[float | None, float | None] | None]],
    },
    total=False,
)
"""A forecast at one budget; ``None``: no finite number."""
with_config(STRICT)(Row)


@with_config(ConfigDict(strict=True))
class Exponent(TypedDict):
    """A power law of the budget, without what else a fit says of it."""

    exponent: Annotated[float, Field(ge=-10, le=10)] | None
    log_coefficient: Annotated[float, Field(ge=-1e3, le=1e3)]


@with_config(ConfigDict(strict=True))
class OfSizes(TypedDict, total=False):
    """The law of the best sizes, of a form and a target."""

    N_opt: Exponent | None


@with_config(ConfigDict(strict=True))
class Repeated(TypedDict):
    """Laws of repeated data."""

    chosen: Literal["effective", "penalty"]


@with_config(ConfigDict(strict=True))
class Hyper(TypedDict):
    """Laws of hyper-parameters, which are fitted again where they are used."""

    cells: int


@with_config(ConfigDict(strict=True))
class FitFile(TypedDict, total=False):
    """The parts of ``fit.json`` that are read; the others are left unread."""

    origin: Origin
    budgets: Annotated[list[Positive], Field(min_length=2, max_length=2)]
    expert_return: Number | None
    forecast: list[Row]
    parabola: dict[Target, OfSizes]
    best_of_grid: dict[Target, OfSizes]
    repeated: Repeated | None
    hyper: Hyper | None


_FIT, _ROW = TypeAdapter(FitFile), TypeAdapter(Row)


def read_fit(fit: str, key: str = "fit") -> dict[str, Any]:
    """Read a fit from ``fit.json`` or the folder that holds it; its keys are :class:`FitFile`'s.

    ``key`` is the user's, for messages.

    Raises:
        InputError: There is none, or it holds values that no fit has.
    """
    path = Path(fit)
    path = path / FILE if path.is_dir() else path
    try:
        found: dict[str, Any] = dict(_FIT.validate_json(path.read_bytes()))
    except OSError as error:
        raise InputError(f"{key}={fit}: {NO_FIT} ({error.strerror})") from error
    except ValidationError as error:
        raise InputError(f"{key}={fit}: {NO_FIT} ({first_fault(error)})") from None
    found["forecast"] = [_whole(row) for row in found.get("forecast", [])]
    return found


def read_fit_of_runs(fit: str, key: str = "fit") -> dict[str, Any]:
    """Read a fit as :func:`read_fit` does, which must say how its runs are read again.

    The key ``file`` holds ``fit``.

    Raises:
        InputError: It does not, or its table is a device or a folder.
    """
    found = read_fit(fit, key) | {"file": fit}
    if not {"origin", "budgets"} <= found.keys() or "source" not in found["origin"]:
        raise InputError(f"{key}={fit}: does not say which runs it was made of; run `fit` again")
    given = found["origin"].get("path") or []
    for table in [given] if isinstance(given, str) else given:
        if Path(table).exists() and not Path(table).is_file():
            raise InputError(f"{key}={fit}: its table {table} is no file; run `fit` again")
    return found


def agreed_store(fitted: Mapping[str, Any], given: str | None = None) -> str:
    """Return the MLflow store of a fit's runs, which the user must have named, too.

    A fit may come from anybody: it does not decide which server is asked.

    Args:
        fitted: The fit, as :func:`read_fit_of_runs` returns it.
        given: The store that the user names; ``None``: that of the environment.

    Raises:
        InputError: The fit names another store than the user.
    """
    own, named = given or default_store(), fitted["origin"].get("tracking_uri")
    if given or named is None or same_store(own, named):
        return own
    if (whole := complete(named)) != named:  # its password is in the user's environment
        return whole
    raise InputError(
        f"fit={fitted['file']}: its runs are in the store {mask(named)}, yours is {mask(own)}; "
        f"if you trust that one, set {STORE_VARIABLE} to it (or give forecast tracking_uri=)"
    )


def check_row(row: Mapping[str, Any]) -> None:
    """Raise ValueError for values that no forecast has, or that have no interval."""
    _ROW.validate_json(json.dumps(row))
    if odd := [name for name in PREDICTED if name in row and f"{name}_interval" not in row]:
        raise ValueError(f"forecast: {odd[0]} has no interval")


def _whole(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a forecast's row without values that are not finite or have no interval."""
    lacking = {n for n in PREDICTED if row.get(n) is None or f"{n}_interval" not in row}
    return {name: value for name, value in row.items() if name not in lacking}
