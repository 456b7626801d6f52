"""Plans: what a cell costs, what is written, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from agent_scaling.config.call import call_verb
from agent_scaling.policies.flops import flops_per_frame
from agent_scaling.policies.sizes import on_meta
from agent_scaling.runtime.errors import InputError
from agent_scaling.studies import experiments
from agent_scaling.studies.display.warnings import paper_size
from agent_scaling.studies.plan import plan
from agent_scaling.studies.plan_file import FILE, Plan, Run, load
from agent_scaling.studies.study import call
from data_modules.shards import ShardsDataModule
from tests.conftest import ROOT
from tests.helpers.runs import composed
from tests.studies.plans import BUDGETS, SIZES, make_plan, train_settings


def as_train_composes(folder: Path, name: str, *more: str) -> DictConfig:
    """What ``train --config-dir FOLDER experiment=NAME``, and ``more``, composes."""
    path = [f"hydra.searchpath=[file://{folder}]"]
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return compose("train", [*path, f"experiment={name}", *more])


def test_cells_cost_their_budgets(tiny_shards: Path, tmp_path: Path) -> None:
    made = make_plan(tiny_shards, tmp_path / "plan")
    data = ShardsDataModule(str(tiny_shards), lanes=2)
    assert [run.budgets for run in made.runs] == [tuple(BUDGETS)] * 2
    for run, size in zip(made.runs, SIZES, strict=True):
        assert run.params == pytest.approx(size, rel=0.05)
        assert run.epoch_frames == data.train_frames
        cfg = as_train_composes(tmp_path / "plan", run.name)
        policy = on_meta(OmegaConf.to_container(cfg.policy, resolve=True))
        assert policy.num_params == run.params
        for budget in run.budgets:
            assert run.frames(budget) * flops_per_frame(policy) == pytest.approx(budget)
        assert (cfg.flops_budget, list(cfg.milestones)) == (BUDGETS[-1], BUDGETS[:-1])
        assert cfg.output == str(tmp_path / "plan" / "runs" / run.name)
        assert (cfg.tags.study, cfg.tags.seed, cfg.tags.budget) == ("tiny", 0, "4e9")
        assert cfg.data.shards == str(tiny_shards)
        assert cfg.callbacks.rollouts is None
        assert cfg.threads == 1  # of the experiment that it builds on
    assert load(tmp_path / "plan") == made


def test_a_plan_is_made_once(tiny_shards: Path, tmp_path: Path) -> None:
    first = make_plan(tiny_shards, tmp_path / "plan", speed=2e9)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "plan").rglob("*")}
    assert make_plan(tiny_shards, tmp_path / "plan", speed=3e9) == first
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "plan").rglob("*")} == before
    with pytest.raises(InputError, match=r"holds another plan \(other runs\)"):
        make_plan(tiny_shards, tmp_path / "plan", budgets=[1e9, 5e9])
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    with pytest.raises(InputError, match="no plan"):
        make_plan(tiny_shards, tmp_path / "taken")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plan", "taken"]
    (tmp_path / "plan" / FILE).write_text("{")
    with pytest.raises(InputError, match="broken"):
        load(tmp_path / "plan")


def test_hours_follow_from_the_speed(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_scaling.studies.planning.speed.SECONDS", 0.2)
    made = make_plan(tiny_shards, tmp_path / "given", speed=2e9)
    assert made.hours(made.runs[0], 4e9) == pytest.approx(2 / 3600)
    probed = make_plan(tiny_shards, tmp_path / "probed", speed="probe")
    assert [n for n, _ in probed.speeds] == [run.params for run in made.runs]
    speeds = [speed for _, speed in probed.speeds]
    assert min(speeds) > 0
    between = probed.speed(math.sqrt(math.prod(n for n, _ in probed.speeds)))
    assert between == pytest.approx(math.sqrt(math.prod(speeds)))


def test_one_run_per_cell_variant_and_seed(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants: dict[str, Any] = {
        "slow": {"optimizer": {"lr": 1e-4}},
        "fast": {"optimizer": {"lr": 1e-2}},
        "attention": {"policy/core": "transformer"},
    }
    counted = Mock(wraps=compose)
    monkeypatch.setattr(experiments, "compose", counted)
    made = make_plan(
        tiny_shards, tmp_path / "plan", runs="cells", variants=variants, seeds=[3, 4], sizes=[2e4]
    )
    assert counted.call_count == 2  # slow and fast are composed once, and differ all the same
    names = {f"{v}-20k-{b}-s{s}" for v in variants for b in ("1e9", "4e9") for s in (3, 4)}
    assert {run.name for run in made.runs} == names
    assert made.studies == ["tiny-slow", "tiny-fast", "tiny-attention"]
    fast = as_train_composes(tmp_path / "plan", "fast-20k-4e9-s3")
    assert fast.optimizer.lr == 1e-2
    slow = as_train_composes(tmp_path / "plan", "slow-20k-1e9-s4")
    assert (slow.optimizer.lr, slow.seed, slow.flops_budget) == (1e-4, 4, 1e9)
    assert not slow.milestones
    attention = as_train_composes(tmp_path / "plan", "attention-20k-4e9-s3")
    assert attention.policy.core["_target_"].endswith("TransformerCore")
    assert attention.tags.study == "tiny-attention"


def test_budgets_in_another_convention(tiny_shards: Path, tmp_path: Path) -> None:
    made = make_plan(tiny_shards, tmp_path / "plan", convention="6nd")
    for run in made.runs:
        assert run.frames(BUDGETS[0]) == pytest.approx(BUDGETS[0] / (6 * run.params))
        assert run.flops(BUDGETS[0]) > BUDGETS[0]  # small convolutions cost more than 6ND
        cfg = as_train_composes(tmp_path / "plan", run.name)
        assert cfg.callbacks.flops.convention == "6nd"


def test_a_plan_of_branches_counts_what_they_add(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_plan(tiny_shards, tmp_path / "plan", train={"schedule": "cooldown"}, sizes=[2e4])
    (run,) = made.runs
    assert run.trained == pytest.approx(BUDGETS[1] + 0.2 * BUDGETS[0])
    assert load(tmp_path / "plan") == made
    cfg = as_train_composes(tmp_path / "plan", run.name)
    assert (cfg.schedule.branches, list(cfg.milestones)) == (True, BUDGETS[:-1])
    said = capsys.readouterr().out
    assert "2 cells in 1 runs: 4.2e+09 FLOPs in all" in said
    assert "with runs=cells it would be 5e+09 FLOPs in all" in said


def test_ratios_leave_cells_out(tiny_shards: Path, tmp_path: Path) -> None:
    whole = make_plan(tiny_shards, tmp_path / "whole")
    small, large = whole.runs
    low = small.frames(BUDGETS[0]) / small.params * 1.01
    made = make_plan(tiny_shards, tmp_path / "part", ratios=[0, low])
    assert [run.budgets for run in made.runs] == [(BUDGETS[0],), tuple(BUDGETS)]
    assert made.runs[1].params == large.params


def run_of(params: int, budgets: tuple[float, ...], cost: float, epoch: int = 10**9) -> Run:
    settings: dict[str, Any] = {"study": "s", "variant": "", "size": params, "seed": 0}
    costs = {"cost": cost, "model_cost": cost, "step_frames": 1, "epoch_frames": epoch}
    return Run(name=f"n{params}", params=params, budgets=budgets, **settings, **costs)


def test_the_papers_own_forecast_is_its_best_size() -> None:
    run = run_of(133_000_000, (3.29e19,), 6 * 133e6)
    assert paper_size(run, 3.29e19) == pytest.approx(133e6)


def test_a_fit_says_what_the_grid_misses(tiny_shards: Path, tmp_path: Path) -> None:
    law = {"log_coefficient": math.log(100.0), "exponent": 0.0}
    fit = tmp_path / "fit.json"
    fit.write_text(json.dumps({"parabola": {"loss": {"N_opt": law}}}))
    made = make_plan(tiny_shards, tmp_path / "plan", fit=str(fit))
    said = [line for line in made.warnings if "by the fit given the best size is 100" in line]
    assert len(said) == len(BUDGETS)


def test_warnings_name_what_is_wrong(tiny_shards: Path, tmp_path: Path) -> None:
    made = make_plan(tiny_shards, tmp_path / "plan", budgets=[1e9, 4e10], sizes=[5e3, 2e4])
    assert any("see their games more than 4 times" in line for line in made.warnings)
    assert any("sizes may not enclose the best" in line for line in made.warnings)
    assert any("fewer than 50 steps" in line for line in made.warnings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budgets": None}, "give budgets= and sizes="),
        ({"budgets": [1e9, -1]}, "must be positive"),
        ({"budgets": [1e9, float("nan")]}, "must be positive"),
        ({"budgets": {"lowest": -1, "highest": 1e9, "count": 3}}, "needs 0 < lowest <= highest"),
        ({"budgets": {"lowest": 1e9, "highest": 1e10, "count": "x"}}, "must be numbers"),
        ({"sizes": {"lowest": 1}}, "lowest:a,highest:b,count:n"),
        ({"runs": "both"}, "use one of milestones, cells"),
        ({"convention": "flop"}, "use one of model"),
        ({"name": "a/b"}, "letters"),
        ({"ratios": [2, 1]}, "ratios"),
        ({"budgets": [1e9, 1.0001e9]}, "same step"),
        ({"train": {"output": "here"}}, "train.output is for the plan to set"),
        ({"train": {"optimizr": {"lr": 1}}}, "optimizr"),
        ({"train": {"experiment": "no_such"}}, "no_such"),
        ({"speed": -1}, "above 0"),
        ({"highest_return": -1}, r"highest_return=-1: .* give lowest_return="),
        ({"highest_return": float("inf")}, "highest_return=inf: must be a finite number"),
        ({"lowest_return": 3, "highest_return": 2}, "highest_return=2: .* above lowest_return=3"),
        ({"expert_return": 3, "highest_return": 2}, "expert_return=3: lies above highest_return=2"),
        ({"hyper": "nowhere"}, "hyper=nowhere: not a fit.json .*No such file"),
    ],
)
def test_bad_plans_are_one_line(
    tiny_shards: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_plan(tiny_shards, tmp_path / "plan", **settings)
    assert not list(tmp_path.iterdir())


def test_a_law_gives_the_next_run(tiny_shards: Path, tmp_path: Path) -> None:
    """From runs of a known law: the size that it forecasts, with its interval in the file."""
    rows = ["flops,params,samples,eval_loss"]
    for budget in (1e9, 1e10, 1e11, 1e12, 1e13):
        best = 1e4 * (budget / 1e12) ** 0.5
        for size in (best / 9, best / 3, best, best * 3, best * 9):
            loss = (budget / 1e9) ** -0.05 * math.exp(0.05 * math.log(size / best) ** 2)
            rows.append(f"{budget},{size},{budget / size},{loss}")
    table = tmp_path / "runs.csv"
    table.write_text("\n".join(rows))
    fitted = {"path": str(table), "figures": False, "bootstraps": 0}
    call("fit", [], fitted | {"output": str(tmp_path / "fit")})
    made = plan(
        name="known",
        train=train_settings(tiny_shards, tmp_path),
        fit=str(tmp_path / "fit"),
        budget=4e12,
        output=str(tmp_path / "best"),
    )
    (run,) = made.runs
    assert run.params == pytest.approx(2e4, rel=0.06)
    assert (run.study, run.budgets) == ("known-forecast", (4e12,))
    text = (tmp_path / "best" / "experiment" / f"{run.name}.yaml").read_text()
    assert "# forecast params: 2e+04 (" in text
    assert made.forecast["loss_interval"][0] < made.forecast["loss"]


def test_the_papers_widths_and_budgets_on_atari(
    atari_shards: Path, reference: Path, tmp_path: Path
) -> None:
    """Its grid has the published sizes, and trains the published numbers of frames."""
    overrides = [
        "study=paper_atari",
        f"train.data.shards={atari_shards}",
        f"+train.logger.tracking_uri=sqlite:///{tmp_path}/mlflow.db",
        f"+train.logger.artifact_location={tmp_path}/artifacts",
        f"output={tmp_path}/plan",
    ]
    made: Plan = call_verb(composed("plan", overrides))
    widths = [1, 3, 5, 8, 13, 23, 34, 50, 81, 117, 167, 266]
    assert [run.name for run in made.runs] == [f"width{width}" for width in widths]
    cfg = as_train_composes(tmp_path / "plan", "width117")
    assert (cfg.policy.encoder.width, cfg.policy.params) == (117, None)
    assert cfg.callbacks.flops.convention == "paper_atari"
    assert cfg.tags.size == "1.007M"
    table = pd.read_csv(reference / "reference" / "paper" / "atari_loss.csv")
    published = table[(table["game"] == "Breakout") & (table["flops"] >= 1e14)]
    sizes = {run.params: run for run in made.runs}
    assert set(published["params"]) == {run.params for run in made.runs[:10]}
    for row in published.itertuples():
        run = sizes[row.params]
        assert row.flops in run.budgets
        assert run.frames(row.flops) == pytest.approx(row.samples, abs=run.step_frames)


def test_sizes_by_a_key_that_train_does_not_have(tiny_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="widht"):
        make_plan(tiny_shards, tmp_path / "plan", sizes={"policy.encoder.widht": [1, 3]})


@pytest.fixture(scope="module")
def planned(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of a plan that is loaded."""
    folder = tmp_path_factory.mktemp("planned") / "plan"
    assert make_plan(tiny_shards, folder) == load(folder)
    return (folder / FILE).read_text()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("runs", "../elsewhere"),
        ("runs", "/tmp/x"),
        ("runs", ".."),
        ("launcher", {"hydra.launcher._target_": "os.system"}),
        ("launcher", {"hydra.run.dir": "/tmp"}),
        ("launcher", {"hydra.launcher.tasks": {"_target_": "os.system"}}),
        ("store", {"tracking_uri": "sqlite:///mlflow.db", "folder": "/tmp"}),
        ("record_dir", "/tmp"),
        ("forecast", {"flops": 1.0, "params": 3.0}),
        ("forecast", {"folder": "/tmp"}),
        ("speeds", [[1.0, 1.0], [1.0, 2.0]]),
        ("warnings", 7),
    ],
)
def test_a_plan_that_leads_elsewhere_is_refused(
    planned: str, tmp_path: Path, key: str, value: Any
) -> None:
    path = tmp_path / FILE
    found = json.loads(planned)
    if key == "runs":
        found["runs"][0]["name"] = value
    else:
        found[key] = value
    path.write_text(json.dumps(found))
    with pytest.raises(InputError, match="is broken"):
        load(tmp_path)
