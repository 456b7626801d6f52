"""The verb ``shard``: converts a directory of recorded games to shards, in parallel, resumably."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agent_scaling.config.command import command, setting
from agent_scaling.data.conversion.encode import EncodedGame, UnknownKeys
from agent_scaling.data.conversion.finished_games import Output, remove_kept
from agent_scaling.data.conversion.output_folder import finished, of_all_parts, remove_partial
from agent_scaling.data.conversion.plan import SPLITS, Plan, Shard, make_plan
from agent_scaling.data.conversion.played import played_versions
from agent_scaling.data.conversion.workers import Conversion, Job, sigterm_ends
from agent_scaling.data.recordings.base import MENU_FRAMES, Discovery, Skipped, Source
from agent_scaling.data.shards.layout import VERSION, Layout
from agent_scaling.data.shards.manifest import (
    MANIFEST,
    Manifest,
    ShardEntry,
    ShardIndex,
    Totals,
)
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import content_hash, is_url, write_file
from agent_scaling.runtime.jobs import find_part
from agent_scaling.runtime.locks import output_locked
from agent_scaling.runtime.progress_bar import Bar
from agent_scaling.runtime.terminal import plain_console


def shard(
    *,
    input: str,
    output: str,
    source: Source | None = None,
    processes: int | None = None,
    chunk_frames: int = 2048,
    shard_megabytes: float = 64,
    level: int = 9,
    val_fraction: float = 0.1,
    split_salt: str = "",
    filters: Mapping[str, Any] | None = None,
    unknown_keys: UnknownKeys = "skip",
    actions: bool = True,
    part: str | None = None,
) -> Manifest | None:
    """Convert the games under ``input`` to shards under ``output``.

    Args:
        input: Directory of recorded games, or another name that the source can locate.
        output: Directory of the shards; a killed conversion resumes from the games it has kept.
        source: Kind of recording; NLD-AA's layout by default.
        processes: Worker processes; None: one per available core. The shards do not depend on it.
        chunk_frames: Frames per chunk, the unit of reading.
        shard_megabytes: Recordings (10^6 bytes) per shard.
        level: zstd's compression level.
        val_fraction: Share of games to hold out, by the hash of their identity.
        split_salt: Text mixed into the hashes; another text gives another split and order.
        filters: Conditions on the games' metadata; see
            :func:`agent_scaling.data.conversion.plan.passes`.
        unknown_keys: Treatment of games with a key outside the action set: "skip" leaves out the
            game, "mask" gives those frames no target.
        actions: False drops the recorded keys, to try on games with actions a method for games
            without.
        part: ``3/8``: convert only the third of eight shares of the shards; ``slurm``: the share of
            this array job. The job that completes the shards writes the manifest.

    Returns:
        The manifest, as written last to ``manifest.json``; None where other parts are missing.
    """
    share = find_part(part, key="part")
    _check(chunk_frames, shard_megabytes, level, val_fraction, unknown_keys, processes)
    if is_url(output):
        raise InputError(
            f"output={output}: shards are written to a local folder, which can be locked and "
            "resumed; upload the folder when it is done, manifest.json last"
        )
    if source is None:  # which needs NLE; sources of other games do not
        from agent_scaling.data.recordings.ttyrec import TtyrecSource

        source = TtyrecSource()
    directory = Path(output)
    root = source.locate(input)
    begin = time.monotonic()
    console = plain_console(stderr=True, soft_wrap=True)
    settings = {
        "format": VERSION,
        "source": source.name,
        "chunk_frames": chunk_frames,
        "level": level,
        "val_fraction": val_fraction,
        "split_salt": split_salt,
        "filters": {k: v for k, v in (filters or {}).items() if v is not None},
        "unknown_keys": unknown_keys,
    } | ({} if actions else {"actions": False})  # no key by default: older conversions resume
    found = _discover(root, source, console)
    layout = found.layout
    plan = _plan(found, settings, int(shard_megabytes * 1e6))
    for lost in plan.skipped:
        _say_skipped(console, lost)
    with output_locked(directory, "conversion", shared=share is not None):
        mine = share.share(plan.shards) if share else plan.shards
        done = finished(directory, plan)
        remove_partial(directory, mine)
        to = Output(directory, plan.fingerprint, layout, chunk_frames)
        job = Job(source, root, to, level, unknown_keys, actions)
        todo = [shard for shard in mine if shard.name not in done]
        done |= _convert(todo, job, processes, console)
        whole = of_all_parts(directory, plan, done, share, console)
        if whole is None:
            return None
        versions = played_versions(layout, source.name, whole.values())
        manifest = write_manifest(directory, plan, layout, whole, settings, versions)
    _say_menus(console, whole.values())
    _print_summary(console, manifest, directory, time.monotonic() - begin)
    return manifest


def _check(
    chunk_frames: int,
    shard_megabytes: float,
    level: int,
    val_fraction: float,
    unknown_keys: str,
    processes: int | None,
) -> None:
    if not 1 <= chunk_frames <= 1 << 16:
        raise InputError(f"chunk_frames={chunk_frames}: must be 1 to 65536")
    if shard_megabytes <= 0:
        raise InputError(f"shard_megabytes={shard_megabytes}: must be positive")
    if not 1 <= level <= 22:
        raise InputError(f"level={level}: zstd has levels 1 to 22")
    if not 0 <= val_fraction < 1:
        raise InputError(f"val_fraction={val_fraction}: must be at least 0 and below 1")
    if unknown_keys not in ("skip", "mask"):
        raise InputError(f"unknown_keys={unknown_keys}: must be skip or mask")
    if processes is not None and processes < 1:
        raise InputError(f"processes={processes}: must be at least 1")


def _discover(root: Path, source: Source, console: Console) -> Discovery:
    found = source.discover(root)
    if not found.games:
        for lost in found.skipped:
            _say_skipped(console, lost)
        more = f" ({len(found.skipped)} skipped: see the lines above)" if found.skipped else ""
        raise InputError(f"input={root}: no games of source {source.name} in it{more}")
    return found


def _plan(found: Discovery, settings: Mapping[str, Any], shard_bytes: int) -> Plan:
    plan = make_plan(
        found.games,
        found.skipped,
        filters=settings["filters"],
        val_fraction=settings["val_fraction"],
        salt=settings["split_salt"],
        shard_bytes=shard_bytes,
        settings={**settings, "layout": found.layout.to_json()},
    )
    if not plan.shards:
        raise InputError(
            f"filters={dict(settings['filters'])}: none of {plan.filtered} games passes"
        )
    return plan


def _convert(
    todo: Sequence[Shard], job: Job, processes: int | None, console: Console
) -> dict[str, ShardIndex]:
    """Write the shards in ``todo``, in order; games are converted in parallel."""
    indexes: dict[str, ShardIndex] = {}
    if not todo:
        return indexes
    # The bar moves by bytes of recordings: games differ a hundredfold in length.
    total = sum(game.bytes for s in todo for game in s.games)
    with (
        sigterm_ends(),
        Bar("{task.description}", total=total, console=console) as bar,
        Conversion(job, todo, processes, bar) as games,
    ):
        for s in todo:
            mine = itertools.islice(games, len(s.games))
            indexes[s.name] = job.output.join(s.name, _told(mine, console))
    if games.kept:
        console.print(f"{games.kept} games were kept from an earlier run")
    return indexes


def _told(
    games: Iterable[EncodedGame | Skipped], console: Console
) -> Iterator[EncodedGame | Skipped]:
    for game in games:
        if isinstance(game, Skipped):
            _say_skipped(console, game)
        yield game


def _say_skipped(console: Console, lost: Skipped) -> None:
    console.print(f"skipped {lost}")


def _say_menus(console: Console, indexes: Iterable[ShardIndex]) -> None:
    """Say how many frames of menus were left out, and of how many games."""
    games = (game.metadata.get(MENU_FRAMES) for index in indexes for game in index.games)
    menus = [int(frames) for frames in games if frames]
    if menus:
        console.print(
            f"{sum(menus):,} frames of menus before {len(menus):,} games are left out",
        )


def write_manifest(
    directory: Path,
    plan: Plan,
    layout: Layout,
    indexes: Mapping[str, ShardIndex],
    settings: Mapping[str, Any],
    versions: Mapping[str, str],
) -> Manifest:
    """Write ``manifest.json``, which lists a plan's shards once all of them are written.

    ``versions`` are those of the programs that played the games, as far as they are known.

    Raises:
        InputError: The shards hold no games, or are not there any more.
    """
    splits: dict[str, tuple[ShardEntry, ...]] = {}
    totals: dict[str, Totals] = {}
    for split in SPLITS:
        entries = [
            ShardEntry(
                name=shard.name,
                bytes=index.tar_bytes,
                index_hash=content_hash(index.to_json()),
                games=len(index.games),
                frames=sum(game.frames for game in index.games),
                actions=sum(game.actions for game in index.games),
            )
            for shard in plan.splits[split]
            if (index := indexes[shard.name]).games
        ]
        splits[split] = tuple(entries)
        totals[split] = Totals(
            *(sum(getattr(e, f.name) for e in entries) for f in dataclasses.fields(Totals))
        )
    if not sum(total.games for total in totals.values()):
        raise InputError(
            f"output={directory}: none of the games could be used; see the lines above"
        )
    files = [name for entries in splits.values() for e in entries for name in (e.tar, e.index)]
    if gone := [name for name in files if not (directory / name).exists()]:
        raise InputError(
            f"output={directory}: {gone[0]} was deleted or moved during the conversion; the same "
            "command writes it again"
        )
    lost = [{"file": s.file, "reason": s.reason} for s in plan.skipped]
    lost += [dict(s) for shard in plan.shards for s in indexes[shard.name].skipped]
    content = "".join(entry.index_hash for split in SPLITS for entry in splits[split])
    manifest = Manifest(
        fingerprint=content_hash(content.encode()),
        plan=plan.fingerprint,
        chunk_frames=settings["chunk_frames"],
        layout=layout,
        settings=settings,
        splits=splits,
        totals=totals,
        skipped=tuple(lost),
        filtered=plan.filtered,
        versions=versions,
        version=layout.version,
    )
    write_file(directory / MANIFEST, manifest.to_json())
    remove_kept(directory)
    return manifest


def _print_summary(console: Console, manifest: Manifest, directory: Path, seconds: float) -> None:
    table = Table(title=f"Shards in {directory}", title_justify="left", box=None)
    for name in ("split", "games", "frames", "actions", "shards", "MB", "bytes/frame"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split, total in manifest.totals.items():
        per_frame = f"{total.bytes / total.frames:.1f}" if total.frames else "-"
        shards = str(len(manifest.splits[split]))
        numbers = (f"{total.games:,}", f"{total.frames:,}", f"{total.actions:,}", shards)
        table.add_row(split, *numbers, f"{total.bytes / 1e6:.1f}", per_frame)
    console.print(table)
    console.print(
        f"{len(manifest.skipped)} skipped, {manifest.filtered} filtered out, {seconds:.1f} s",
    )
    if manifest.totals["train"].actions:  # games without actions must be labelled first
        experiment = f"experiment={manifest.layout.game}_bc"
        shards = setting("data.shards", directory)
        console.print(
            f"next: {command('train', experiment, shards, 'flops_budget=1e12', 'output=run')}",
        )
