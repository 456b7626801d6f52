"""Passwords and tokens of a command end in no file and on no screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from agent_scaling.config.call import call_verb
from agent_scaling.config.whole_urls import complete_urls
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.secrets import URLS
from agent_scaling.studies.experiments import experiment_file
from agent_scaling.studies.plan_file import FILE, load
from tests.helpers.runs import composed, train
from tests.helpers.servers import free_port

SECRET = "SeCrEt42"


def holding(folder: Path) -> list[Path]:
    """Files in which the secret is."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if SECRET.encode() in path.read_bytes()]


def test_a_run_records_no_password(
    tiny_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv(URLS, "")
    away = f"http://alice:{SECRET}@127.0.0.1:{free_port()}"
    settings = ["flops_budget=1e18", "trainer.max_steps=2", f"logger.tracking_uri={away}"]
    settings += [f"+tags.from='https://h/x?code={SECRET}'", "callbacks.baselines=null"]
    settings += [f"+tags.password='{SECRET}'", "+tags.pin={token:987654321}"]
    train(tiny_shards, tmp_path / "run", *settings)
    said = capfd.readouterr()
    assert "MLflow does not take what is logged" in said.out
    assert SECRET not in said.out + said.err
    assert "987654321" not in (tmp_path / "run" / "config.yaml").read_text()
    assert holding(tmp_path) == []
    saved = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert saved.logger.tracking_uri == away.replace(f"alice:{SECRET}", "***")

    complete_urls(saved)  # known to this process
    assert saved.logger.tracking_uri == away
    monkeypatch.setenv(URLS, "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")  # MLflow sets it
    saved = OmegaConf.load(tmp_path / "run" / "config.yaml")
    with pytest.raises(InputError, match=rf"logger\.tracking_uri=http://\*\*\*@.*{URLS}"):
        complete_urls(saved)


def test_a_plan_records_no_password(
    tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URLS, "")
    uri = f"postgresql://alice:{SECRET}@127.0.0.1/mlflow"
    words = [
        "name=secret",
        "train.experiment=nethack_bc",
        "budgets=[1e9]",
        "sizes=[30000]",
        f"train.data.shards={tiny_shards}",
        f"+train.logger.tracking_uri={uri}",
        "+train.logger.artifact_location=files",
        f"output={tmp_path / 'plan'}",
    ]
    call_verb(composed("plan", words))
    assert (tmp_path / "plan" / FILE).exists()
    assert holding(tmp_path) == []
    assert load(tmp_path / "plan").store.tracking_uri == "postgresql://***@127.0.0.1/mlflow"


def test_an_experiment_records_no_password() -> None:
    mine = {"+callbacks.mine": {"token": SECRET}, "+callbacks.mine.webhook": f"https://h/{SECRET}"}
    text = experiment_file(mine, {}, [])
    assert SECRET not in text
    assert OmegaConf.create(text).callbacks.mine == {"token": "***", "webhook": "***"}


def test_a_masked_value_is_not_taken_for_the_password() -> None:
    with pytest.raises(
        InputError, match=r"callbacks\.mine\.token=\*\*\*: its value is not on record"
    ):
        complete_urls(OmegaConf.create({"callbacks": {"mine": {"token": "***"}}}))
