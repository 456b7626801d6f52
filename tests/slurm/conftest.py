"""SLURM, as a distribution packages it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import DAEMONS, Cluster, cluster, find


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory, forked: Path) -> Iterator[Cluster]:
    """A cluster; without SLURM's daemons a test is skipped, or fails in CI."""
    lacking = [name for name in DAEMONS if find(name) is None]
    if lacking:
        message = f"no {', '.join(lacking)}: apt-get install slurm-wlm munge"
        if os.environ.get("AGENT_SCALING_SLURM") == "required":
            pytest.fail(message)
        pytest.skip(message)
    with cluster(tmp_path_factory.mktemp("slurm"), forked) as made:
        yield made
