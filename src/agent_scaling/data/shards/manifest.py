"""``manifest.json`` and one index file per shard, which locate every chunk of every game."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from agent_scaling.data.shards.codec import MAX_CHUNK_FRAMES
from agent_scaling.data.shards.layout import INVENTORY_VERSION, VERSION, Layout
from agent_scaling.data.shards.storage import Damaged, Storage
from agent_scaling.data.shards.threads import ReadingThreads
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import content_hash

T = TypeVar("T")

FORMAT = "agent-scaling-shards"
MANIFEST = "manifest.json"

Count = Annotated[int, Field(ge=0, lt=1 << 48)]
Positive = Annotated[int, Field(ge=1, lt=1 << 48)]
Name = Annotated[str, Field(pattern=r"\A[A-Za-z0-9_-]+\z", max_length=200)]
"""Part of a file's or a member's name; it cannot lead to another folder."""

MAX_CHUNK_BYTES = 1 << 29
"""Largest unpacked chunk; its memory is allocated before the chunk is read."""

STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True)
class GameEntry:
    """Index entry of one game in a shard."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    id: str
    key: Annotated[str, Field(pattern=r"\A[A-Za-z0-9_-]+\z")]
    """The game's part of the WebDataset keys ``<key>-<chunk>``."""
    frames: Positive
    actions: Count
    """Frames that carry a target: a decision, with a key in the action set."""
    decisions: tuple[Count, Count]
    """Frames [begin, end) that the player answered."""
    unknown_keys: Count
    """Decisions whose key is not in the action set (they carry no target)."""
    version: int
    """Recording format (3 has keys and scores, 2 keys, 1 neither)."""
    metadata: Mapping[str, str | int | float | None]
    parts: tuple[str, ...]
    chunks: tuple[tuple[Count, Positive, Count], ...]
    """(offset in the tar, bytes, crc32) of each chunk's compressed planes."""


@dataclass(frozen=True)
class ShardIndex:
    """The index file of one shard."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    plan: str
    """Fingerprint of the conversion that the shard is part of."""
    tar_bytes: Count
    """Size of the tar; 0 if none of its games was usable, when there is no tar."""
    games: tuple[GameEntry, ...]
    skipped: tuple[Mapping[str, str], ...]
    format: str = FORMAT
    version: int = VERSION

    def to_json(self) -> bytes:
        """Return compact, sorted JSON, so that equal indexes are equal files."""
        return dump_json(asdict(self), compact=True)


@dataclass(frozen=True)
class ShardEntry:
    """A shard as the manifest lists it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Name
    """Stem of the files ``<name>.tar`` and ``<name>.json``."""
    bytes: Count
    index_hash: Annotated[str, Field(pattern=r"\A[0-9a-f]{32}\z")]
    games: Count
    frames: Count
    actions: Count

    @property
    def tar(self) -> str:
        """Name of the file of chunks."""
        return f"{self.name}.tar"

    @property
    def index(self) -> str:
        """Name of the index file."""
        return f"{self.name}.json"


@dataclass(frozen=True)
class Totals:
    """Sums over the shards of a split."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    games: Count = 0
    frames: Count = 0
    actions: Count = 0
    bytes: Count = 0


@dataclass(frozen=True)
class Manifest:
    """The content of a directory of shards."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    fingerprint: str
    """Hash of the frames and their order; equal fingerprints mean equal training data."""
    plan: str
    chunk_frames: Annotated[int, Field(ge=1, le=MAX_CHUNK_FRAMES)]
    layout: Layout
    settings: Mapping[str, Any]
    splits: Mapping[str, tuple[ShardEntry, ...]]
    totals: Mapping[str, Totals]
    skipped: tuple[Mapping[str, str], ...] = field(default=())
    filtered: Count = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the programs that played the games and showed their frames; empty: unknown."""
    format: str = FORMAT
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.chunk_frames * self.layout.bytes_per_frame > MAX_CHUNK_BYTES:
            raise ValueError(f"a chunk has more than {MAX_CHUNK_BYTES} bytes")
        if self.version != self.layout.version:
            raise ValueError(f"its layout is not of format version {self.version}")
        if twice := repeated(shard.name for shards in self.splits.values() for shard in shards):
            raise ValueError(f"it lists {twice} twice")

    def to_json(self) -> bytes:
        """Return indented, sorted JSON that people can read."""
        found = asdict(self) | {"layout": self.layout.to_json()}
        if not self.versions:
            del found["versions"]
        return dump_json(found)


def dump_json(value: object, compact: bool = False) -> bytes:
    """Return deterministic JSON in UTF-8 with a newline at the end."""
    style: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    return (json.dumps(value, sort_keys=True, ensure_ascii=False, **style) + "\n").encode()


@dataclass(frozen=True)
class _Head:
    """The fields that a manifest or an index of any version has."""

    format: str
    version: int


_HEAD, _INDEX, _MANIFEST = TypeAdapter(_Head), TypeAdapter(ShardIndex), TypeAdapter(Manifest)


def _parse(data: bytes, adapter: TypeAdapter[T]) -> T:
    """Parse JSON to the adapter's type; raises :class:`Damaged` for any other bytes."""
    try:
        head = _HEAD.validate_json(data)
        if head.format != FORMAT:
            raise Damaged("is not a manifest or index of shards")
        if head.version not in (VERSION, INVENTORY_VERSION):
            reads = f"{VERSION} and {INVENTORY_VERSION}"
            raise Damaged(f"has format version {head.version}, but this program reads {reads}")
        return adapter.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        at = ".".join(map(str, first["loc"]))
        what = " ".join(first["msg"].split())
        raise Damaged(f"is broken ({at + ': ' if at else ''}{what})"[:300]) from None


