"""The picture of a sweep: read from the files of its runs, as wide and high as the terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from agent_scaling.studies.display import watch as watching
from agent_scaling.studies.display.cells import measured_cells
from agent_scaling.studies.display.picture import draw, grid_of
from agent_scaling.studies.display.show import Show, showing
from agent_scaling.studies.display.watch import Watch, look
from agent_scaling.studies.plan_file import Plan, Run, Store, load
from agent_scaling.tracking.standing import Standing, write_standing

BUDGETS = (1e9, 2e9, 4e9, 8e9)
SIZES = (10_000, 20_000, 40_000)


def run_of(params: int, budgets: tuple[float, ...], branched: float = 0.0) -> Run:
    name = f"{params // 1000}k-{budgets[-1]:g}"
    costs = {"cost": 1e5, "model_cost": 1e5, "step_frames": 10, "epoch_frames": 10**6}
    return Run(
        name, "tiny", "", params, params, 0, budgets=budgets, branched=branched, **costs
    )  # fmt: skip


def plan_of(*runs: Run) -> Plan:
    return Plan("tiny", "model", {}, {}, "", Store("sqlite:///x.db", "game", None), runs)


def grid() -> Plan:
    return plan_of(*(run_of(n, (b,)) for n in SIZES for b in BUDGETS))


def trains(run: Run, folder: Path, frames: int, **more: object) -> None:
    """Leave the files of a run that trains."""
    output = run.output(folder)
    output.mkdir(parents=True, exist_ok=True)
    (output / "train.log").touch()
    write_standing(output, Standing(frames, 1000.0, 1.25, **more))


def ends(
    run: Run,
    folder: Path,
    losses: Mapping[float, float],
    status: int = 0,
    metric: str = "val/nats",
) -> None:
    """Leave the files of a run that has ended with these held-out losses, or another metric."""
    output = run.output(folder)
    output.mkdir(parents=True, exist_ok=True)
    (output / "train.log").touch()
    (output / "exit_status").write_text(str(status))
    rows = [{"milestone": b, "frames": b / run.cost, metric: v} for b, v in losses.items()]
    (output / "milestones.json").write_text(json.dumps(rows))


def loss(run: Run) -> float:
    """A loss that falls with the budget, and has its best at 20,000 parameters."""
    return (run.budgets[-1] / 1e9) ** -0.1 * {10_000: 1.1, 20_000: 1.0, 40_000: 1.2}[run.params]


def test_a_run_is_where_its_files_say(tmp_path: Path) -> None:
    run = run_of(10_000, (1e9,))
    assert (look(run, tmp_path).state, look(run, tmp_path).done) == ("to do", 0.0)
    trains(run, tmp_path, 2_500)
    now = look(run, tmp_path)
    assert (now.state, now.share, now.speed) == ("running", 0.25, 1e8)
    assert now.seconds_left == pytest.approx(7.5)
    ends(run, tmp_path, {1e9: 1.0})
    assert (look(run, tmp_path).state, look(run, tmp_path).share) == ("finished", 1.0)
    ends(run, tmp_path, {}, status=1)
    assert look(run, tmp_path).state == "failed"
    ends(run, tmp_path, {}, status=143)
    assert look(run, tmp_path).state == "stopped"


def test_a_run_that_is_silent_has_no_time_left(tmp_path: Path) -> None:
    run = run_of(10_000, (1e9,))
    trains(run, tmp_path, 2_500, written=1.0)
    assert look(run, tmp_path).seconds_left is None


def test_branches_count_what_they_train(tmp_path: Path) -> None:
    run = run_of(10_000, (1e9, 4e9), branched=0.2)
    trains(run, tmp_path, 20_000)
    assert look(run, tmp_path).done == 2e9
    trains(run, tmp_path, 40_000)
    branch = run.output(tmp_path) / "branches" / "1e9"
    branch.mkdir(parents=True)
    (branch / "milestones.json").write_text('[{"milestone": 1e9, "frames": 10000}]')
    assert look(run, tmp_path).done == 4e9 + 0.2 * 1e9


def test_the_time_left_counts_all_runs_and_what_they_take_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 1e8 FLOP/s: 12.5 s of training each, and 2.5 s that the first one took beside."""
    clock = [0.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: clock[0])
    made = plan_of(*(run_of(n, (1e9,)) for n in (10_000, 20_000, 40_000)))
    watch = Watch(made, tmp_path)
    assert watch.update() == []
    assert watch.seconds_left() is None
    first, second, _ = made.runs
    trains(first, tmp_path, 0)
    watch.update()
    assert watch.seconds_left() == pytest.approx(30.0)  # 3 runs of 1e9 FLOPs, one at a time
    clock[0] = 12.5
    ends(first, tmp_path, {1e9: 1.0})
    assert [one.run.name for one in watch.update()] == [first.name]
    assert watch.seconds_left() == pytest.approx(2 * 12.5)
    assert watch.share == pytest.approx(1 / 3)
    trains(second, tmp_path, 0)
    assert watch.update() == []


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 18), (200, 50)])
def test_the_table_fits_the_terminal(tmp_path: Path, width: int, height: int) -> None:
    made = plan_of(*(run_of(n * 1000, (b,)) for n in range(10, 40) for b in BUDGETS))
    for number, run in enumerate(made.runs):
        if number < 60:
            ends(run, tmp_path, {run.budgets[-1]: 1 / (number + 1)})
        elif number < 80:
            trains(run, tmp_path, 1_000)
    watch = Watch(made, tmp_path)
    watch.update()
    console = Console(width=width, height=height, record=True)
    told = "forecast for 8e10 FLOPs, by 4 budgets: 0.5 nats"
    console.print(draw(watch, grid_of(made, measured_cells(made, tmp_path)), told, width, height))
    lines = console.export_text().splitlines()
    assert len(lines) <= height
    assert lines[0].startswith("tiny: 60 of 120 runs finished, 20 running, 40 to do"[:width])
    assert any(line.startswith("held-out nats") for line in lines)
    assert any("more that run" in line for line in lines)
    assert lines[-1].startswith("forecast for")


