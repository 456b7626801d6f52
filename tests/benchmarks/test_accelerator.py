"""``benchmarks/accelerator.py`` runs on a bare machine: torch, Lightning and few wheels."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "benchmarks" / "accelerator.py"
GIVEN = ("torch", "lightning", "torchmetrics", "numpy")
PARTS = {
    "agreement", "step", "mfu", "loader", "learner", "memory", "kernels", "step_compiled",
    "mfu_compiled",
}  # fmt: skip


def wheels() -> tuple[str, ...]:
    """The distributions that the script says it needs."""
    for node in ast.parse(SCRIPT.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "WHEELS":
            return tuple(ast.literal_eval(node.value))
    raise AssertionError("the script names no wheels")


def needed(names: tuple[str, ...]) -> Iterator[Distribution]:
    """The distributions of these names, and all that they require without extras."""
    todo, seen = list(names), set()
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:  # of another platform or Python
            continue
        yield found
        own = [text for text in found.requires or () if "extra ==" not in text]
        todo += [re.split(r"[^\w.-]", text)[0] for text in own]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a Python that finds what the script may need, and no other package."""
    site = tmp_path_factory.mktemp("site")
    for found in needed((*GIVEN, *wheels())):
        for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
            if top != "__pycache__" and not (site / top).exists():
                (site / top).symlink_to(Path(str(found.locate_file(top))).resolve())
    assert not any((site / name).exists() for name in ("nle", "mlflow", "gymnasium", "pandas"))
    return {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-S", str(SCRIPT), "--tiny", *arguments]


def test_all_parts_run_on_a_bare_machine(machine: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    done = subprocess.run(
        command("--output", str(output)),
        cwd=tmp_path, env=machine, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert found["errors"] == {}, done.stderr
    assert set(found["parts"]) == PARTS
    *_, line = (line for line in done.stdout.splitlines() if line.startswith("{"))
    assert json.loads(line) == found
    table = done.stdout.partition("| part | case | result |")[2].splitlines()
    assert len(table) == 2 + sum(map(len, found["parts"].values())) + len(found["bars"])
    check_rows(found["parts"])


def check_rows(parts: dict[str, list[dict[str, Any]]]) -> None:
    for row in parts["agreement"]:
        assert row["logits_device"] == row["logits_cpu"] < 1e-4
        assert row["gradients_device"] == row["gradients_cpu"] < 1e-3
    assert all(row["times"] > 0 for row in (*parts["step"], *parts["step_compiled"]))
    assert all(0 < row["mfu"] < 1 for row in (*parts["mfu"], *parts["mfu_compiled"]))
    assert [row["case"] for row in parts["mfu"]] == [row["case"] for row in parts["mfu_compiled"]]
    assert all(row["frames_per_second"] > 0 for row in (*parts["loader"][1:], *parts["learner"]))
    assert all(0 <= row["share_lost"] < 1 for row in parts["loader"][1:])
    kept = [row for row in parts["memory"] if "checkpoint=false" in row["case"]]
    assert kept
    assert all(row["times"] == pytest.approx(1, rel=0.15) for row in kept)
    assert len(parts["kernels"]) == 20


def test_a_part_that_fails_is_an_error_and_the_others_go_on(tmp_path: Path) -> None:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from accelerator import Report, run_part  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(SCRIPT.parent))

    def part(last: Any) -> Iterator[dict[str, Any]]:
        yield {"case": "first", "speed": 1.0}
        last()
        yield {"case": "second", "speed": 2.0}

    def fails() -> None:
        raise ValueError("no such kernel\nsecond line")

    report = Report(tmp_path / "found.json", {"device": "none"})
    run_part(report, "failing", part(fails), 60)
    run_part(report, "slow", part(lambda: time.sleep(60)), 1.0)
    run_part(report, "late", part(list), 0.9)
    run_part(report, "whole", part(list), 60)
    written = json.loads(report.path.read_text())
    assert written["errors"] == {
        "failing": "ValueError: no such kernel",
        "slow": "stopped after 1 s",
        "late": "not begun: the time was over",
    }
    rows = {name: len(rows) for name, rows in written["parts"].items()}
    assert rows == {"failing": 1, "slow": 1, "whole": 2}


def test_sigterm_ends_with_what_there_is(machine: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    with subprocess.Popen(
        command("--output", str(output)),
        cwd=tmp_path, env=machine, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert "agreement" in first
    assert process.returncode == 128 + signal.SIGTERM
    assert "| agreement |" in rest
    assert json.loads(output.read_text())["parts"]["agreement"]
