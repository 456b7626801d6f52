"""What a run shows while it trains: a bar on a terminal, a few plain lines in a file."""

from __future__ import annotations

from pathlib import Path

import pyte
import pytest

from callbacks import progress
from tests.helpers.runs import UNCOMPARED, train

SHORT = [
    "flops_budget=2.4e9",
    "milestones=[1.2e9]",
    "data.unroll_length=4",
    "data.val_frames=64",
    *UNCOMPARED,
    "callbacks.progress={_target_:callbacks.progress.ProgressBar}",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs go: they share a store."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of seconds says what one of hours would."""
    monkeypatch.setattr(progress, "MEASURED_SECONDS", 0.05)
    monkeypatch.setattr(progress, "WORTH_SAYING", 0.0)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    monkeypatch.setenv("COLUMNS", "80")


def shown(shards: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> str:
    train(shards, output, *SHORT)
    return capsys.readouterr().out


def test_a_file_gets_lines_without_control_codes(
    tiny_shards: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(tiny_shards, runs / "file", capsys)
    assert "\x1b" not in text
    assert "\r" not in text
    lines = text.splitlines()
    before = {line.split()[0] for line in lines[:5]}
    assert lines[5].startswith(
        "mfu     not measured: the peak FLOP/s of cpu in 32-true is not known"
    )
    assert before == {"data", "policy", "cost", "budget", "output"}
    assert "NetHackEncoder, LSTMCore) on cpu, " in text
    assert "passes over the data" in text
    assert len([line for line in lines if "of training to go, at the" in line]) == 1
    assert len([line for line in lines if line.startswith("milestone 1.2e+09 FLOPs: ")]) == 1
    parts = [line for line in lines if " left: " in line]
    assert 3 <= len(parts) <= 10  # a tenth of the budget, at least, between two
    shares = [int(line.partition("%")[0]) for line in parts]
    assert shares == sorted(set(shares))
    assert f"checkpoint {runs}/file/checkpoints/last.ckpt" in text


def test_the_peak_of_a_device_predicts_the_time(
    tiny_shards: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny_shards, runs / "peak", *SHORT, "callbacks.tracking.peak_flops=1e8")
    lines = capsys.readouterr().out.splitlines()
    assert lines[5].startswith("time    ")
    assert " at the peak of 1e+08 FLOP/s, " in lines[5]
    assert all(", MFU " in line for line in lines if " frames/s" in line and " left: " in line)


def test_a_terminal_of_80_columns_gets_a_bar(
    tiny_shards: Path,
    runs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    screen = pyte.Screen(80, 100)
    pyte.Stream(screen).feed(shown(tiny_shards, runs / "bar", capsys).replace("\n", "\r\n"))
    (bar,) = [line for line in screen.display if line.startswith("train ")]
    assert " 100% loss " in bar
    assert bar.rstrip().endswith("left 0:00:00")
    assert "…" not in bar
    assert not any(" left: " in line for line in screen.display)
