"""A conversion: same bytes however it was run, one clear line for whatever is wrong."""

from __future__ import annotations

import gc
import json
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import webdataset

from agent_scaling.data.conversion.shard import shard
from agent_scaling.data.shards import codec
from agent_scaling.data.shards.manifest import load_manifest, load_split
from agent_scaling.data.shards.storage import Folder
from agent_scaling.runtime.errors import InputError
from tests.conftest import ROOT
from tests.data.conftest import SHARD_A_GAME
from tests.helpers.ttyrecs import copy_game, link_games, press, reference_games

SCRIPT = f"""
import sys
from agent_scaling.runtime.errors import InputError
from agent_scaling.data.conversion.shard import shard
if __name__ == "__main__":
    try:
        shard(input=sys.argv[1], output=sys.argv[2], processes=int(sys.argv[3]),
              **{SHARD_A_GAME})
    except InputError as error:
        sys.exit(f"error: {{error}}")
"""
DIES = """
import os, signal
from agent_scaling.data.conversion.finished_games import Output

join = Output.join

def die(*args):
    join(*args)
    os.kill(os.getpid(), signal.SIGKILL)

Output.join = die
"""
"""The conversion is killed as soon as its first shard is written."""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run_script(
    tmp_path: Path,
    games: Path,
    output: Path,
    processes: int = 1,
    limit: int | None = None,
    before: str = "",
) -> subprocess.Popen[str]:
    """A conversion in a process of its own, which may write files of ``limit`` bytes at most."""
    script = tmp_path / "convert.py"
    script.write_text(before + SCRIPT)

    def limit_files() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, str(script), str(games), str(output), str(processes)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit_files,
    )


def test_manifest_of_the_short_games(short_shards: Path, short_games: Path) -> None:
    manifest = load_manifest(Folder(short_shards))
    assert {split: total.games for split, total in manifest.totals.items()} == {
        "train": 3,
        "val": 2,
    }
    assert not manifest.skipped
    names = {
        g.id for split in ("train", "val") for _, g in load_split(Folder(short_shards), split)[1]
    }
    assert {name.split("/")[0] for name in names} == {
        folder.name for folder in (short_games / "nle_data").iterdir()
    }
    assert not list(short_shards.glob(".*"))


@pytest.mark.parametrize("processes", [1, 3])
def test_other_process_counts_give_the_same_bytes(
    few_shards: Path, tiny_games: Path, tmp_path: Path, processes: int
) -> None:
    shard(input=str(tiny_games), output=str(tmp_path / "s"), processes=processes, **SHARD_A_GAME)
    assert contents(tmp_path / "s") == contents(few_shards)


def test_a_killed_conversion_goes_on_where_it_was(
    few_shards: Path, tiny_games: Path, tmp_path: Path
) -> None:
    output = tmp_path / "s"
    process = run_script(tmp_path, tiny_games, output, before=DIES)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    finished = {path.stem: path for path in output.glob("*.json")}
    assert len(finished) == 1
    assert not (output / "manifest.json").exists()
    (output / ".train-00002.tar.partial").write_bytes(b"half a shard")
    stamps = {name: (output / f"{name}.tar").stat().st_mtime_ns for name in finished}
    shard(input=str(tiny_games), output=str(output), processes=2, **SHARD_A_GAME)
    assert contents(output) == contents(few_shards)
    assert {name: (output / f"{name}.tar").stat().st_mtime_ns for name in finished} == stamps


