"""The suite's own machinery: its forked programs are killed, stopped and told as real ones."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.conftest import LONGEST, ROOT
from tests.helpers.forked import PYTHON, started

TELLS = """
import os, signal, sys, time
def tell(number, frame):
    os.write(1, f"{number}\\n".encode())
    sys.exit(7)
signal.signal(signal.SIGTERM, tell)
os.write(1, b"ready\\n")
time.sleep(600)
"""


def begin(forked: Path, code: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A program that has said its first line, and the process that does its work."""
    python = forked.with_name(PYTHON)
    program = subprocess.Popen([python, "-c", code], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    return program, psutil.Process(started(python, program.pid))


def test_it_gets_signals_also_while_it_is_stopped(forked: Path) -> None:
    program, worker = begin(forked, TELLS)
    worker.suspend()
    program.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(0.2)
    program.send_signal(signal.SIGCONT)
    assert program.communicate() == (f"{signal.SIGTERM:d}\n", None)
    assert program.returncode == 7


def test_it_is_killed_with_what_stands_for_it(forked: Path) -> None:
    program, worker = begin(forked, TELLS)
    program.kill()
    program.communicate()  # until nobody has its output open
    assert program.returncode == -signal.SIGKILL
    assert psutil.wait_procs([worker], timeout=60)[1] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_what_ends_it_ends_what_stands_for_it(forked: Path, number: signal.Signals) -> None:
    program, worker = begin(forked, 'print("ready", flush=True); input()')
    worker.send_signal(number)
    program.communicate()
    assert program.returncode == -number


def test_ignored_signals_and_modules(forked: Path) -> None:
    done = subprocess.run(
        [forked.with_name(PYTHON), "-m", "json.tool", "--compact"],
        input='{"a": 1}',
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == '{"a":1}\n'
    code = "import signal; print(signal.getsignal(signal.SIGINT))"
    ignoring = subprocess.run(
        ["/bin/sh", "-c", 'trap "" INT; exec "$0" -c "$1"', forked.with_name(PYTHON), code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ignoring.stdout == "1\n"


def test_the_files_that_begin_first_are_there() -> None:
    assert [name for name in LONGEST if not (ROOT / "tests" / name).is_file()] == []
    assert len(set(LONGEST)) == len(LONGEST)
