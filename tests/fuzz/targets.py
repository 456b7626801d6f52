"""All targets by name, made from recorded games and their shards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.fuzz.checkpoints import checkpoint_target
from tests.fuzz.recordings import ttyrec_target, xlogfile_target
from tests.fuzz.shard_files import chunk_target, index_target, manifest_target
from tests.fuzz.tables import csv_target
from tests.fuzz.target import Target

NAMES = ("manifest", "index", "chunk", "xlogfile", "ttyrec", "checkpoint", "csv")


def make_target(name: str, games: Path, shards: Path, scratch: Path) -> Target:
    """Make a target from games and shards; its files lie in ``scratch``, best a RAM disk."""
    makers: dict[str, Callable[[Path], Target]] = {
        "manifest": partial(manifest_target, shards),
        "index": partial(index_target, shards),
        "chunk": partial(chunk_target, shards),
        "xlogfile": partial(xlogfile_target, games),
        "ttyrec": partial(ttyrec_target, games),
        "checkpoint": checkpoint_target,
        "csv": csv_target,
    }
    return makers[name](scratch)
