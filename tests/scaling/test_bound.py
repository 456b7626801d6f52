"""Returns that a game's rules bound: no forecast passes the highest one, and intervals hold."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from agent_scaling.cli.main import main
from agent_scaling.runtime.errors import InputError
from agent_scaling.scaling.api import fit_laws
from agent_scaling.scaling.fit import fit
from agent_scaling.scaling.fitting import bootstrap, returns
from agent_scaling.scaling.fitting.forecasts import compete
from agent_scaling.scaling.forecast import forecast
from agent_scaling.scaling.laws import bound
from agent_scaling.scaling.report import marks
from agent_scaling.scaling.runs.fit_file import check_row
from agent_scaling.scaling.runs.plain_json import plain
from agent_scaling.scaling.runs.table import tidy

FLOPS = np.geomspace(1e9, 6.4e10, 7)
AHEAD = FLOPS[-1] * np.array([2.0, 4.0, 10.0])
SIZES = {1e4: 0.75, 3e4: 0.9, 1e5: 1.0, 3e5: 0.88, 1e6: 0.7}
"""Parameters, and what they make of the best size's odds."""
EPISODES = 150


def law(flops, last, power=0.7):
    """Return in (0, 1) of the best size: a sigmoid in log compute, ``last`` at the last budget."""
    odds = last / (1 - last) * (np.asarray(flops) / FLOPS[-1]) ** power
    return odds / (1 + odds)


def table(last=0.9, seed=0, lowest=0.0, highest=1.0):
    """Shares of episodes won, as returns from ``lowest`` to ``highest``."""
    generator, rows = np.random.default_rng(seed), []
    for params, worth in SIZES.items():
        for flops in FLOPS:
            odds = worth / (1 / law(flops, last) - 1) * np.exp(0.12 * generator.standard_normal())
            won = generator.binomial(EPISODES, odds / (1 + odds)) / EPISODES
            row = {"flops": flops, "params": params, "samples": flops / 6 / params}
            spread = (highest - lowest) * np.sqrt(won * (1 - won) / EPISODES)
            row |= {"return_mean": lowest + (highest - lowest) * won, "return_se": spread}
            rows.append(row | {"n_rollouts": EPISODES})
    return pd.DataFrame(rows)


def test_a_return_and_its_stretched_value():
    value = np.array([1e-9, 0.3, 0.97, 1.0])
    back = np.exp(bound.squeeze(np.log(bound.stretch(value, 1.0)), 1.0))
    assert back[:3] == pytest.approx(value[:3])
    assert back[3] == pytest.approx(1, abs=bound.MARGIN)
    assert bound.stretch(1e-9, 1.0) == pytest.approx(1e-9)
    assert bound.squeeze(np.array([1e6, np.inf]), 3.0).max() <= np.log(3.0)
    assert bound.room(np.log([0.75, 1.0]), 1.0) == pytest.approx([0.25, 0])


def test_intervals_hold_a_bounded_law_and_none_passes_its_bound():
    held = []
    for last in (0.2, 0.6, 0.9, 0.97):
        for seed in range(5):
            cells = tidy(table(last, seed), "drawn").cells
            found = compete(cells, "return", None, None, highest=1.0)
            mean, low, high = np.exp(found.predict(cells, np.log(AHEAD)))
            assert (low > 0).all()
            assert high.max() <= 1 + 1e-12
            assert mean == pytest.approx(law(AHEAD, last), rel=0.5)
            held.append((low <= law(AHEAD, last)) & (law(AHEAD, last) <= high))
    assert np.mean(held) >= 0.85


def test_the_bound_changes_nothing_far_below_it():
    cells = tidy(table(0.2), "drawn").cells
    free, bounded = (compete(cells, "return", None, None, most) for most in (None, 1e9))
    pairs = zip(
        free.predict(cells, np.log(AHEAD)), bounded.predict(cells, np.log(AHEAD)), strict=True
    )
    for one, other in pairs:
        assert other == pytest.approx(one, abs=1e-4)


@pytest.mark.parametrize(("lowest", "highest"), [(-21.0, 21.0), (-5.0, -1.0)])
def test_negative_ranges_are_those_of_0_to_1_moved(lowest, highest):
    plain = fit_laws(table(), lowest_return=0.0, highest_return=1.0)
    moved = fit_laws(
        table(lowest=lowest, highest=highest), lowest_return=lowest, highest_return=highest
    )
    one, other = (laws.forecast([*AHEAD, 1e20]) for laws in (plain, moved))
    assert one["return_high"].max() <= 1
    assert other["return_high"].max() <= highest
    for name in ("return", "return_low", "return_high"):
        want = lowest + (highest - lowest) * one[name]
        assert other[name].to_numpy() == pytest.approx(want.to_numpy())
    assert moved.fitted["saturating"]["return"]["R_max"] <= highest


def test_an_estimated_lowest_return_does_not_widen_beyond_the_bound():
    laws = fit_laws(table(lowest=-21.0, highest=21.0), highest_return=21.0)
    assert laws.runs.lowest.interval is not None
    row = laws.forecast(1e14).iloc[0]
    assert row["return_low"] < row["return"] <= row["return_high"] <= 21


