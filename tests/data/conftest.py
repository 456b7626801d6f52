"""Fixtures of the tests of reading."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from agent_scaling.data.batch import Batch
from agent_scaling.data.conversion.shard import shard
from tests.conftest import Once
from tests.helpers.remote_shards import WINDOWS, windows

SHARD_A_GAME = {"chunk_frames": 150, "shard_megabytes": 0.001, "val_fraction": 0.4}
"""Settings of a conversion of the tiny games: shards of one game each, of two chunks or more."""


@pytest.fixture(scope="session")
def expected(short_shards: Path) -> list[Batch]:
    return list(itertools.islice(windows(short_shards), WINDOWS))


@pytest.fixture(scope="session")
def few_shards(tiny_games: Path, once: Once) -> Path:
    """The tiny games as shards of one game each."""
    return once(
        "few", lambda folder: shard(input=str(tiny_games), output=str(folder), **SHARD_A_GAME)
    )
