"""Tables of other studies: usual names, several tables in one file, diverged runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agent_scaling import fit_laws
from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.fit import fit
from agent_scaling.scaling.runs.measure import take_measure
from agent_scaling.scaling.runs.table import read_csv, tidy
from tests.scaling.synthetic import known_law


@pytest.fixture
def table() -> pd.DataFrame:
    rows = known_law(0.02, 4, budgets=4, sizes=5).rows
    return rows[["flops", "params", "samples", "loss"]].reset_index(drop=True)


def test_tokens_are_samples(table: pd.DataFrame) -> None:
    runs = tidy(table.rename(columns={"samples": "tokens"}), "a table")
    assert runs.rows["samples"].notna().all()


def test_a_table_of_countless_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("params,flops,loss" + ",x" * 10_000 + "\n")
    with pytest.raises(InputError, match="has 10,003 columns"):
        read_csv(str(tmp_path / "runs.csv"))


def test_a_pipe_is_no_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "runs.csv")
    with pytest.raises(InputError, match=r"runs\.csv: is no file"):
        read_csv(str(tmp_path / "runs.csv"))


@pytest.mark.parametrize("infinity", [np.inf, 1.7976931348623157e308])
def test_a_diverged_run_is_named_and_left_out(table: pd.DataFrame, infinity: float) -> None:
    table.loc[3, "loss"] = infinity
    runs = tidy(table, "a table")
    assert any(flag.startswith("no logarithm") for flag in runs.flags)
    assert runs.rows["loss"].max() < 100
    assert runs.cells["loss"].max() < 100


def test_a_column_that_tells_tables_apart_is_chosen_from(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    path = str(tmp_path / "runs.csv")
    other = table.assign(dataset="other", loss=2 * table["loss"])
    pd.concat([table.assign(dataset="c4"), other]).to_csv(path, index=False)
    with pytest.raises(InputError, match="differ in dataset"):
        read_csv(path)
    assert read_csv(path, where={"dataset": "c4"})["loss"].tolist() == pytest.approx(
        table["loss"].tolist()
    )
    assert len(read_csv(path, where={"dataset": None})) == 2 * len(table)
    for one, two in ((1, 2), (True, False), (None, "pile")):
        tables = [table.assign(dataset_id=one), other.assign(dataset_id=two)]
        pd.concat(tables).drop(columns="dataset").to_csv(tmp_path / "ids.csv", index=False)
        with pytest.raises(InputError, match="differ in dataset_id"):
            read_csv(str(tmp_path / "ids.csv"))
    with pytest.raises(InputError, match=r"use one of \['c4', 'other'\]"):
        read_csv(path, where={"dataset": "pile"})
    with pytest.raises(InputError, match="has the columns"):
        read_csv(path, where={"data": "c4"})


def test_columns_may_have_names_of_their_own(table: pd.DataFrame, tmp_path: Path) -> None:
    path = str(tmp_path / "runs.csv")
    own = {"params": "n_parameters", "loss": "nll"}
    theirs = table.rename(columns=own).assign(loss=99.0)  # another loss, that is not meant
    theirs.to_csv(path, index=False)
    assert fit_laws(path, columns=own).exponents.equals(fit_laws(table).exponents)
    with pytest.raises(InputError, match=r"columns\.params=N: .* has the columns"):
        read_csv(path, columns={"params": "N"})
    with pytest.raises(InputError, match=r"columns\.size: unknown; use one of game, run"):
        read_csv(path, columns={"size": "nll"})


def test_a_program_chooses_as_the_command_does(table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    other = table.assign(dataset="other", loss=2 * table["loss"])
    pd.concat([table.assign(dataset="c4"), other]).to_csv(path, index=False)
    chosen = fit_laws(path, where={"dataset": "c4"})
    assert chosen.exponents.equals(fit_laws(table).exponents)


def test_another_measure_of_episodes_is_fitted_as_the_return(table: pd.DataFrame) -> None:
    scores = table.assign(return_mean=1 / table["loss"], expert_return=9.0)
    rising = table["flops"] ** 0.3
    both = scores.assign(progression_mean=rising, progression_se=rising / 10)
    taken = tidy(take_measure(both, "progression", "a table"), "a table").rows
    assert taken["return"].tolist() == pytest.approx(sorted(rising))
    assert taken["return_se"].tolist() == pytest.approx((taken["return"] / 10).tolist())
    assert taken["expert"].isna().all()  # a score
    assert take_measure(both, "return", "a table") is both
    with pytest.raises(InputError, match="measure=gold: a table has none of the columns gold_mean"):
        take_measure(both, "gold", "a table")


def test_a_fit_of_several_versions_of_a_game_says_so(table: pd.DataFrame, tmp_path: Path) -> None:
    seeds = [table.assign(seed=seed, versions=f"nle 1.{seed}") for seed in (0, 1)]
    seeds.append(table.assign(seed=1))  # a table of before, of the same cells
    path, count = tmp_path / "cells.csv", len(table)
    pd.concat(seeds).to_csv(path, index=False)
    keys = {"bootstraps": 0, "figures": False, "output": str(tmp_path)}
    flags = fit(source="csv", path=str(path), **keys)["flags"]
    assert flags[0] == (
        f"mixed versions: games learnt by nle 1.0 ({count}); nle 1.1 ({count}); "
        f"unknown versions ({count})"
    )
    seeds[0].assign(played_versions="nle 1.0").to_csv(path, index=False)
    flags = fit(source="csv", path=str(path), **keys)["flags"]
    assert not any(flag.startswith("mixed versions") for flag in flags)


def test_a_fit_says_which_measure_it_is_of(table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    table.assign(**{"rollout/progression_mean": table["flops"] ** 0.3}).to_csv(path, index=False)
    keys = {"path": str(path), "bootstraps": 0, "figures": False, "output": str(tmp_path)}
    found = fit(source="csv", measure="progression", **keys)
    assert found["origin"]["measure"] == "progression"
    assert found["best_of_grid"]["return"]["optimum"]["exponent"] == pytest.approx(0.3, abs=1e-6)
    assert "measure" not in fit(source="csv", **keys)["origin"]


@pytest.mark.parametrize("kind", ["loss", "return"])
def test_numbers_of_any_size_are_fitted(tmp_path: Path, kind: str) -> None:
    """Sizes over seven decades and one loss of 1e200; returns whose squares overflow."""
    lines = [f"params,flops,samples,{kind}"]
    for k, flops in enumerate(np.geomspace(0.1, 1e22, 7)):
        for s, params in enumerate(np.geomspace(10, 1e8, 4)):
            samples = flops / 6 / params
            loss = 0.1 + 50 / params**0.4 + 2e4 / max(samples, 1e-9) ** 0.5
            loss = 1e200 if (k, s) == (4, 3) else loss
            value = loss if kind == "loss" else [-1e300, 5.0, 1e300, 1e-300][(k + s) % 4]
            lines.append(f"{params},{flops},{samples},{value}")
    (tmp_path / "runs.csv").write_text("\n".join(lines))
    path, output = str(tmp_path / "runs.csv"), str(tmp_path / "fit")
    assert fit(source="csv", path=path, figures=False, bootstraps=3, output=output)["forecast"]


def test_a_message_does_not_quote_a_whole_file(table: pd.DataFrame, tmp_path: Path) -> None:
    twice = [table.assign(**{"x" * 5000: text}) for text in ("a" * 5000, "b" * 5000)]
    pd.concat(twice).to_csv(tmp_path / "runs.csv", index=False)
    with pytest.raises(InputError) as refused:
        read_csv(str(tmp_path / "runs.csv"))
    assert "rows of one budget and size differ in xxx" in str(refused.value)
    assert len(str(refused.value)) < 1500


def text_of(table: pd.DataFrame, **options: object) -> str:
    """The table as a CSV of other separators or decimal marks."""
    return str(table.to_csv(index=False, **options))  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: text_of(t, sep=";", decimal=","), "not separated by commas: 'flops;params"),
        (lambda t: text_of(t, sep="\t"), "not separated by commas"),
        (lambda t: text_of(t).replace("samples", "loss"), "has the heading loss twice"),
        (lambda t: text_of(t.assign(**{"NA": 1, "NA ": 2})), "has the heading NA twice"),
        (
            lambda t: text_of(t.assign(params=t["params"].map("{:,.0f}".format))),
            "no numbers, but '",
        ),
        (lambda t: text_of(t.rename(columns=str.upper)), r"one of \['FLOPS', 'PARAMS'"),
        (lambda t: text_of(t.assign(flops=-t["flops"])), "no row has FLOPs and parameters above 0"),
        (lambda t: text_of(t.iloc[:0]), "has no row"),
        (lambda t: text_of(t).replace("\n", ",7\n").replace(",7", "", 1), "not a readable CSV"),
    ],
)
def test_a_file_that_is_written_otherwise_is_named(
    table: pd.DataFrame, tmp_path: Path, change: Callable[[pd.DataFrame], str], message: str
) -> None:
    (tmp_path / "runs.csv").write_text(change(table))
    with pytest.raises(InputError, match=message):
        tidy(read_csv(str(tmp_path / "runs.csv")), "a table")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", ",\n").replace(
            ",\n", "\n", 1
        ),  # of every row but the first
        lambda text: text.replace(",", ", ").replace("loss", "loss "),
        lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    ],
    ids=["commas at the ends", "spaces", "another system's"],
)
def test_what_is_written_otherwise_and_means_the_same(
    table: pd.DataFrame, tmp_path: Path, change: Callable[[str], str]
) -> None:
    (tmp_path / "runs.csv").write_text(change(text_of(table)), encoding="utf-8", newline="")
    read = read_csv(str(tmp_path / "runs.csv"))
    pd.testing.assert_frame_equal(read[list(table)], table, check_dtype=False)


@pytest.mark.parametrize("infinity", [np.inf, 1.7976931348623157e308])
def test_an_infinite_number_beside_the_losses_is_unknown(
    table: pd.DataFrame, infinity: float
) -> None:
    columns = ["cpu_seconds", "batch", "lr", "unique", "loss_se", "return_se", "n_rollouts"]
    runs = tidy(table.assign(**dict.fromkeys(columns, infinity)), "a table")
    assert runs.cpu_rate() is None
    assert runs.rows[[*columns[:-1], "rollouts"]].isna().all(None)


def test_a_return_of_minus_infinity_is_named(table: pd.DataFrame) -> None:
    table["return"] = 1 / table["loss"]
    table.loc[3, "return"] = -1.7976931348623157e308
    runs = tidy(table, "a table")
    assert runs.zero == 0
    assert any(flag.startswith("no logarithm") for flag in runs.flags)


def test_ids_of_runs_whose_store_is_elsewhere_stop_no_fit(
    table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table.assign(mlflow_run_id="feed").to_csv(tmp_path / "cells.csv", index=False)
    away = f"sqlite:///{tmp_path}/mlflow.db"
    options = {"tracking_uri": away, "bootstraps": 0, "log": False, "show": "nothing"}
    fit(source="csv", path=str(tmp_path / "cells.csv"), output=str(tmp_path), **options)
    assert (tmp_path / "report.html").exists()
    assert "leaves out the runs' replays and parameters: tracking_uri=" in capsys.readouterr().out


def test_messages_hold_the_beginnings_of_a_tables_cells_alone(tmp_path: Path) -> None:
    """A cell, or the number of its distinct values, may be as large as the file."""
    long = [f"{game}{'x' * 3000}" for game in range(90)]
    table = pd.DataFrame({"flops": 1e12, "params": 1e6, "loss": 1.0, "game": long, "y" * 9000: 1})
    table.to_csv(tmp_path / "t.csv", index=False)
    first = long[0]
    for options in (
        {},
        {"game": "pong"},
        {"game": first, "where": {"game": "pong"}},
        {"game": first, "where": {"seed": 1}},
        {"game": first, "columns": {"loss": "nats"}},
    ):
        with pytest.raises(InputError) as refused:
            read_csv(str(tmp_path / "t.csv"), **options)
        assert len(str(refused.value)) < 1500, options
