"""``manifest.json`` and one index file per shard: where every chunk of every game lies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from agent_scaling.errors import InputError
from agent_scaling.shards.layout import Layout

FORMAT = "agent-scaling-shards"
VERSION = 2
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class GameEntry:
    """One game inside a shard."""

    id: str
    key: str
    """Its part of the WebDataset keys ``<key>-<chunk>``."""
    frames: int
    actions: int
    """Frames that carry a target: a decision, with a key in the action set."""
    decisions: tuple[int, int]
    """Frames [begin, end) that the player answered."""
    unknown_keys: int
    """Decisions whose key is not in the action set (they carry no target)."""
    version: int
    """Recording format (3 has keys and scores, 2 keys, 1 neither)."""
    metadata: Mapping[str, str | int]
    parts: tuple[str, ...]
    chunks: tuple[tuple[int, int, int], ...]
    """(offset in the tar, bytes, crc32) of each chunk's compressed planes."""


@dataclass(frozen=True)
class ShardIndex:
    """The index file of one shard."""

    plan: str
    """Fingerprint of the conversion that the shard is part of."""
    tar_bytes: int
    """Of the tar; 0 if none of its games could be used (there is no tar then)."""
    games: tuple[GameEntry, ...]
    skipped: tuple[Mapping[str, str], ...]

    def to_json(self) -> bytes:
        """Compact, sorted, newline at the end: equal indexes are equal files."""
        head = {"format": FORMAT, "version": VERSION}
        return dump_json(head | asdict(self), compact=True)


@dataclass(frozen=True)
class ShardEntry:
    """A shard as the manifest lists it."""

    name: str
    """``<name>.tar`` and ``<name>.json``."""
    bytes: int
    index_hash: str
    games: int
    frames: int
    actions: int


@dataclass(frozen=True)
class Totals:
    """Sums over a split."""

    games: int = 0
    frames: int = 0
    actions: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Manifest:
    """What a directory of shards holds."""

    fingerprint: str
    """Of the frames and their order: equal fingerprints, equal training data."""
    plan: str
    chunk_frames: int
    layout: Layout
    settings: Mapping[str, Any]
    splits: Mapping[str, tuple[ShardEntry, ...]]
    totals: Mapping[str, Totals]
    skipped: tuple[Mapping[str, str], ...] = field(default=())
    filtered: int = 0

    def to_json(self) -> bytes:
        """Indented, sorted: people read it."""
        value = asdict(self) | {"layout": self.layout.to_json()}
        return dump_json({"format": FORMAT, "version": VERSION} | value)


def dump_json(value: Any, compact: bool = False) -> bytes:
    """Deterministic JSON in UTF-8 with a newline at the end."""
    style: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    return (json.dumps(value, sort_keys=True, ensure_ascii=False, **style) + "\n").encode()


def content_hash(data: bytes) -> str:
    """blake2b, 16 bytes, as hexadecimal digits."""
    return blake2b(data, digest_size=16).hexdigest()


def _load(path: Path) -> tuple[dict[str, Any], bytes]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is missing: convert the games with agent-scaling shard") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    try:
        value = json.loads(data)
    except ValueError as error:
        raise InputError(f"{path} is broken ({error}): convert the games again") from None
    if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
        raise InputError(f"{path} is no manifest or index of shards")
    version = value.pop("version", None)
    if version != VERSION:
        raise InputError(
            f"{path} has format version {version}, this program reads {VERSION}: convert again"
        )
    return value, data


def load_index(path: Path) -> tuple[ShardIndex, bytes]:
    """An index file and its bytes; raises :class:`InputError`."""
    value, data = _load(path)
    try:
        games = tuple(
            GameEntry(
                **{k: v for k, v in game.items() if k not in ("decisions", "chunks", "parts")},
                decisions=tuple(game["decisions"]),
                parts=tuple(game["parts"]),
                chunks=tuple((offset, size, crc) for offset, size, crc in game["chunks"]),
            )
            for game in value.pop("games")
        )
        skipped = tuple(value.pop("skipped"))
        return ShardIndex(**value, games=games, skipped=skipped), data
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{path} is broken ({error!r}): convert the games again") from None


def load_manifest(directory: Path) -> Manifest:
    """The manifest of a directory of shards; raises :class:`InputError`."""
    path = directory / MANIFEST
    value, _ = _load(path)
    try:
        splits = {
            split: tuple(ShardEntry(**entry) for entry in entries)
            for split, entries in value.pop("splits").items()
        }
        totals = {split: Totals(**sums) for split, sums in value.pop("totals").items()}
        skipped = tuple(value.pop("skipped"))
        layout = Layout.from_json(value.pop("layout"))
        return Manifest(**value, layout=layout, splits=splits, totals=totals, skipped=skipped)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is broken ({error!r}): convert the games again") from None


def load_split(directory: Path, split: str) -> tuple[Manifest, list[tuple[Path, GameEntry]]]:
    """The manifest and (tar, game) of each game of a split, in order.

    Raises :class:`InputError` where a shard is missing, has another size than the manifest says, or
    its index is not the one that the manifest was written for.
    """
    manifest = load_manifest(directory)
    games: list[tuple[Path, GameEntry]] = []
    for entry in manifest.splits.get(split, ()):
        index_path, tar = directory / f"{entry.name}.json", directory / f"{entry.name}.tar"
        index, data = load_index(index_path)
        if content_hash(data) != entry.index_hash:
            raise InputError(f"{index_path} is not the index that {MANIFEST} was written for")
        try:
            size = tar.stat().st_size
        except OSError as error:
            raise InputError(f"{tar} of {MANIFEST} cannot be read: {error.strerror}") from None
        if size != entry.bytes:
            raise InputError(
                f"{tar} has {size} bytes, {MANIFEST} says {entry.bytes}: copy it again"
            )
        games += [(tar, game) for game in index.games]
    return manifest, games
