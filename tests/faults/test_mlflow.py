"""MLflow's server is killed and comes back, its disk is full: no run ends, and no point is lost."""

from __future__ import annotations

import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lightning import Callback, LightningModule, Trainer
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput

from agent_scaling.errors import InputError
from agent_scaling.tracking import OUTBOX_FILE, BufferedMLFlowLogger
from tests.runs import train
from tests.servers import Server
from tests.stores import new_store

FRAMES = 64  # of a step
STEPS = 20


class Outages(Callback):
    """Kills the server at step 4, starts it again at step 9, kills it at step 14."""

    server: Server

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        if trainer.global_step in (4, 14):
            self.server.kill()
        if trainer.global_step == 9:
            self.server.start()


def test_a_server_that_goes_comes_and_goes(
    tiny_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("agent_scaling.outbox.RETRY_SECONDS", 0.0)
    output, waiting = tmp_path / "run", tmp_path / "run" / OUTBOX_FILE
    settings = [
        "flops_budget=1e18",
        "callbacks.tracking.every_frames=64",
        "callbacks.checkpoints.every_frames=128",
        "callbacks.baselines=null",
        "callbacks.system.every_seconds=0",
        "callbacks.model={_target_: callbacks.model.Model, register_as: outlived}",
    ]
    Outages.server = server = Server(tmp_path)
    outages = "+callbacks.outages={_target_: tests.faults.test_mlflow.Outages}"
    remote = f"logger.tracking_uri={server.url}"
    try:
        server.start()
        train(tiny_shards, output, *settings, remote, outages, f"trainer.max_steps={STEPS}")
    finally:
        server.kill()
    said = capsys.readouterr().out
    assert said.count("MLflow does not take what is logged") == 2
    assert said.count("MLflow has taken what had waited") == 1
    assert waiting.exists()

    with pytest.raises(InputError, match=r"logger\.tracking_uri=http.*: MLflow cannot begin"):
        train(tiny_shards, output, *settings, remote, "trainer.max_steps=24", "ckpt_path=last")

    train(tiny_shards, output, *settings, f"trainer.max_steps={STEPS}", "ckpt_path=last")
    assert not waiting.exists()
    client, run_id = MlflowClient(server.store), (output / "mlflow_run_id").read_text()
    assert client.get_run(run_id).info.status == "FINISHED"
    for name in ("train/nats", "system/cpu_utilization_percentage"):
        points = [point.step for point in client.get_metric_history(run_id, name)]
        assert sorted(points) == [FRAMES * step for step in range(1, STEPS + 1)]
    assert "milestones.json" in {file.path for file in client.list_artifacts(run_id)}
    (handed_in,) = client.get_run(run_id).outputs.model_outputs
    assert client.get_model_version("outlived", "1").source == f"models:/{handed_in.model_id}"


def test_a_full_disk_under_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_scaling.outbox.RETRY_SECONDS", 0.0)
    waiting, database = tmp_path / OUTBOX_FILE, tmp_path / "mlflow.db"
    logger = BufferedMLFlowLogger(
        experiment_name="full",
        tracking_uri=new_store(database),
        artifact_location=str(tmp_path / "artifacts"),
        outbox=waiting,
    )
    logger.log_metrics({"loss": 0.0}, 0)
    logger.flush()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (database.stat().st_size, limits[1]))
        for step in range(1, 2001):
            logger.log_metrics({"loss": float(step)}, step)
        logger.flush()
        assert waiting.exists()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    logger.log_metrics({"loss": 2001.0}, 2001)
    logger.finalize()
    assert not waiting.exists()
    history = MlflowClient(f"sqlite:///{database}").get_metric_history(str(logger.run_id), "loss")
    assert sorted(point.step for point in history) == list(range(2002))


def test_runs_that_begin_at_the_same_moment(tmp_path: Path) -> None:
    """None of eight finds the experiment or the data set, and one alone can add it."""
    store, count, rounds = new_store(tmp_path / "mlflow.db"), 8, 5
    together = threading.Barrier(count, timeout=10)

    def begin(turn: int) -> str:
        name = f"experiment {turn}"
        logger = BufferedMLFlowLogger(experiment_name=name, tracking_uri=store)
        together.wait()
        logger.log_facts({}, {})
        together.wait()
        logger.log_inputs([DatasetInput(Dataset("shards", name, "local", "{}"))])
        return str(logger.run_id)

    with ThreadPoolExecutor(count) as threads:
        turns = [turn for turn in range(rounds) for _ in range(count)]
        runs = list(threads.map(begin, turns))
    client = MlflowClient(store)
    found = {run: client.get_run(run).inputs.dataset_inputs[0].dataset.digest for run in runs}
    assert [found[run] for run in runs] == [f"experiment {turn}" for turn in turns]
    assert len(client.search_experiments()) == 1 + rounds  # MLflow has one of its own