def test_a_log_gets_a_line_for_each_end_and_minute_and_the_forecast(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_scaling.studies.display.show.LOOK", 1000.0)
    monkeypatch.setattr("agent_scaling.studies.display.show.MINUTE", 0.0)
    made = grid()
    trains(made.runs[1], tmp_path, 5_000)
    with showing(made, tmp_path, {run.name: "to do" for run in made.runs}, 1e10) as show:
        show.look(None)
        for run in made.runs:
            ends(run, tmp_path, {run.budgets[-1]: loss(run)})
        show.look(None)
    said = capsys.readouterr().out
    assert "running   10k-2e+09  (10k, 2e9 FLOPs): 25%, loss 1.250, 1,000 frames/s" in said
    assert "finished  20k-8e+09  (0.812 held-out nats)" in said
    assert said.count("forecast for 1e10 FLOPs, by 4 budgets: 0.79") == 1  # as soon as it is there
    assert "tiny: 12 of 12 runs finished" in said
    assert "\x1b" not in said


@pytest.mark.parametrize(("lowest", "highest"), [(0.0, 1.0), (-21.0, 21.0)])
def test_the_forecast_keeps_to_the_bounds_of_the_study(
    tmp_path: Path, lowest: float, highest: float
) -> None:
    bounds = {"lowest_return": lowest, "highest_return": highest, "expert_return": highest}
    made = replace(grid(), returns=bounds)
    (tmp_path / "plan.json").write_text(made.to_json())
    assert load(tmp_path).returns == bounds
    for run in made.runs:
        share = {1e9: 0.5, 2e9: 0.8, 4e9: 0.95, 8e9: 0.99}[run.budgets[-1]]
        won = lowest + (highest - lowest) * share * {10_000: 0.9}.get(run.params, 0.98)
        ends(run, tmp_path, {run.budgets[-1]: won}, metric="rollout/return_mean")
    before = {run.name: "to do" for run in made.runs}
    show = Show(load(tmp_path), tmp_path, before, 1e11)  # type: ignore[arg-type]
    told = show._forecast_now()
    found = re.search(r"([\d.]+) points \[(-?[\d.]+), ([\d.]+)\]", told)
    assert found, told
    point, low, high = map(float, found.groups())
    assert lowest <= low < point <= high <= highest
    assert point > lowest + 0.9 * (highest - lowest)


def test_a_log_of_one_run_tells_it_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_scaling.studies.display.show.LOOK", 1000.0)
    made = plan_of(run_of(20_000, (1e9,)))
    with showing(made, tmp_path, {made.runs[0].name: "to do"}, None):
        ends(made.runs[0], tmp_path, {1e9: 1.0})
    assert capsys.readouterr().out == "finished  20k-1e+09  (1.000 held-out nats)\n"


def test_the_best_size_of_a_whole_budget_is_marked(tmp_path: Path) -> None:
    made = grid()
    for run in made.runs[:-1]:
        ends(run, tmp_path, {run.budgets[-1]: loss(run)})
    found = grid_of(made, measured_cells(made, tmp_path))
    assert found is not None
    assert found.best == dict.fromkeys(BUDGETS[:-1], "20k")
    assert grid_of(made, measured_cells(made, tmp_path / "none")) is None
