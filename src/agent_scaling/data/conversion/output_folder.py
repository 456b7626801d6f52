"""The output folder of a conversion: finds finished shards and removes half-written ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from agent_scaling.data.conversion.finished_games import check_kept
from agent_scaling.data.conversion.plan import Plan, Shard
from agent_scaling.data.shards.manifest import MANIFEST, ShardIndex, load_manifest, parse_index
from agent_scaling.data.shards.storage import Folder
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import PARTIAL
from agent_scaling.runtime.jobs import Part


def finished(directory: Path, plan: Plan) -> dict[str, ShardIndex]:
    """Return the shards that an earlier run or another part of this conversion has finished.

    Raises:
        InputError: The folder holds shards of another conversion, or games that it converted.
    """
    other = f"output={directory}: holds shards of other games or settings: choose another directory"
    folder = Folder(directory)
    if (directory / MANIFEST).exists() and load_manifest(folder).plan != plan.fingerprint:
        raise InputError(other)
    check_kept(directory, plan.fingerprint)
    done = {}
    for path in sorted(directory.glob("*-[0-9][0-9][0-9][0-9][0-9].json")):
        index = folder.read(path.name, parse_index)
        if index.plan != plan.fingerprint:
            raise InputError(other)
        tar = path.with_suffix(".tar")
        if not index.tar_bytes or (tar.exists() and tar.stat().st_size == index.tar_bytes):
            done[path.stem] = index
    return done


def remove_partial(directory: Path, shards: Sequence[Shard]) -> None:
    """Remove the half-written files of these shards and of the manifest from an earlier run."""
    names = {shard.name for shard in shards} | {Path(MANIFEST).stem}
    for path in directory.glob(f".*{PARTIAL}"):
        if path.name[1:].partition(".")[0] in names:
            path.unlink(missing_ok=True)


def of_all_parts(
    directory: Path,
    plan: Plan,
    done: dict[str, ShardIndex],
    part: Part | None,
    console: Console,
) -> dict[str, ShardIndex] | None:
    """Return the shards of all parts, after this part has ``done`` its own.

    Where shards of other parts are missing, print a line and return None. ``part`` is None for a
    conversion that is not split.
    """
    if part is None:
        return done
    done = finished(directory, plan)  # other parts may have finished shards meanwhile
    if missing := len(plan.shards) - len(done):
        console.print(
            f"part {part} is done; {missing} shards of other parts are not: the last part writes "
            f"{MANIFEST}, or the same command without part=",
        )
        return None
    return done
