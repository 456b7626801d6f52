"""MLflow's server is away, its disk is full: no run ends, and no point is lost."""

from __future__ import annotations

import resource
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from lightning import Callback, LightningModule, Trainer
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput
from mlflow.exceptions import MlflowException

from agent_scaling.config.call import call_verb
from agent_scaling.runtime.errors import InputError
from agent_scaling.tracking.logger import OUTBOX_FILE, BufferedMLFlowLogger
from agent_scaling.tracking.store import RUN_ID_FILE, open_or_make_store
from tests.helpers.runs import composed, train
from tests.helpers.servers import Server, free_port
from tests.helpers.stores import new_store

FRAMES = 64  # of a step
STEPS = 20


class Outages(Callback):
    """Starts the server at step 5, kills it at step 12."""

    server: Server

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        if trainer.global_step == 5:
            assert not (Path(trainer.default_root_dir) / RUN_ID_FILE).exists()
            self.server.start()
        if trainer.global_step == 12:
            self.server.kill()


def test_a_server_that_is_away_at_the_start_comes_and_goes_and_is_away_at_a_resume(
    tiny_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("agent_scaling.tracking.outbox.RETRY_SECONDS", 0.0)
    output, waiting = tmp_path / "run", tmp_path / "run" / OUTBOX_FILE
    settings = [
        "experiment=nethack_bc",  # MLflow is handed its model in half the time
        "policy.encoder.width=16",
        "flops_budget=1e18",
        "callbacks.tracking.every_frames=64",
        "callbacks.checkpoints.every_frames=192",
        "callbacks.baselines=null",
        "callbacks.system.every_seconds=0",
    ]
    Outages.server = server = Server(tmp_path)
    outages = "+callbacks.outages={_target_: tests.faults.test_mlflow.Outages}"
    remote = f"logger.tracking_uri={server.url}"
    try:
        train(tiny_shards, output, *settings, remote, outages, "trainer.max_steps=16")
    finally:
        server.kill()
    said = capsys.readouterr().out
    assert said.count("MLflow does not take what is logged") == 2
    assert said.count("MLflow has taken what had waited") == 1
    assert waiting.exists()

    model = "callbacks.model={_target_: callbacks.model.Model, register_as: outlived}"
    last = (model, f"trainer.max_steps={STEPS}", "ckpt_path=last")
    train(tiny_shards, output, *settings, remote, *last)
    assert capsys.readouterr().out.count("MLflow does not take what is logged") == 1

    (output / "milestones.json").rename(tmp_path / "moved.json")
    train(tiny_shards, output, *settings, *last)
    assert f"{output}/milestones.json has gone before MLflow took it" in capsys.readouterr().out
    assert not waiting.exists()
    client, run_id = MlflowClient(server.store), (output / RUN_ID_FILE).read_text()
    (run,) = client.search_runs([client.get_experiment_by_name("nethack").experiment_id])
    assert run.info.run_id == run_id
    assert run.info.status == "FINISHED"
    (first, *_) = client.get_metric_history(run_id, "train/nats")
    assert run.info.start_time <= first.timestamp  # when training began, not when the server came
    assert run.data.params["seed"] == "0"
    assert run.data.tags["core"] == "lstm"
    assert len(run.inputs.dataset_inputs) == 1
    for name in ("train/nats", "system/cpu_utilization_percentage"):
        points = [point.step for point in client.get_metric_history(run_id, name)]
        assert sorted(points) == [FRAMES * step for step in range(1, STEPS + 1)]
    (handed_in,) = run.outputs.model_outputs
    assert client.get_model_version("outlived", "1").source == f"models:/{handed_in.model_id}"


def logger_of(folder: Path, uri: str) -> BufferedMLFlowLogger:
    """As a run of this output folder would have."""
    remembered = folder / RUN_ID_FILE
    return BufferedMLFlowLogger(
        experiment_name="lives",
        tracking_uri=uri,
        artifact_location=str(folder / "artifacts"),
        run_id=remembered.read_text() if remembered.exists() else None,
        outbox=folder / OUTBOX_FILE,
        remember=remembered,
    )


@pytest.mark.parametrize("first", ["here", "away"])
def test_steps_that_are_made_again_while_the_store_is_away_are_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Three lives of a run; each begins before the last step of the one before."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    here, nobody = new_store(tmp_path / "mlflow.db"), f"http://127.0.0.1:{free_port()}"
    lives = [(here if first == "here" else nobody, 0, 10), (nobody, 6, 15), (here, 12, 20)]
    for uri, begin, end in lives:
        logger = logger_of(tmp_path, uri)
        if logger.begun:
            logger.take_up()
        else:
            logger.begin({"seed": 1})
        for step in range(begin, end):
            logger.log_metrics({"loss": float(step)}, step)
        logger.flush()
    client = MlflowClient(here)
    run = client.get_run((tmp_path / RUN_ID_FILE).read_text())
    assert run.data.params == {"seed": "1"}
    history = client.get_metric_history(run.info.run_id, "loss")
    assert sorted(point.step for point in history) == list(range(20))
    assert not (tmp_path / OUTBOX_FILE).exists()


def test_what_will_not_be_better_later_is_refused_at_the_start(tmp_path: Path) -> None:
    """A store that knows no such run, and one that is no place for one."""
    (tmp_path / RUN_ID_FILE).write_text("feed")
    with pytest.raises(MlflowException, match="feed"):
        logger_of(tmp_path, new_store(tmp_path / "mlflow.db")).take_up()
    with pytest.raises(InputError, match="tracking_uri=nonsense://x: MLflow cannot use this"):
        logger_of(tmp_path, "nonsense://x").take_up()


@pytest.mark.parametrize("body", [b"{}", b'{"experiment": 5}', b"[]", b"<html>sign in</html>"])
def test_a_server_that_is_not_mlflows_takes_no_run(tmp_path: Path, body: bytes) -> None:
    """Such as a proxy's page, or another program's server at that port, which answers 200."""

    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        logger = logger_of(tmp_path, f"http://127.0.0.1:{server.server_port}")
        logger.begin({"seed": 1})
        logger.log_metrics({"loss": 1.0}, 1)
        logger.finalize()
        server.shutdown()
    logger = logger_of(tmp_path, new_store(tmp_path / "mlflow.db"))
    logger.take_up()
    run = MlflowClient(logger.tracking_uri).get_run(str(logger.run_id))
    assert run.data.params == {"seed": "1"}
    assert run.data.metrics == {"loss": 1.0}


def test_a_database_without_its_driver_is_one_line(tmp_path: Path) -> None:
    uri = f"sqlite+aiosqlite:///{tmp_path}/m.db"
    for use in (lambda: logger_of(tmp_path, uri), lambda: open_or_make_store(uri)):
        with pytest.raises(InputError, match=r"No module named .*install this database's driver"):
            use()


@pytest.mark.parametrize("kind", ["away", "torn", "nowhere"])
@pytest.mark.parametrize("verb", ["study", "tune"])
def test_a_study_asks_its_store_before_it_writes_or_trains_anything(
    verb: str, kind: str, tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same output then takes a corrected address."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "torn.db").write_bytes(b"SQLite format 3\0" + bytes(100))
    stores = {"torn": f"sqlite:///{tmp_path}/torn.db", "nowhere": "sqlite:////proc/m.db"}
    uri = stores.get(kind, f"http://127.0.0.1:{free_port()}")
    words = ["name=a", "train.experiment=nethack_bc", f"train.data.shards={tiny_shards}"]
    words += [f"+train.logger.tracking_uri={uri}", "+train.logger.artifact_location=files"]
    words.append(f"output={tmp_path}/out")
    grid = ["budgets=[1e9]", "sizes=[30000]"]
    rates = ["search={optimizer.lr:{lowest:1e-3,highest:1e-1}}", "size=3e4", "budget=1e10"]
    words += grid if verb == "study" else [*rates, "total=1e11"]
    with pytest.raises(InputError, match=r"^tracking_uri=[^\n]*$"):
        call_verb(composed(verb, words))
    assert not (tmp_path / "out").exists()


def test_an_artifact_store_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file waits, with all that comes later, and a run that is taken up meanwhile goes on."""
    monkeypatch.setattr("agent_scaling.tracking.outbox.RETRY_SECONDS", 0.0)
    uri, file, stored = new_store(tmp_path / "mlflow.db"), tmp_path / "f", tmp_path / "artifacts"
    file.write_text("table")
    stored.write_text("no folder")
    for _ in range(2):
        logger = logger_of(tmp_path, uri)
        logger.take_up() if logger.begun else logger.begin()
        logger.log_file(file)
        assert (tmp_path / OUTBOX_FILE).exists()
    stored.unlink()
    logger.finalize()
    assert not (tmp_path / OUTBOX_FILE).exists()
    assert [found.path for found in MlflowClient(uri).list_artifacts(str(logger.run_id))] == ["f"]


def test_a_full_disk_under_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("agent_scaling.tracking.outbox.RETRY_SECONDS", 0.0)
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
        assert "Traceback" not in capfd.readouterr().err
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    logger.log_metrics({"loss": 2001.0}, 2001)
    logger.finalize()
    assert not waiting.exists()
    history = MlflowClient(f"sqlite:///{database}").get_metric_history(str(logger.run_id), "loss")
    assert sorted(point.step for point in history) == list(range(2002))


def test_a_store_that_another_process_locks_at_the_start_is_waited_for(tmp_path: Path) -> None:
    uri = new_store(tmp_path / "m.db")
    lock = sqlite3.connect(tmp_path / "m.db", isolation_level=None)
    lock.execute("begin exclusive")
    logger = BufferedMLFlowLogger(
        experiment_name="e", tracking_uri=f"{uri}?timeout=0.01", outbox=tmp_path / OUTBOX_FILE
    )
    logger.begin({"a": 1})
    assert logger.run_id is None
    lock.execute("rollback")
    lock.close()
    logger.finalize()
    assert logger.run_id is not None
    assert MlflowClient(uri).get_run(logger.run_id).data.params == {"a": "1"}


def test_runs_that_begin_at_the_same_moment(tmp_path: Path) -> None:
    """None of eight finds the experiment or the data set, and one alone can add it."""
    store, count, rounds = new_store(tmp_path / "mlflow.db"), 8, 5
    together = threading.Barrier(count, timeout=10)

    def begin(turn: int) -> str:
        name = f"experiment {turn}"
        logger = BufferedMLFlowLogger(experiment_name=name, tracking_uri=store)
        together.wait()
        logger.begin({}, {}, [DatasetInput(Dataset("shards", name, "local", "{}"))])
        return str(logger.run_id)

    with ThreadPoolExecutor(count) as threads:
        turns = [turn for turn in range(rounds) for _ in range(count)]
        runs = list(threads.map(begin, turns))
    client = MlflowClient(store)
    found = {run: client.get_run(run).inputs.dataset_inputs[0].dataset.digest for run in runs}
    assert [found[run] for run in runs] == [f"experiment {turn}" for turn in turns]
    assert len(client.search_experiments()) == 1 + rounds  # MLflow has one of its own


def test_points_are_sent_while_a_long_run_has_few_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([0.0, 29.0, 31.0, 31.0, 32.0])
    monkeypatch.setattr("agent_scaling.tracking.logger.monotonic", lambda: next(seconds))
    store = new_store(tmp_path / "mlflow.db")
    logger = BufferedMLFlowLogger(experiment_name="long", tracking_uri=store)
    logger.begin()
    sent = []
    for step in range(3):
        logger.log_metrics({"loss": 1.0}, step)
        sent.append(len(MlflowClient(store).get_metric_history(str(logger.run_id), "loss")))
    assert sent == [0, 2, 2]
