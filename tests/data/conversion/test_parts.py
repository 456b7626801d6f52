"""A conversion divided over jobs: the bytes of an undivided one."""

from __future__ import annotations

import fcntl
import os
from functools import partial
from pathlib import Path

import pytest

from agent_scaling.data.conversion.shard import shard
from agent_scaling.runtime.errors import InputError
from tests.data.conftest import SHARD_A_GAME

convert = partial(shard, **SHARD_A_GAME, processes=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_three_parts_make_the_bytes_of_one_conversion(
    tiny_games: Path, few_shards: Path, tmp_path: Path
) -> None:
    output = tmp_path / "shards"
    output.mkdir()
    busy, killed = ".train-00001.tar.there-7.partial", ".val-00000.tar.here-7.partial"
    (output / busy).write_bytes(b"part 2 is writing this")
    (output / killed).write_bytes(b"an earlier part 1 was killed")
    for number in (1, 3):
        assert convert(input=str(tiny_games), output=str(output), part=f"{number}/3") is None
        assert not (output / "manifest.json").exists()
        assert [path.name for path in output.glob(".*")] == [busy]
    made = convert(input=str(tiny_games), output=str(output), part="2/3")
    assert made is not None
    assert contents(output) == contents(few_shards)
    (output / "manifest.json").unlink()  # as if the last part had been killed there
    assert convert(input=str(tiny_games), output=str(output)) == made
    assert contents(output) == contents(few_shards)


def test_parts_share_the_folder_with_parts_alone(tiny_games: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="part=4/3: parts are numbered from 1 to 3"):
        convert(input=str(tiny_games), output=str(tmp_path), part="4/3")
    part = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(part, fcntl.LOCK_SH)
        with pytest.raises(InputError, match="another conversion is writing there"):
            convert(input=str(tiny_games), output=str(tmp_path))
    finally:
        os.close(part)
