"""Shards that somebody else has made: what a tar says of its members, and lists that lie."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import content_hash

HEADERS: list[dict[str, Any]] = [
    {"name": "../../out.txt"},
    {"name": "/tmp/out.txt"},
    {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    {"type": tarfile.LNKTYPE, "linkname": "../manifest.json"},
    {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5},
    {"type": tarfile.FIFOTYPE},
    {"size": 1 << 60},
    {"name": "twice.frames.zst"},
    {"name": "twice.frames.zst"},
]
"""What the headers of a tar may say."""


@pytest.fixture
def shards(short_shards: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "inner" / "shards"
    shutil.copytree(short_shards, folder)
    return folder


def contents(folder: Path) -> list[bytes]:
    reader = ShardReader(folder, "train")
    chunks = ((game, n) for game, g in enumerate(reader.games) for n in range(len(g.chunks)))
    return [reader.raw(game, number)[0] for game, number in chunks]


def test_what_a_tar_says_of_its_members_means_nothing(short_shards: Path, shards: Path) -> None:
    """Chunks are read at the index's offsets; no header is looked at, nothing is extracted."""
    around = sorted(shards.parent.parent.rglob("*"))
    reader, number = ShardReader(shards, "train"), 0
    for game, entry in enumerate(reader.games):
        with (shards / reader._shards[game].tar).open("r+b") as file:
            for offset, size, _ in entry.chunks:
                header = tarfile.TarInfo("x")
                header.size = size
                for name, value in HEADERS[number % len(HEADERS)].items():
                    setattr(header, name, value)
                file.seek(offset - tarfile.BLOCKSIZE)
                file.write(header.tobuf(tarfile.GNU_FORMAT)[: tarfile.BLOCKSIZE])
                number += 1
    assert number > len(HEADERS)
    assert contents(shards) == contents(short_shards)
    assert sorted(shards.parent.parent.rglob("*")) == around


def changed(shards: Path, change: Callable[[Any, dict[str, Any]], None]) -> None:
    """Change the manifest and the indexes, as somebody would who can compute their hashes."""
    manifest = json.loads((shards / "manifest.json").read_text())
    indexes = {path.stem: json.loads(path.read_text()) for path in shards.glob("*-?????.json")}
    change(manifest, indexes)
    for name, index in indexes.items():
        (shards / f"{name}.json").write_text(json.dumps(index))
    for entry in (entry for entries in manifest["splits"].values() for entry in entries):
        entry["index_hash"] = content_hash((shards / f"{entry['name']}.json").read_bytes())
    (shards / "manifest.json").write_text(json.dumps(manifest))


def held_out_in_training(manifest: Any, indexes: dict[str, Any]) -> None:
    manifest["splits"]["train"].append(manifest["splits"]["val"][0])


def same_shard_twice(manifest: Any, indexes: dict[str, Any]) -> None:
    manifest["splits"]["train"].append(manifest["splits"]["train"][0])


def same_game_in_two_shards(manifest: Any, indexes: dict[str, Any]) -> None:
    indexes["train-00001"]["games"][0]["key"] = indexes["train-00000"]["games"][0]["key"]


def same_bytes_in_two_games(manifest: Any, indexes: dict[str, Any]) -> None:
    game = indexes["train-00001"]["games"][0]
    indexes["train-00001"]["games"].append(game | {"key": "other", "id": "other"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (held_out_in_training, r"manifest\.json is broken .*lists val-00000 twice"),
        (same_shard_twice, r"manifest\.json is broken .*lists train-00000 twice"),
        (same_game_in_two_shards, r"manifest\.json is broken: train has game \S+ twice"),
        (same_bytes_in_two_games, r"train-00001\.json is broken \(other: no chunk can be"),
    ],
)
def test_what_is_listed_twice_is_refused(shards: Path, change: Any, message: str) -> None:
    changed(shards, change)
    with pytest.raises(InputError, match=message) as error:
        ShardReader(shards, "train")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["manifest.json", "train-00001.json", "train-00001.tar"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused(shards: Path, name: str, kind: str) -> None:
    """They would be waited for, or read, without end."""
    path = shards / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(InputError, match=f"{name} is not a file"):
        ShardReader(shards, "train")