def parse_index(data: bytes) -> ShardIndex:
    """Parse an index file; raises :class:`Damaged`."""
    return _parse(data, _INDEX)


def parse_manifest(data: bytes) -> Manifest:
    """Parse a manifest; raises :class:`Damaged`."""
    return _parse(data, _MANIFEST)


def load_manifest(storage: Storage) -> Manifest:
    """Read the manifest of a set of shards; raises :class:`InputError`."""
    return storage.read(MANIFEST, parse_manifest)


def load_split(storage: Storage, split: str) -> tuple[Manifest, list[tuple[ShardEntry, GameEntry]]]:
    """Load the manifest, and (shard, game) of each game of a split, in order.

    Raises:
        InputError: A shard is missing, its size differs from the manifest's, its index is not the
            one that the manifest was written for, or a chunk's place in the tar is impossible.
    """
    manifest = load_manifest(storage)
    entries = manifest.splits.get(split, ())
    with ReadingThreads(storage.readers) as pool:
        shards = pool.map(lambda entry: _load_shard(storage, manifest, entry), entries)
        games = [
            (entry, game) for entry, found in zip(entries, shards, strict=True) for game in found
        ]
    if twice := repeated(game.key for _, game in games):
        raise InputError(f"{storage.where(MANIFEST)} is broken: {split} has game {twice} twice")
    return manifest, games


def _load_shard(storage: Storage, manifest: Manifest, entry: ShardEntry) -> tuple[GameEntry, ...]:
    def parse(data: bytes) -> ShardIndex:
        if content_hash(data) != entry.index_hash:
            raise Damaged(f"is not the index that {MANIFEST} was written for")
        index = parse_index(data)
        end = 0
        for game in index.games:
            end = check_chunks(game, end, entry.bytes, manifest)
        return index

    index = storage.read(entry.index, parse, entry.index_hash)
    size = storage.size(entry.tar)
    if size not in (None, entry.bytes):
        raise InputError(
            f"{storage.where(entry.tar)} has {size} bytes, {MANIFEST} says {entry.bytes}: "
            "copy it again"
        )
    return index.games


def repeated(names: Iterable[str]) -> str | None:
    """Return a name that occurs twice, None without one."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def check_chunks(game: GameEntry, end: int, tar_bytes: int, manifest: Manifest) -> int:
    """Check a game's chunks; return their end in the tar, where the game before ended at ``end``.

    Raises:
        Damaged: The chunks do not hold the game's frames, or do not lie in the tar in order.
    """
    if len(game.chunks) != -(-game.frames // manifest.chunk_frames):
        raise Damaged(f"is broken ({game.key} has {len(game.chunks)} chunks)")
    raw = manifest.chunk_frames * manifest.layout.bytes_per_frame + 1
    largest = raw + raw // 128 + 512  # above zstd's size of incompressible data
    for offset, size, _ in game.chunks:
        if offset < end or size > largest or offset + size > tar_bytes:
            raise Damaged(f"is broken ({game.key}: no chunk can be {size} bytes at {offset})")
        end = offset + size
    return end
