"""Random access to the chunks of a split by byte range."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import zstandard

from agent_scaling.data.shards import codec
from agent_scaling.data.shards.hashing import keyed_hash
from agent_scaling.data.shards.layout import ABSENT, Layout
from agent_scaling.data.shards.manifest import GameEntry, Manifest, ShardEntry, load_split
from agent_scaling.data.shards.opening import open_storage
from agent_scaling.data.shards.storage import Damaged, Storage
from agent_scaling.envs.screens import are_glyphs
from agent_scaling.runtime.errors import InputError

Games = list[tuple[ShardEntry, GameEntry]]

OnCorrupt = Literal["stop", "skip"]

logger = logging.getLogger(__name__)

SMALL = np.dtype(
    [("action", "u1"), ("previous", "u1"), ("probability", "u1"), ("score", "<i4")], align=True
)
"""A Batch's values per frame apart from observations, as one 8-byte record for one fast copy."""
assert SMALL.itemsize == 8


class DamagedChunk(InputError):  # noqa: N818  # as CorruptChunk, with its place
    """A chunk's bytes differ from those written; the message names the file and the fix."""


@dataclass
class Chunk:
    """n decoded frames of one game."""

    shown: dict[str, npt.NDArray[Any]]
    """Name of each observation → its frames [n, …]."""
    small: npt.NDArray[np.uint64]
    """[n]: records of :data:`SMALL`."""


