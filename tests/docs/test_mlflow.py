"""MLflow's server, as we tell people to start it, listens to this machine alone."""

from __future__ import annotations

import re

from tests.conftest import ROOT


def test_no_command_opens_the_store_to_a_network() -> None:
    pages = [ROOT / "Makefile", ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    sources = [*pages, *(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.sbatch")]
    found = [
        line
        for path in sources
        for line in path.read_text().splitlines()
        if re.search(r"mlflow (ui|server) -", line)
    ]
    assert len(found) >= 3
    for line in found:
        assert "0.0.0.0" not in line
        assert set(re.findall(r"--host[ =](\S+)", line)) <= {"127.0.0.1"}
