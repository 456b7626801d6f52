"""Games that wait for their shard: what was converted once is not converted again."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from agent_scaling.data.conversion.encode import EncodedGame
from agent_scaling.data.conversion.finished_games import SUFFIX, Output, read_kept
from agent_scaling.data.conversion.shard import shard
from agent_scaling.data.conversion.workers import sigterm_ends
from agent_scaling.data.recordings.base import Game, Skipped
from agent_scaling.data.shards.manifest import load_manifest, parse_index
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.data.shards.storage import Folder
from agent_scaling.runtime.errors import InputError
from tests.conftest import ROOT
from tests.helpers.ttyrecs import link_games, reference_games

SETTINGS = {"chunk_frames": 300, "val_fraction": 0.4, "processes": 1}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def games(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return link_games(reference_games(reference)[:5], tmp_path_factory.mktemp("kept") / "games")


@pytest.fixture(scope="module")
def whole(games: Path) -> Path:
    """What an undisturbed conversion makes: two shards, of three games and of two."""
    folder = games.parent / "shards"
    shard(input=str(games), output=str(folder), **SETTINGS)
    assert not list(folder.glob(".*"))
    return folder


def stopped(whole: Path, output: Path) -> dict[str, list[Path]]:
    """What is left of that conversion where it was stopped before its first shard was written."""
    manifest, paths = load_manifest(Folder(whole)), {}
    to = Output(output, manifest.plan, manifest.layout, manifest.chunk_frames)
    output.mkdir()
    for split in ("train", "val"):
        reader = ShardReader(whole, split)
        paths[split] = [to.waiting(f"{split}-00000", n) for n in range(len(reader.games))]
        for number, (path, entry) in enumerate(zip(paths[split], reader.games, strict=True)):
            game = Game(entry.id, entry.parts, (), entry.version, entry.metadata)
            chunks = tuple(reader.raw(number, n)[0] for n in range(len(entry.chunks)))
            counts = (entry.frames, entry.actions, entry.unknown_keys, entry.decisions)
            to.keep(path, EncodedGame(game, *counts, chunks))
    return paths


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_at_any_moment_loses_no_converted_game(
    number: signal.Signals,
    whole: Path,
    games: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "s"
    verb = [sys.executable, "-c", "from agent_scaling.cli.main import main; main()", "shard"]
    keys = [f"{key}={value}" for key, value in SETTINGS.items()]
    process = psutil.Popen([*verb, f"input={games}", f"output={output}", *keys], cwd=ROOT)
    while not list(output.glob(f".*{SUFFIX}/*.json")):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.5))
    workers = process.children()
    process.send_signal(number)
    status = process.wait()
    psutil.wait_procs(workers)
    waiting = [path.parent.name.split(".")[1] for path in output.glob(f".*{SUFFIX}/*.json")]
    kept = sum(not (output / f"{name}.json").exists() for name in waiting)
    _, errors = capfd.readouterr()
    if number == signal.SIGINT and not (output / "manifest.json").exists():
        assert status == 130
        assert errors.splitlines()[-1].startswith("stopped: the converted games are kept in ")
    shard(input=str(games), output=str(output), **SETTINGS)
    assert contents(output) == contents(whole)
    _, errors = capfd.readouterr()
    assert (f"{kept} games were kept from an earlier run" in errors) == (kept > 0)


def test_a_damaged_game_is_converted_again(
    whole: Path, games: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "s"
    train, val = stopped(whole, output).values()
    tar = train[0].with_suffix(".tar")
    os.truncate(tar, tar.stat().st_size // 2)
    data = bytearray(val[1].with_suffix(".tar").read_bytes())
    data[parse_index(val[1].with_suffix(".json").read_bytes()).games[0].chunks[0][0]] ^= 1
    val[1].with_suffix(".tar").write_bytes(data)
    os.truncate(train[1].with_suffix(".json"), 99)
    (train[0].parent / ".00002.tar.here-7.partial").write_bytes(b"it was being written")
    shard(input=str(games), output=str(output), **SETTINGS)
    assert contents(output) == contents(whole)
    assert "2 games were kept from an earlier run" in capsys.readouterr().err


def test_games_of_another_conversion_are_refused(whole: Path, games: Path, tmp_path: Path) -> None:
    output = tmp_path / "s"
    stopped(whole, output)
    before = {path: path.read_bytes() for path in output.glob("*/*")}
    with pytest.raises(InputError, match=r"holds \.\S+\.games, .* other games or settings"):
        shard(input=str(games), output=str(output), level=3, **SETTINGS)
    assert {path: path.read_bytes() for path in output.glob("*/*")} == before


def test_what_was_skipped_is_remembered(whole: Path, tmp_path: Path) -> None:
    manifest, game = load_manifest(Folder(whole)), Game("a", ("a.bz2",), (1,), 3)
    to = Output(tmp_path, manifest.plan, manifest.layout, 300)
    path = to.waiting("train-00000", 0)
    assert read_kept(path, game) is None
    to.keep(path, Skipped("a.bz2", "it is cut"))
    assert read_kept(path, game) == Skipped("a.bz2", "it is cut")


def test_sigterm_ends_in_good_order() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, sigterm_ends():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