def test_a_killed_worker_stops_with_one_line_and_keeps_finished_shards(
    few_shards: Path, tiny_games: Path, tmp_path: Path
) -> None:
    output = tmp_path / "s"
    output.mkdir()
    for name in ("train-00000.tar", "train-00000.json"):
        shutil.copy(few_shards / name, output)
    process, workers = run_script(tmp_path, tiny_games, output), []
    while not workers:  # they take a second to start: none has finished a game
        assert process.poll() is None
        children = psutil.Process(process.pid).children()
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    workers[0].kill()
    _, errors = process.communicate()
    assert process.returncode == 1
    last = errors.strip().splitlines()[-1]
    assert re.match(r"error: a worker process died \(memory\?\) at one of: nle_data/\S+bz2", last)
    assert "Traceback" not in errors
    left = {path.name for path in output.iterdir() if not path.name.endswith(".games")}
    assert left == {"train-00000.tar", "train-00000.json"}
    shard(input=str(tiny_games), output=str(output), processes=1, **SHARD_A_GAME)
    assert contents(output) == contents(few_shards)


def test_a_full_disk_keeps_finished_shards(
    few_shards: Path, tiny_games: Path, tmp_path: Path
) -> None:
    sizes = sorted(path.stat().st_size for path in few_shards.glob("*.tar"))
    output = tmp_path / "s"
    process = run_script(tmp_path, tiny_games, output, limit=sizes[-1] - 1)
    _, errors = process.communicate()
    assert process.returncode == 1
    last = errors.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "run the same command again" in last
    assert "Traceback" not in errors
    kept = {path.name for path in output.iterdir() if not path.name.endswith(".games")}
    assert kept < set(contents(few_shards))
    assert all((output / name).read_bytes() == (few_shards / name).read_bytes() for name in kept)
    shard(input=str(tiny_games), output=str(output), **SHARD_A_GAME)
    assert contents(output) == contents(few_shards)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset closes none
def test_webdataset_reads_the_shards_in_sequence(short_shards: Path) -> None:
    for split in ("train", "val"):
        _, games = load_split(Folder(short_shards), split)
        tars = sorted(str(path) for path in short_shards.glob(f"{split}-*.tar"))
        frames: dict[str, int] = {}
        for sample in webdataset.WebDataset(tars, shardshuffle=False):
            about = json.loads(sample["json"])
            assert sample["__key__"].endswith(f"-{about['chunk']:05d}")
            assert about["first_frame"] == frames.get(about["game"], 0)
            chunk = codec.decode(sample["frames.zst"], about["frames"])
            frames[about["game"]] = about["first_frame"] + len(chunk)
        assert frames == {game.id: game.frames for _, game in games}
        del sample
    gc.collect()  # here, where the warning is known


