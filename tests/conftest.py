"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_scaling.demonstrators.record import demonstrate
from agent_scaling.shards.convert import shard
from agent_scaling.sources.atari import AtariSource
from tests.ttyrecs import link_games, reference_games

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def no_store_of_an_earlier_test() -> None:
    """Lightning's logger sets the variable, and a test's child processes would inherit it."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="session")
def reference() -> Path:
    """Reference data: ``../shared`` or ``$AGENT_SCALING_REFERENCE``; its absence fails CI."""
    path = Path(os.environ.get("AGENT_SCALING_REFERENCE", ROOT.parent / "shared"))
    if not (path / "reference").is_dir():
        message = f"no reference data at {path}: set AGENT_SCALING_REFERENCE to its folder"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def tiny_games(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five real games of at most 400 steps, played by the demonstrator, in NLD-AA's layout."""
    folder = tmp_path_factory.mktemp("tiny") / "games"
    demonstrate(games=5, processes=2, max_steps=400, output=str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_shards(tiny_games: Path) -> Path:
    """The tiny games as shards, at least two of them held out."""
    for salt in range(100):  # games are named by process ids: their hashes differ from day to day
        folder = tiny_games.parent / f"shards-{salt}"
        made = shard(
            input=str(tiny_games),
            output=str(folder),
            chunk_frames=128,
            val_fraction=0.4,
            split_salt=str(salt),
        )
        if 2 <= made.totals["val"].games <= 3:
            return folder
    raise AssertionError("no salt splits five games")


@pytest.fixture(scope="session")
def reference_shards(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All reference games as shards; takes a minute and a half, once."""
    folder = tmp_path_factory.mktemp("reference") / "shards"
    shard(input=str(reference / "nld-aa-mini" / "train"), output=str(folder), shard_megabytes=16)
    return folder


@pytest.fixture(scope="session")
def short_games(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five shortest reference games, 712 to 9,233 frames, in NLD-AA's layout."""
    root = tmp_path_factory.mktemp("short") / "games"
    return link_games(reference_games(reference)[:5], root)


@pytest.fixture(scope="session")
def short_shards(short_games: Path) -> Path:
    """The short games as shards of one game each, in small chunks."""
    folder = short_games.parent / "shards"
    shard(
        input=str(short_games),
        output=str(folder),
        chunk_frames=300,
        shard_megabytes=0.001,
        val_fraction=0.4,
    )
    return folder


@pytest.fixture(scope="session")
def atari_games(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four games of Breakout of at most 300 steps, played by the scripted expert."""
    folder = tmp_path_factory.mktemp("atari") / "games"
    demonstrate(
        game="atari", env="Breakout", games=4, processes=2, max_steps=300, output=str(folder)
    )
    return folder


@pytest.fixture(scope="session")
def atari_shards(atari_games: Path) -> Path:
    """The games of Breakout as shards of small chunks, some held out."""
    folder = atari_games.parent / "shards"
    shard(
        input=str(atari_games),
        output=str(folder),
        source=AtariSource(),
        processes=2,
        chunk_frames=128,
        val_fraction=0.3,
    )
    return folder
