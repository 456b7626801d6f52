"""Plans of runs that learn by playing: interactions instead of recorded frames, several seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf

from agent_scaling.policies.flops import flops_per_frame
from agent_scaling.policies.sizes import on_meta
from agent_scaling.runtime.errors import InputError
from agent_scaling.studies.display.variants import show_variants
from agent_scaling.studies.plan import plan
from agent_scaling.studies.plan_file import Plan
from tests.helpers.stores import new_store
from tests.scaling.test_interactions import played
from tests.studies.test_plan import as_train_composes

LANES, STEPS = 2, 5


def plan_of_games(output: Path, **more: Any) -> Plan:
    """Two sizes and two budgets of Atari, recorded beside ``output``."""
    train = {
        "experiment": "atari_impala",
        "data": {"shards": None, "lanes": LANES, "unroll_length": STEPS, "workers": 1},
        "callbacks": {"rollouts": None, "progress": None, "model": None},
        "logger": {
            "tracking_uri": new_store(output.parent / "mlflow.db"),
            "artifact_location": str(output.parent / "artifacts"),
        },
    }
    settings = {"budgets": [1e9, 4e9], "sizes": [5.4e3, 1.88e4], "train": train}
    return plan(**{"name": "games", **settings, **more}, output=str(output))


def test_interactions_cost_acting_and_learning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = plan_of_games(tmp_path / "plan", seeds=3)
    names = [f"{size}-s{seed}" for size in ("5.4k", "18.8k") for seed in range(3)]
    assert [run.name for run in made.runs] == names
    for run in made.runs:
        cfg = as_train_composes(tmp_path / "plan", run.name)
        assert cfg.seed == cfg.data.seed == run.seed
        assert "shards" not in cfg.data
        cfg.policy.num_actions = 4
        policy = on_meta(OmegaConf.to_container(cfg.policy, resolve=True))
        assert policy.num_params == run.params
        forward = flops_per_frame(policy, training=False)
        assert run.cost == pytest.approx(forward * (1 + 3 * (STEPS + 1) / STEPS))
        assert run.step_frames == LANES * STEPS
        assert run.epoch_frames == 0
    shown = capsys.readouterr().out
    assert "interactions" in shown
    assert "epochs" not in shown


def test_nothing_repeats_and_the_law_of_cloning_is_not_asked(tmp_path: Path) -> None:
    made = plan_of_games(tmp_path / "plan", budgets=[1e15, 1e16])
    (line,) = made.warnings
    assert line.startswith("the sizes may not enclose the best ones")


def test_a_probe_counts_what_was_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_scaling.studies.planning.speed.SECONDS", 0.1)
    made = plan_of_games(tmp_path / "plan", speed="probe", sizes=[5.4e3])
    ((params, speed),) = made.speeds
    assert params == made.runs[0].params
    assert speed > 0


def test_recorded_games_are_asked_for_where_they_are_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.data\.shards=null"):
        plan_of_games(tmp_path / "plan", train={"experiment": "nethack_bc_paper"})
    with pytest.raises(InputError, match=r"seeds=\[\]"):
        plan_of_games(tmp_path / "plan", seeds=0)


def test_variants_are_compared_by_their_returns(capsys: pytest.CaptureFixture[str]) -> None:
    cells = played(noise=0).assign(eval_loss=float("nan"), variant="plain")
    better = cells.assign(variant="better", return_mean=2 * cells["return_mean"])
    show_variants(pd.concat([cells, better]))
    shown = capsys.readouterr().out
    assert "mean return at each variant's best size" in shown
    rows = [line.split() for line in shown.splitlines() if line.strip().startswith("1e+")]
    assert {row[-1] for row in rows} == {"better"}