def test_whatever_is_wrong_with_a_game_is_one_line(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = reference_games(reference)[0]
    good, root = short.name, tmp_path / "games"
    copy_game(short, root, good, lambda data: data)
    copy_game(short, root, "cut", lambda data: data[: len(data) // 2])
    copy_game(short, root, "empty", lambda data: b"")
    copy_game(short, root, "text", lambda data: b"no bz2 at all" * 10)
    flip = 9000
    copy_game(short, root, "flipped", lambda d: d[:flip] + bytes([d[flip] ^ 1]) + d[flip + 1 :])
    copy_game(short, root, "unknown", press(100, 7))
    next(copy_game(short, root, "alone", lambda data: data).glob("*.bz2")).unlink()
    next(copy_game(short, root, "nameless", lambda data: data).glob("*.xlogfile")).unlink()
    manifest = shard(input=str(root), output=str(tmp_path / "s"), **SHARD_A_GAME)
    reasons = {entry["file"].split("/")[1]: entry["reason"] for entry in manifest.skipped}
    assert set(reasons) == {"cut", "empty", "text", "flipped", "unknown", "alone", "nameless"}
    assert "frame 100 was answered with key 7" in reasons["unknown"]
    assert "is empty" in reasons["empty"]
    assert "cut" in reasons["cut"]
    assert "damaged" in reasons["flipped"]
    assert sum(total.games for total in manifest.totals.values()) == 1
    shown = capsys.readouterr().err
    for entry in manifest.skipped:
        assert shown.count(f"skipped {entry['file']}: {entry['reason']}") == 1
    assert "bzRead" not in shown
    # A second run says the same from what it kept.
    assert shard(input=str(root), output=str(tmp_path / "s"), **SHARD_A_GAME) == manifest


def test_unknown_keys_can_be_masked(reference: Path, tmp_path: Path) -> None:
    short = reference_games(reference)[0]
    copy_game(short, tmp_path / "games", "unknown", press(100, 7))
    copy_game(short, tmp_path / "games", "good", lambda data: data)
    shard(
        input=str(tmp_path / "games"),
        output=str(tmp_path / "s"),
        unknown_keys="mask",
        val_fraction=0,
    )
    _, games = load_split(Folder(tmp_path / "s"), "train")
    by_name = {game.id.split("/")[0]: game for _, game in games}
    assert by_name["unknown"].unknown_keys == 1
    assert by_name["unknown"].actions == by_name["good"].actions - 1
    assert by_name["unknown"].decisions == by_name["good"].decisions


def test_filters_leave_games_out(reference: Path, tmp_path: Path) -> None:
    games = link_games(reference_games(reference)[:3], tmp_path / "games")
    filters = {"role": ["Hea"], "min_score": None}
    manifest = shard(input=str(games), output=str(tmp_path / "s"), filters=filters, val_fraction=0)
    assert manifest.filtered == 2
    _, kept = load_split(Folder(tmp_path / "s"), "train")
    assert [game.metadata["role"] for _, game in kept] == ["Hea"]
    with pytest.raises(InputError, match="none of 3 games passes"):
        shard(input=str(games), output=str(tmp_path / "t"), filters={"role": "Wiz"})


def test_nothing_to_convert(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no games"):
        shard(input=str(tmp_path / "empty"), output=str(tmp_path / "s"))
    with pytest.raises(InputError, match="no such directory"):
        shard(input=str(tmp_path / "nowhere"), output=str(tmp_path / "s"))
    assert not (tmp_path / "s").exists()


def test_nothing_of_use(reference: Path, tmp_path: Path) -> None:
    copy_game(reference_games(reference)[0], tmp_path / "g", "cut", lambda data: data[:99])
    with pytest.raises(InputError, match="none of the games could be used"):
        shard(input=str(tmp_path / "g"), output=str(tmp_path / "s"))
    assert not (tmp_path / "s" / "manifest.json").exists()


def test_an_output_that_goes_away_is_said(
    tiny_games: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(directory: Path, plan: object, done: object, *_: object) -> object:
        (directory / "train-00000.tar").unlink()
        return done

    monkeypatch.setattr(sys.modules["agent_scaling.data.conversion.shard"], "of_all_parts", moved)
    with pytest.raises(InputError, match=r"train-00000\.tar was deleted or moved during"):
        shard(input=str(tiny_games), output=str(tmp_path / "shards"))


def test_an_output_that_cannot_be_written(short_games: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file" / "s", Path("/proc/shards")):
        with pytest.raises(InputError, match="cannot be written"):
            shard(input=str(short_games), output=str(output))


def test_other_games_or_settings_are_refused(
    few_shards: Path, tiny_games: Path, tmp_path: Path
) -> None:
    output = tmp_path / "s"
    shutil.copytree(few_shards, output)
    before = contents(output)
    with pytest.raises(InputError, match="other games or settings"):
        shard(input=str(tiny_games), output=str(output), **(SHARD_A_GAME | {"level": 3}))
    fewer = link_games(list((tiny_games / "nle_data").iterdir())[:3], tmp_path / "fewer")
    with pytest.raises(InputError, match="other games or settings"):
        shard(input=str(fewer), output=str(output), **SHARD_A_GAME)
    assert contents(output) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"chunk_frames": 0},
        {"level": 23},
        {"val_fraction": 1.0},
        {"processes": 0},
        {"shard_megabytes": 0},
        {"unknown_keys": "drop"},
    ],
)
def test_values_that_cannot_be(short_games: Path, tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        shard(input=str(short_games), output=str(tmp_path / "s"), **wrong)