def numbers(value):
    """All numbers of a part of ``fit.json``."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, float) else []


def test_a_fit_keeps_its_bound(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    table(0.97).to_csv(path, index=False)
    options = {"source": "csv", "path": str(path), "bootstraps": 10, "highest_return": 1.0}
    options |= {"forecast": [2.56e11, 1e15], "measured": {"return": 0.98}}
    fit(**options, output=str(tmp_path))
    kept = json.loads((tmp_path / "fit.json").read_text())
    assert kept["highest_return"] == kept["origin"]["highest_return"] == 1.0
    assert "R is at most 1, by the game's rules" in capsys.readouterr().out
    assert "the best return, at most 1, by" in kept["verdict"]["Growth"][0]
    assert "no return lies above 1" in (tmp_path / "report.html").read_text(encoding="utf-8")
    points = kept["parabola"]["return"]
    law_of = kept["saturating"]["return"]
    given = [p[f"value{end}"] for p in points["points"] for end in ("", "_low", "_high")]
    given += [p["value"] for p in points["symmetric"]["points"]]
    given += [law_of["R_max"], law_of["R_max_interval"]]
    given += [[row["return"], row["return_interval"]] for row in kept["forecast"]]
    given += [[cell["return"], cell["return_high"]] for cell in kept["cells"]]
    assert max(numbers(given)) <= 1
    again = forecast(fit=str(tmp_path), budget=1e13, measured={"return": 1.0})
    assert again["return_interval"][1] <= again["highest_return"] == 1
    check_row(plain(again))  # a plan keeps it
    reached = forecast(fit=str(tmp_path), **{"return": kept["forecast"][0]["return"]})
    assert reached["flops"] == pytest.approx(2.56e11, rel=0.1)
    for said in ({"budget": 1e13, "measured": {"return": 1.1}}, {"return": 1.1}):
        with pytest.raises(InputError, match="lies above highest_return=1"):
            forecast(fit=str(tmp_path), **said)


def test_curves_end_at_the_bound():
    laws = fit_laws(table(0.97), highest_return=1.0)
    drawn = marks.curves(laws.fitted, "return", np.geomspace(1e9, 1e15, 50))
    assert len(drawn) == 2
    assert all(np.nanmax(curve) <= 1 for curve, _, _ in drawn)
    bounded, line = (curve for curve, _, _ in drawn)
    assert np.isfinite(bounded).all()
    assert np.isnan(line[-1])


def test_a_return_above_the_highest_is_one_line(tmp_path, monkeypatch, capsys):
    path = tmp_path / "runs.csv"
    rows = table(0.6)
    rows.loc[13, "return_mean"] = 1.02
    rows.to_csv(path, index=False)
    words = ["fit", "source=csv", f"path={path}", "highest_return=1", f"output={tmp_path}/out"]
    monkeypatch.setattr("sys.argv", ["agent-scaling", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"path={path}: row 13 (6.4e+10 FLOPs, 30000 parameters" in line
    assert "has the return 1.02, above highest_return=1; correct" in line
    rounded = table(0.6).assign(return_mean=lambda rows: rows["return_mean"].clip(upper=0.5))
    rounded.loc[13, "return_mean"] = 0.5 + 1e-9
    assert tidy(rounded, "table", highest_return=0.5).cells["return"].max() == 0.5
    for highest in (0.0, np.inf):
        with pytest.raises(InputError, match=r"highest_return=.* give a return above 0, that laws"):
            tidy(rounded.assign(return_mean=0.0), "table", highest_return=highest)


def test_the_expert_saturates_below_the_bound_or_is_it():
    cells = tidy(table(0.6), "drawn").cells
    names = [returns.return_forms(None, expert, 1.0) for expert in (0.9, 1.0, None)]
    assert ["expert" in forms for forms in names] == [True, False, False]
    far = names[0]["expert"](cells, np.log([1e20]))
    assert np.exp(far.mean[0]) == pytest.approx(0.9, rel=1e-3)
    with pytest.raises(InputError, match=r"expert_return=1\.5: lies above highest_return=1"):
        fit_laws(table(0.6), expert_return=1.5, highest_return=1.0)


def test_an_expert_below_0_is_read_again(tmp_path):
    path = tmp_path / "runs.csv"
    table(0.6, lowest=-21.0, highest=21.0).to_csv(path, index=False)
    options = {"source": "csv", "path": str(path), "bootstraps": 0, "figures": False}
    bounds = {"lowest_return": -21.0, "highest_return": 21.0}
    for expert in (-1.5, 0.0):
        fit(**options, **bounds, expert_return=expert, show="nothing", output=str(tmp_path))
        kept = json.loads((tmp_path / "fit.json").read_text())
        assert kept["expert_return"] == expert
        again = forecast(fit=str(tmp_path), budget=2 * kept["forecast"][0]["flops"], show=False)
        assert again["return"] <= 21


def test_resampled_returns_do_not_pass_the_bound():
    runs = tidy(table(0.97), "drawn", highest_return=1.0)
    _, score = bootstrap.resample(bootstrap.as_grid(runs), 50, np.random.default_rng(0))
    assert np.nanmax(score) <= 0
