"""Storage of shards behind a URL: range requests, through a cache on the local disk.

The unit of reading is a *piece*: consecutive chunks of one game, up to :data:`PIECE_BYTES`. The
data order permutes games, so a lane's next game may lie in any shard. Whole shards would each be
downloaded for one game, and a cache smaller than the data would drop them before the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import fsspec

from agent_scaling.data.shards.cache import Cache
from agent_scaling.data.shards.patience import Cut, Patience, one_line
from agent_scaling.data.shards.storage import (
    MAX_FILE_BYTES,
    PATIENCE_MINUTES,
    ChunkAt,
    Damaged,
    check_chunk,
)
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import content_hash
from agent_scaling.runtime.secrets import mask

T = TypeVar("T")

PIECE_BYTES = 2 << 20
"""Largest piece. Most games of NLD are one piece, whose transfer takes longer than its latency."""

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "hf": "hf"}
"""URL scheme → extra of this package that installs its file system."""


class Remote:
    """Implementation of :class:`agent_scaling.data.shards.storage.Storage` for a URL.

    Requests that fail for a transient reason are retried
    (:class:`agent_scaling.data.shards.patience.Patience`).
    """

    readers = 16

    def __init__(
        self,
        url: str,
        cache: Cache,
        *,
        patience: float = 60 * PATIENCE_MINUTES,
        timeout: float = 60.0,
        attempts: int = 10,
        pause: float = 0.5,
    ) -> None:
        """Prepare the file system; the first request makes the connection.

        Args:
            url: Folder of the shards.
            cache: Cache of downloaded pieces.
            patience: Seconds for which an unreachable store is retried.
            timeout: Seconds for one request, where the file system lets us limit it (HTTP, S3, GCS,
                Azure; Hugging Face's has its own limits).
            attempts: Number of times that a request is made whose answer is damaged.
            pause: Longest first pause in seconds; doubles up to 30.

        Raises:
            InputError: No file system is installed for the URL.
        """
        try:
            self.fs, path = fsspec.url_to_fs(url)
        except ImportError as error:
            extra = EXTRAS.get(url.partition("://")[0])
            how = f"pip install 'agent-scaling[{extra}]'" if extra else "install what it names"
            raise InputError(f"data.shards={mask(url)}: {one_line(error)}: {how}") from None
        except ValueError as error:
            raise InputError(f"data.shards={mask(url)}: {one_line(error)}") from None
        self.url, _, self.query = url.partition("?") if is_http(url) else (url, "", "")
        self.url, self.path = self.url.rstrip("/"), path.partition("?")[0] if self.query else path
        self.path, self.cache = self.path.rstrip("/"), cache
        self.patience = Patience(patience, attempts, pause)
        self._torn: set[tuple[str, ChunkAt]] = set()
        """First chunks of pieces that hold a damaged chunk; these are read chunk by chunk."""
        self.options: dict[str, Any] = {"timeout": timeout} if self.fs.async_impl else {}

    def where(self, name: str) -> str:
        """Return a file's URL without credentials, for messages."""
        return mask(self._at(self.url, name))

    def _at(self, folder: str, name: str) -> str:
        """Return a file's path or URL: a token in the folder's query belongs behind the name."""
        return f"{folder}/{name}{self.query and '?'}{self.query}"

    def read(self, name: str, parse: Callable[[bytes], T], digest: str = "") -> T:
        """Read and parse a small file, through the cache where ``digest`` is given."""

        def download() -> tuple[bytes, T]:
            data = self._bytes(name, 0, MAX_FILE_BYTES)
            if digest and content_hash(data) != digest:
                raise Damaged("is not the one that the manifest was written for")
            return data, parse(data)

        try:
            if digest and (kept := self.cache.get(digest)) and content_hash(kept) == digest:
                return parse(kept)
            data, value = self.patience.ask(self.where(name), download)
        except Damaged as error:
            raise InputError(f"{self.where(name)} {error}: upload the shards again") from None
        if digest:
            self.cache.put(digest, data)
        return value

    def size(self, name: str) -> int | None:
        """Return a file's bytes, None where the server does not tell."""
        path = self._at(self.path, name)
        about: dict[str, Any] = self.patience.ask(
            self.where(name), lambda: self.fs.info(path, **self.options)
        )
        return about.get("size")

    def chunk(self, name: str, digest: str, chunks: Sequence[ChunkAt], number: int) -> bytes:
        """Read and check a game's chunk, with its piece and through the cache."""
        first, end = piece_of(chunks, number)
        if (digest, chunks[first]) not in self._torn:
            try:
                return self._chunk(name, digest, chunks, number, first, end)
            except Damaged:
                if end - first == 1:
                    raise
                self._torn.add((digest, chunks[first]))
        # A damaged chunk must not make the other chunks of its piece unreadable.
        return self._chunk(name, digest, chunks, number, number, number + 1)

    def _chunk(
        self, name: str, digest: str, chunks: Sequence[ChunkAt], number: int, first: int, end: int
    ) -> bytes:
        """Return chunk ``number``, from the piece [first, end)."""
        key = content_hash(f"{digest} {chunks[first]} {chunks[end - 1]}".encode())
        offset, size, crc = chunks[number]
        begin = offset - chunks[first][0]

        def kept() -> bytes | None:
            data = self.cache.get(key, begin, size)
            try:
                if data is not None:
                    check_chunk(data, size, crc)
            except Damaged:  # damaged on the local disk: download it again
                return None
            return data

        if (data := kept()) is not None:
            return data
        with self.cache.claimed(key):
            if (data := kept()) is not None:
                return data
            piece = self.patience.ask(
                self.where(name), lambda: self._piece(name, chunks[first:end])
            )
            self.cache.put(key, piece)
        return piece[begin : begin + size]

    def _piece(self, name: str, chunks: Sequence[ChunkAt]) -> bytes:
        """Download chunks with the bytes between them and check them; raises :class:`Damaged`."""
        begin, end = chunks[0][0], chunks[-1][0] + chunks[-1][1]
        data = self._bytes(name, begin, end)
        if len(data) != end - begin:  # not the shard's fault: its size was right when it was opened
            sent = f"{len(data)} bytes came for a range of {end - begin}"
            raise Cut(f"{sent}: the server must support range requests")
        for offset, size, crc in chunks:
            check_chunk(memoryview(data)[offset - begin : offset - begin + size], size, crc)
        return data

    def _bytes(self, name: str, begin: int, end: int) -> bytes:
        path = self._at(self.path, name)
        data: bytes = self.fs.cat_file(path, start=begin, end=end, **self.options)
        return data


def is_http(url: str) -> bool:
    """Return True for URLs in which ``?`` begins a query; elsewhere it belongs to the name."""
    return url.partition("://")[0].lower() in ("http", "https")


def piece_of(chunks: Sequence[ChunkAt], number: int) -> tuple[int, int]:
    """Return the piece [first, end) of a game's chunks that holds chunk ``number``."""
    first = 0
    for index, (offset, size, _) in enumerate(chunks):
        if index > first and offset + size - chunks[first][0] > PIECE_BYTES:
            if index > number:
                return first, index
            first = index
    return first, len(chunks)
