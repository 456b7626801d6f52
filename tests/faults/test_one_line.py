"""Whatever is wrong with a file is one line, and nothing half-written stays."""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from mlflow import MlflowClient
from omegaconf import OmegaConf

from agent_scaling.cli import main
from agent_scaling.envs.families import find_game
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.runtime.errors import InputError, error_line
from agent_scaling.runtime.files import PARTIAL, write_file
from agent_scaling.scaling.fit import fit
from agent_scaling.scaling.runs.table import as_rows, read_csv
from agent_scaling.tracking.store import read_artifact
from agent_scaling.training.course.resume import BEGINNING, OneStart, clean
from agent_scaling.training.train import taking
from tests.helpers.runs import train
from tests.helpers.stores import new_store

SETTINGS = ["flops_budget=1e18", "callbacks.baselines=null"]


@pytest.mark.parametrize(
    "text",
    [
        "run,game,params,flops,samples,loss\na,x,1e3,1e12,9,1.5\nb,,2e3,1e12,9,1.4\n",
        "run,params,flops,loss,value\na,1e3,1e12,1.5,2\nb,2e3,1e12,1.4,2\nc,3e3,1e13,1.3,2\n",
        "run,params,flops,loss\na,1e3,inf,1.5\nb,2e3,1e12,1.4\nc,3e3,1e13,1.3\nd,1e3,1e13,1.3\n",
        "run,params,flops,loss\na,1e3\nb,2,3,4,5,6,7\n",
        "run,params,flops,loss\na,x,y,z\n",
        "\x00\x01",
    ],
)
def test_a_table_that_cannot_be_fitted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        fit(source="csv", path=str(path), output=str(tmp_path / "laws"), bootstraps=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("game,params,flops,loss\na,1e3,1e12,1\n,2e3,1e12,1\n", r"add game= one of \['a'\]"),
        ("game,params,flops,loss\na,1e3,1e12,1\nb,2e3,1e12,1\n", r"one of \['a', 'b'\]"),
        ("params,flops,loss,value\n1e3,1e12,1,2\n", "has both value and loss"),
    ],
)
def test_a_table_that_says_two_things(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_csv(str(tmp_path / "table.csv"))


def test_a_number_beyond_all_numbers_is_infinite(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(f"params,flops,loss\n1e3,1e12,{'9' * 400}\n1e3,1e12,1\n")
    rows = as_rows(read_csv(str(tmp_path / "table.csv")), "table.csv")
    assert rows["loss"].tolist() == [float("inf"), 1]


def test_a_long_message_of_another_program_is_cut() -> None:
    assert len(error_line(ValueError("x" * 10_000))) < 400


@pytest.fixture(scope="module")
def checkpoint(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("one-line") / "run"
    train(tiny_shards, output, *SETTINGS, "trainer.max_steps=1")
    return output / "checkpoints" / "last.ckpt"


def without(*keys: str) -> Callable[[dict[str, Any]], None]:
    return lambda saved: [saved.pop(key) for key in keys] and None


@pytest.mark.parametrize(
    "change",
    [
        without("optimizer_states"),
        without("frames"),
        without("state_dict"),
        without("loops"),
        without("lr_schedulers", "callbacks"),
        lambda saved: saved.update(frames="many"),
        lambda saved: saved.update(callbacks="text"),
        lambda saved: saved.update(schedule={"nonsense": 1}),
        lambda saved: saved["state_dict"].update({3: 4}),
        lambda saved: saved.update(frames=10**30),
        lambda saved: saved["loops"]["fit_loop"]["epoch_progress"]["total"].update(ready="x"),
        lambda saved: saved["callbacks"]["Tracking"].update(milestones=[1]),
        lambda saved: saved["rng"][0].update(numpy=[]),
    ],
)
def test_a_checkpoint_that_lacks_something(
    checkpoint: Path, tiny_shards: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    saved = read_checkpoint(checkpoint)
    change(saved)
    torch.save(saved, tmp_path / "odd.ckpt")
    words = [*SETTINGS, "trainer.max_steps=2", f"ckpt_path={tmp_path / 'odd.ckpt'}"]
    with pytest.raises(InputError, match=r"odd\.ckpt") as caught:
        train(tiny_shards, tmp_path / "run", *words)
    assert "\n" not in str(caught.value)


class Deletes(Callback):
    """Takes the output away in mid-run."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        folder = Path(trainer.default_root_dir)
        folder.rename(folder.with_name("elsewhere"))


def test_an_output_that_goes_away_is_said(tiny_shards: Path, tmp_path: Path) -> None:
    deletes = "+callbacks.deletes={_target_: tests.faults.test_one_line.Deletes}"
    with pytest.raises(InputError, match="deleted or moved while the run trained"):
        train(tiny_shards, tmp_path / "run", *SETTINGS, "trainer.max_steps=1", deletes)


def test_what_a_kill_leaves_is_removed_from_the_whole_output(tmp_path: Path) -> None:
    left = [f".config.yaml.h-1{PARTIAL}", f"rollouts/.448.parquet.h-1{PARTIAL}", f".m{PARTIAL}/f"]
    for name in [*left, "rollouts/448.parquet"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    clean(tmp_path)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["448.parquet"]


def test_what_is_read_of_a_store_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    client = MlflowClient(new_store(tmp_path / "mlflow.db"))
    experiment = client.create_experiment("x", artifact_location=str(tmp_path / "artifacts"))
    run_id = client.create_run(experiment).info.run_id
    client.log_text(run_id, "text", "file.txt")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    assert read_artifact(client, run_id, "file.txt") == "text"
    assert list((tmp_path / "tmp").iterdir()) == []
    assert capfd.readouterr().err == ""


def test_debug_shows_the_traceback_without_passwords(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(cfg: object) -> None:
        raise OSError(24, "Too many open files: http://a:PW@host")

    monkeypatch.setattr(main, "call_verb", refuse)
    for debug in ("", "1"):
        monkeypatch.setenv(main.DEBUG_VARIABLE, debug)
        with pytest.raises(SystemExit) as caught:
            main.run(OmegaConf.create({}))
        said = capsys.readouterr().err
        assert caught.value.code == 2
        assert "Too many open files" in said
        assert "PW" not in said
        assert ("Traceback" in said) is bool(debug)


def test_a_package_that_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as ``ale-py``, without which all but Atari works."""
    monkeypatch.setitem(sys.modules, "agent_scaling.envs.atari", None)
    monkeypatch.delenv(main.DEBUG_VARIABLE, raising=False)
    monkeypatch.setattr(main, "call_verb", lambda cfg: find_game("atari"))
    with pytest.raises(SystemExit) as caught:
        main.run(OmegaConf.create({}))
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert len(said.splitlines()) == 1
    assert "pip install" in said


def test_a_disk_that_is_full_in_a_run_says_how_the_run_goes_on(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    table = tmp_path / "448.parquet"
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        with (
            pytest.raises(InputError, match="make room and go on with ckpt_path=last"),
            taking(None, OneStart(BEGINNING, tmp_path)),
        ):
            write_file(table, bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