def _small(frames: codec.Frames, action_of_key: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    small = np.empty(len(frames), SMALL)
    small["score"] = frames.score
    small["probability"] = 0 if frames.probability is None else frames.probability
    small["action"] = np.where(frames.decision, action_of_key[frames.key], ABSENT)
    # The action before frame t; 0 where no key was pressed or the key has no action.
    before = action_of_key[np.concatenate([[frames.previous_key], frames.key[:-1]])]
    small["previous"] = np.where(before == ABSENT, 0, before)
    return small.view(np.uint64)


class Decoder:
    """A decompressor with memory for one chunk; each thread needs its own."""

    def __init__(self, layout: Layout, chunk_frames: int) -> None:
        self.zstd = zstandard.ZstdDecompressor()
        # Memory that is reused stays in the processor's cache; fresh memory would not.
        self.raw = np.empty(chunk_frames * layout.bytes_per_frame + 1, np.uint8)


class ShardReader:
    """Reader of single chunks of one split; safe to share between threads."""

    def __init__(
        self,
        location: str | Path | Storage,
        split: str,
        fraction: float = 1.0,
        on_corrupt: OnCorrupt = "stop",
        beyond: float = 0.0,
    ) -> None:
        """Load the indexes; raises :class:`InputError` where manifest, indexes and shards disagree.

        Args:
            location: Folder or URL of the shards, or their opened storage.
            split: ``train`` or ``val``.
            fraction: Share of the split's games to use, see :func:`subset`.
            on_corrupt: Reaction of :meth:`whole_chunk` to a damaged chunk: ``stop`` or ``skip``.
            beyond: Fraction whose games are left out.
        """
        opened = open_storage(location) if isinstance(location, str | Path) else location
        self.storage: Storage = opened
        self.manifest: Manifest
        self.manifest, games = load_split(self.storage, split)
        games = subset(games, fraction, beyond)
        self.games: list[GameEntry] = [game for _, game in games]
        self._shards = [shard for shard, _ in games]
        self.split, self.on_corrupt = split, on_corrupt
        self._lost: set[tuple[int, int]] = set()
        self._lock = threading.Lock()

    @property
    def layout(self) -> Layout:
        """The layout of the chunks' frames."""
        return self.manifest.layout

    @property
    def chunk_frames(self) -> int:
        """Frames per chunk (a game's last chunk may have fewer)."""
        return self.manifest.chunk_frames

    def by_shard(self) -> list[tuple[ShardEntry, list[int]]]:
        """Return each shard with the numbers of its games."""
        found: dict[str, tuple[ShardEntry, list[int]]] = {}
        for number, shard in enumerate(self._shards):
            found.setdefault(shard.name, (shard, []))[1].append(number)
        return list(found.values())

    def frames_in(self, game: int, number: int) -> int:
        """Return the number of frames of a chunk."""
        return min(self.chunk_frames, self.games[game].frames - number * self.chunk_frames)

    def raw(self, game: int, number: int) -> tuple[bytes, int]:
        """Return a chunk's compressed bytes, checked, and its number of frames."""
        entry, shard = self.games[game], self._shards[game]
        try:
            data = self.storage.chunk(shard.tar, shard.index_hash, entry.chunks, number)
        except Damaged as error:
            where = self._member(game, number)
            raise DamagedChunk(f"{where} {error}: copy the shard again or convert again") from None
        return data, self.frames_in(game, number)

    def chunk(self, game: int, number: int, decoder: Decoder) -> Chunk:
        """Decode chunk ``number`` of a game into the decoder's memory.

        The result is valid until the decoder decodes another chunk. Raises :class:`DamagedChunk`.
        """
        frames = self.frames(game, number, decoder)
        return Chunk(frames.shown, _small(frames, self.layout.action_of_key))

    def frames(self, game: int, number: int, decoder: Decoder | None = None) -> codec.Frames:
        """Decode a chunk to the frames as written; without a decoder, into memory of their own."""
        data, count = self.raw(game, number)
        decoder = decoder or self.decoder()
        try:
            raw = codec.decompress(data, count, decoder.zstd, decoder.raw, self.layout)
        except codec.CorruptChunk as error:
            where = self._member(game, number)
            raise DamagedChunk(f"{where} cannot be decoded ({error}): convert again") from None
        frames = codec.view(raw, count, self.layout)
        glyphs = frames.shown.get("inv_glyphs")
        if glyphs is not None and not are_glyphs(glyphs):  # a table would be read beyond its end
            where = self._member(game, number)
            raise DamagedChunk(f"{where} holds numbers that are no glyphs: convert again")
        return frames

    def whole_chunk(self, game: int, number: int, decoder: Decoder) -> Chunk | None:
        """Decode a chunk like :meth:`chunk`; with ``on_corrupt="skip"``, return None for damage.

        Each damaged chunk is reported once and not read again, which behind a URL would take
        minutes.
        """
        with self._lock:
            if (game, number) in self._lost:
                return None
        try:
            return self.chunk(game, number, decoder)
        except DamagedChunk as error:
            if self.on_corrupt == "stop":
                how = ", or leave it out: on_corrupt=skip" if self.split == "train" else ""
                raise DamagedChunk(f"{error}{how}") from None
            with self._lock:
                if (game, number) not in self._lost:
                    frames = self.frames_in(game, number)
                    logger.warning("%s; on_corrupt=skip leaves out its %d frames", error, frames)
                self._lost.add((game, number))
            return None

    def _member(self, game: int, number: int) -> str:
        """Return a chunk's file and member, for messages."""
        tar = self.storage.where(self._shards[game].tar)
        return f"{tar}: {self.games[game].key}-{number:05d}.frames.zst"

    def decoder(self) -> Decoder:
        """Make a decoder for :meth:`chunk`."""
        return Decoder(self.layout, self.chunk_frames)


def subset(games: Games, fraction: float, beyond: float = 0.0) -> Games:
    """Select the games whose hash, as a fraction, is at most ``fraction``; at least one, in order.

    The games of ``subset(games, beyond)`` are left out. A game's hash depends on its identity
    alone, so subsets are nested: the games of a half are among those of three quarters.
    """
    if fraction == 1 and not beyond:
        return games
    place = {game.id: keyed_hash(game.id, "fraction") / 2**64 for _, game in games}
    least = min(place.values(), default=0.0)
    low, high = max(beyond, least) if beyond else -1.0, max(fraction, least)
    return [(shard, game) for shard, game in games if low < place[game.id] <= high]
