"""The doctor: nothing is wrong here, and each check finds what it is there for."""

from __future__ import annotations

import http.server
import os
import platform
import resource
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent_scaling.cli import doctor
from agent_scaling.cli.doctor import data, games, machine, packages
from agent_scaling.cli.doctor.findings import BROKEN, OK, WARNING, Asked, broken, ok, warning
from tests.config.test_configs import composed
from tests.helpers.stores import new_store

ASKED = Asked()


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Games start slowly on a machine that others use."""
    monkeypatch.setattr(games, "PATIENCE", 600.0)


def test_all_is_well_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doctor.doctor(output=str(tmp_path), tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    shown = capsys.readouterr().out
    for name in doctor.CHECKS:
        assert (f" {name} " in shown) == (name != "shards")
    assert "broken" not in shown
    assert "\x1b" not in shown


def test_broken_means_status_1_and_the_fix_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(asked: Asked) -> None:
        raise OSError("no such library")

    checks = {
        "good": lambda asked: ok("fine"),
        "poor": lambda asked: warning("slow", "pip install 'x[fast]'"),
        "nobody asked": lambda asked: None,
        "dead": dies,
    }
    monkeypatch.setattr(doctor, "CHECKS", checks)
    with pytest.raises(SystemExit) as caught:
        doctor.doctor()
    assert caught.value.code == 1
    shown = capsys.readouterr().out
    assert "→ pip install 'x[fast]'" in shown
    assert "OSError: no such library" in shown
    assert "nobody" not in shown
    assert shown.splitlines()[-1] == "1 ok, 1 warning, 1 broken"


def test_a_warning_leaves_the_status_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", {"poor": lambda asked: warning("slow", "wait")})
    doctor.doctor()


def test_the_verbs_keys_are_the_functions() -> None:
    cfg = composed("doctor", [])
    assert {"output", "tracking_uri", "shards"} < set(cfg)


def fake_package(folder: Path, name: str, version: str, *needs: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += ["Requires-Python: >=3.11", *(f"Requires-Dist: {need}" for need in needs)]
    (info / "METADATA").write_text("\n".join(lines) + "\n")


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "python_version", lambda: "3.9.1")
    found = packages.python(ASKED)
    assert found.status == BROKEN
    assert "3.9.1, supported is >=3.11" in found.text


def test_a_package_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_package(tmp_path, "gymnasium", "0.29.1")
    monkeypatch.syspath_prepend(tmp_path)
    found = packages.required(ASKED)
    assert found.status == BROKEN
    assert "gymnasium 0.29.1, needed ==1.2.0" in found.text
    assert found.fix.startswith("pip install 'gymnasium==1.2.0'")


def test_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_package(tmp_path, "agent-scaling", "9", "no-such-package>=2")
    monkeypatch.syspath_prepend(tmp_path)
    found = packages.required(ASKED)
    assert found.status == BROKEN
    assert "no-such-package is missing, needed >=2" in found.text


def test_an_extra_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_package(tmp_path, "minihack", "0.1.5")
    monkeypatch.syspath_prepend(tmp_path)
    found = packages.extras(ASKED)
    assert found.status == WARNING
    assert "minihack 0.1.5, needed ==1.0.2" in found.text


def test_a_driver_that_torch_does_not_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 535.54.03\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = machine.gpu(ASKED)
    assert found.status != OK
    assert "535.54.03" in found.text


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "640")
    found = machine.threads(ASKED)
    assert found.status == WARNING
    assert "640 threads" in found.text
    assert found.fix.startswith("export OMP_NUM_THREADS=")


def test_fewer_cores_than_are_in_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(640)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = machine.threads(ASKED)
    assert found.status == WARNING
    assert "640 cores in sight" in found.text


def test_few_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        assert machine.open_files(ASKED).status == WARNING
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_container_of_few_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pids.max").write_text("100\n")
    monkeypatch.setattr(machine, "PIDS", tmp_path / "pids.max")
    found = machine.processes(ASKED)
    assert found.status == WARNING
    assert "100" in found.text


def test_shared_memory_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(total=64_000_000, used=0, free=64_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: (usage.total, 0, usage.free))
    found = machine.shared_memory(ASKED)
    assert found.status == WARNING
    assert "0.064 GB free" in found.text
    monkeypatch.setattr(machine, "SHARED", Path("/no/such/folder"))
    assert machine.shared_memory(ASKED).status == WARNING


@pytest.mark.parametrize(("free", "status"), [(1e8, BROKEN), (5e9, WARNING), (5e10, OK)])
def test_disk_space(
    free: float, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert machine.output_folder(Asked(output=str(tmp_path / "new"))).status == status
    assert machine.temporary_folder(ASKED).status == status
    assert not (tmp_path / "new").exists()


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = machine.output_folder(Asked(output=str(tmp_path / "file" / "runs")))
    assert found.status == BROKEN
    assert found.fix == "another output="


GAMES = [(games.nethack, "nle"), (games.minihack, "minihack"), (games.atari, "ale_py")]


@pytest.mark.parametrize(("check", "module"), GAMES)
def test_a_game_that_does_not_start(
    check: Callable[..., machine.Finding],
    module: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / f"{module}.py").write_text("raise ImportError('libstdc++.so.6: not found')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = check(ASKED)
    assert found.status == BROKEN
    assert "libstdc++.so.6: not found" in found.text
    assert found.fix.startswith("pip install")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import os; os.kill(os.getpid(), 11)", "nethack crashes (signal 11)"),
        ("import time; time.sleep(60)", "nethack does not answer within 1 s"),
    ],
)
def test_a_game_that_crashes_or_hangs(
    code: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nle.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    if "sleep" in code:
        monkeypatch.setattr(games, "PATIENCE", 1.0)
    found = games.nethack(ASKED)
    assert (found.status, found.text) == (BROKEN, text)


def database(path: Path, revision: str | None) -> Asked:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        if revision is not None:
            connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
    connection.close()
    return Asked(tracking_uri=f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("revision", "text", "fix"),
    [
        ("451aebb31d03", "the schema of an older MLflow, 451aebb31d03", "mlflow db upgrade"),
        ("ffffffffffff", "the schema of a newer MLflow, ffffffffffff", "pip install"),
        (None, "is no store of MLflow's", "another tracking_uri="),
    ],
)
def test_a_store_of_another_schema(
    revision: str | None, text: str, fix: str, tmp_path: Path
) -> None:
    found = data.store(database(tmp_path / "mlflow.db", revision))
    assert found.status == BROKEN
    assert text in found.text
    assert fix in found.fix


@pytest.mark.parametrize("fault", ["cut", "flipped", "lost"])
def test_a_damaged_store_is_said_to_be_damaged(tmp_path: Path, fault: str) -> None:
    file = tmp_path / "mlflow.db"
    uri = new_store(file)
    assert data.store(Asked(tracking_uri=uri)).status == OK
    if fault == "lost":
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("drop table metrics")
            connection.commit()
    else:
        content = bytearray(file.read_bytes())
        half = len(content) // 2
        content[half:] = bytes(len(content) - half) if fault == "flipped" else b""
        file.write_bytes(content)
    found = data.store(Asked(tracking_uri=uri))
    assert found.status == BROKEN
    assert "damaged" in found.text or "malformed" in found.text


@pytest.mark.parametrize("uri", ["", "sqlite://", "http:/host"])
def test_an_address_that_is_none_is_broken(uri: str) -> None:
    assert data.store(Asked(tracking_uri=uri)).status == BROKEN


def test_a_database_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database at all, but long enough" * 10)
    found = data.store(Asked(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db"))
    assert found.status == BROKEN
    assert "file is not a database" in found.text


@pytest.mark.parametrize("uri", ["mlruns", "file:///mlruns", "nosuch://host/db"])
def test_a_store_that_mlflow_refuses(uri: str) -> None:
    assert data.store(Asked(tracking_uri=uri)).status == BROKEN


class Healthy(http.server.BaseHTTPRequestHandler):
    answer = b"OK"

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_a_server_that_answers_and_one_that_does_not(server: str) -> None:
    assert data.store(Asked(tracking_uri=server)).status == OK
    found = data.store(Asked(tracking_uri="http://127.0.0.1:9"))
    assert found.status == BROKEN
    assert "does not answer" in found.text


def test_a_server_that_is_no_mlflow(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Healthy, "answer", b"<html>OK</html>")
    found = data.store(Asked(tracking_uri=server))
    assert found.status == BROKEN
    assert "not as MLflow does" in found.text


def test_shards(tiny_shards: Path, tmp_path: Path) -> None:
    found = data.shards(Asked(shards=str(tiny_shards)))
    assert found is not None
    assert found.status == OK
    assert found.text.startswith("train ")
    copied = Path(shutil.copytree(tiny_shards, tmp_path / "shards"))
    tar = next(copied.glob("train-*.tar"))
    tar.write_bytes(tar.read_bytes()[:-1])
    cut = data.shards(Asked(shards=str(copied)))
    assert cut is not None
    assert (cut.status, cut.fix) == (BROKEN, "copy it again")
    (copied / "manifest.json").unlink()
    gone = data.shards(Asked(shards=str(copied)))
    assert gone == broken(f"{copied}/manifest.json is missing", gone.fix if gone else "")
