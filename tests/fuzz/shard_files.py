"""Targets of shards: ``manifest``, ``index`` and ``chunk``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import zstandard

from agent_scaling.data.shards import codec
from agent_scaling.data.shards.layout import NETHACK, Layout
from agent_scaling.data.shards.manifest import MAX_CHUNK_BYTES
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import content_hash
from tests.fuzz.mutations import mutate_bytes, mutate_json
from tests.fuzz.target import Target

MANIFEST, INDEX, TAR = "manifest.json", "train-00000.json", "train-00000.tar"
CHUNK_FRAMES = 64
"""Frames of the chunks in the seeds."""
LABELLED = Layout("nethack", NETHACK.planes, NETHACK.keys, labelled=True)
HEAD = 4
"""Bytes before a chunk's own: three of its frames, and one of its layout."""


def small_set(shards: Path, folder: Path) -> Path:
    """Fill ``folder`` with a set of one shard of one game of one chunk; most of its JSON matters.

    Its JSON lies there as ``manifest`` and ``index``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(shards / TAR, folder)
    index = json.loads((shards / INDEX).read_text())
    manifest = json.loads((shards / MANIFEST).read_text())
    game = index["games"][0]
    game["frames"] = min(game["frames"], manifest["chunk_frames"])
    game["chunks"], index["games"] = game["chunks"][:1], [game]
    manifest["splits"] = {"train": manifest["splits"]["train"][:1]}
    manifest["layout"]["keys"] = manifest["layout"]["keys"][:5]
    (folder / "index").write_text(json.dumps(index))
    (folder / "manifest").write_text(json.dumps(manifest))
    return folder


def read_set(folder: Path, manifest: bytes, index: bytes) -> int:
    """Read every chunk of the set in ``folder`` with another manifest and index; return frames.

    The manifest knows the index, as that of someone who means harm would.
    """
    known = json.loads((folder / "manifest").read_bytes())["splits"]["train"][0]["index_hash"]
    found = manifest.replace(known.encode(), content_hash(index).encode())
    (folder / MANIFEST).write_bytes(found)
    (folder / INDEX).write_bytes(index)
    reader = ShardReader(folder, "train")
    decoder = reader.decoder()
    assert decoder.raw.nbytes <= MAX_CHUNK_BYTES + 1
    return sum(
        len(reader.chunk(game, number, decoder).small)
        for game, entry in enumerate(reader.games)
        for number in range(len(entry.chunks))
    )


def manifest_target(shards: Path, scratch: Path) -> Target:
    """Any manifest beside an index that it knows."""
    folder = small_set(shards, scratch / "manifest")
    seed, index = (folder / "manifest").read_bytes(), (folder / "index").read_bytes()
    return Target(
        [seed], lambda data: read_set(folder, data, index), (InputError,), mutate_json, longest=8192
    )


def index_target(shards: Path, scratch: Path) -> Target:
    """Any index beside a manifest that knows it."""
    folder = small_set(shards, scratch / "index")
    manifest, seed = (folder / "manifest").read_bytes(), (folder / "index").read_bytes()
    return Target([seed], lambda data: read_set(folder, manifest, data), (InputError,), mutate_json)


def chunk_target(shards: Path, scratch: Path) -> Target:
    """Any chunk, with any number of frames declared, labelled or not."""
    entry = json.loads((shards / INDEX).read_text())["games"][0]
    offset, size, _ = entry["chunks"][0]
    real = (shards / TAR).read_bytes()[offset : offset + size]
    frames = min(entry["frames"], json.loads((shards / MANIFEST).read_text())["chunk_frames"])
    short = codec.encode(codec.decode(real, frames), codec.compressor(3))
    seeds = [frames.to_bytes(3, "little") + b"\0" + data for data in (real, short)]
    return Target(
        seeds,
        read_chunk,
        (codec.CorruptChunk,),
        mutate_chunk,
        megabytes=2 * MAX_CHUNK_BYTES >> 20,
        longest=max(4096, 2 * max(map(len, seeds))),
    )


def read_chunk(data: bytes) -> None:
    """Decode a chunk whose first bytes say what it is declared as."""
    frames = int.from_bytes(data[: HEAD - 1], "little")
    layout = LABELLED if data[HEAD - 1 : HEAD] > b"\x7f" else NETHACK
    assert len(codec.decode(data[HEAD:], frames, layout)) == frames


def mutate_chunk(data: bytes, rng: Random) -> bytes:
    """Change the declared frames, the compressed bytes, or the frames in them."""
    head, body = data[:HEAD], data[HEAD:]
    way = rng.randrange(4)
    if way == 0:
        return mutate_bytes(head, rng)[:HEAD].ljust(HEAD, b"\0") + body
    if way == 1:
        return head + mutate_bytes(body, rng)
    frames = rng.choice([1, 2, CHUNK_FRAMES, codec.MAX_CHUNK_FRAMES]) if way == 2 else 1
    planes = frames * NETHACK.bytes_per_frame + 1 + rng.choice([0, 0, 1, frames])
    level = rng.randint(1, 5)
    forged = zstandard.ZstdCompressor(level, write_content_size=rng.random() < 0.9)
    content = mutate_bytes(bytes(min(planes, 1 << 20)), rng)
    return frames.to_bytes(3, "little") + head[-1:] + forged.compress(content)
