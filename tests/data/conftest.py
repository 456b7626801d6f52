"""Fixtures of the tests of reading."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from agent_scaling.data.batch import Batch
from tests.helpers.remote_shards import WINDOWS, windows


@pytest.fixture(scope="session")
def expected(short_shards: Path) -> list[Batch]:
    return list(itertools.islice(windows(short_shards), WINDOWS))
