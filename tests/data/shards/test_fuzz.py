"""Any bytes in a manifest, an index or a chunk give frames or one clear line."""

from __future__ import annotations

import contextlib
import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agent_scaling.data.shards import codec
from agent_scaling.data.shards.manifest import parse_manifest
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.data.shards.storage import Damaged
from agent_scaling.runtime.errors import InputError
from tests.data.shards.test_codec import random_frames
from tests.fuzz.mutations import places
from tests.fuzz.shard_files import MANIFEST, TAR, read_set, small_set
from tests.helpers.fuzz import FUZZ

NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from([-1, 0, 1, 255, 256, 65536, 65537, 2**31, 2**48, 2**63, 10**30]),
    st.floats(),
)
NAMES = st.one_of(
    st.text(max_size=9),
    st.sampled_from(["../../etc/passwd", "/etc/passwd", "a\n", "|O8", "|u1", ""]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, NAMES),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def changed(draw: Callable[[Any], Any], text: bytes) -> bytes:
    """JSON with up to three of its parts replaced or removed."""
    value = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(places(value)[1:]))
        inside = value
        for key in way:
            inside = inside[key]
        if draw(st.booleans()):
            inside[last] = draw(VALUES)
        else:
            del inside[last]
        if not places(value)[1:]:
            break
    return json.dumps(value).encode("utf-8", "surrogatepass")


@st.composite
def broken(draw: Callable[[Any], Any], data: bytes) -> bytes:
    """Bytes with a part cut out, and others in its place."""
    begin, length = draw(st.integers(0, len(data))), draw(st.integers(0, 40))
    return data[:begin] + draw(st.binary(max_size=12)) + data[begin + length :]


@pytest.fixture(scope="module")
def small(short_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See :func:`small_set`."""
    folder = small_set(short_shards, tmp_path_factory.mktemp("fuzz"))
    assert frames_of(folder, (folder / "manifest").read_bytes(), (folder / "index").read_bytes())
    return folder


def frames_of(folder: Path, manifest: bytes, index: bytes) -> int:
    """Frames that can be read, 0 where an InputError of one line says why none can."""
    said = ""
    try:
        return read_set(folder, manifest, index)
    except InputError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 1000
    return 0


@FUZZ
@given(data=st.data())
def test_any_manifest(small: Path, data: st.DataObject) -> None:
    whole = (small / "manifest").read_bytes()
    manifest = data.draw(st.one_of(changed(whole), broken(whole), st.binary()))
    frames_of(small, manifest, (small / "index").read_bytes())


@FUZZ
@given(data=st.data())
def test_any_index(small: Path, data: st.DataObject) -> None:
    whole = (small / "index").read_bytes()
    index = data.draw(st.one_of(changed(whole), broken(whole), st.binary()))
    frames_of(small, (small / "manifest").read_bytes(), index)


CHUNK = codec.encode(random_frames(4, 0), codec.compressor(3))
FORGED = st.binary(max_size=600).map(zstandard.ZstdCompressor().compress)


@FUZZ
@given(data=st.one_of(broken(CHUNK), st.binary(), FORGED), frames=st.integers(-1, 70_000))
def test_any_chunk(data: bytes, frames: int) -> None:
    for count in (4, frames):
        with contextlib.suppress(codec.CorruptChunk):
            assert len(codec.decode(data, count)) == count


def test_a_chunk_that_is_forged_well(small: Path) -> None:
    """Its place, size and checksum are right; what it holds is not what the layout says."""
    manifest = json.loads((small / "manifest").read_text())
    index = json.loads((small / "index").read_text())
    tar = bytearray((small / TAR).read_bytes())
    offset, room, _ = index["games"][0]["chunks"][0]
    for content in (bytes(1 << 28), bytes(300 * 3848), b""):
        bomb = zstandard.ZstdCompressor(level=19).compress(content)
        assert len(bomb) <= room
        tar[offset : offset + len(bomb)] = bomb
        index["games"][0]["chunks"] = [[offset, len(bomb), zlib.crc32(bomb)]]
        folder = small / "forged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(small, folder)
        (folder / TAR).write_bytes(tar)
        assert frames_of(folder, json.dumps(manifest).encode(), json.dumps(index).encode()) == 0
        reader = ShardReader(folder, "train")
        with pytest.raises(InputError, match=r"frames\.zst cannot be decoded"):
            reader.chunk(0, 0, reader.decoder())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("splits", "train", 0, "name"), "../../etc/passwd", r"splits\.train\.0\.name"),
        (("splits", "train", 0, "name"), "/etc/passwd", r"splits\.train\.0\.name"),
        (("splits", "train", 0, "bytes"), 2**60, r"splits\.train\.0\.bytes"),
        (("chunk_frames",), 65537, "chunk_frames"),
        (("layout", "planes", 0, 0, 2), [60000, 60000], "a chunk has more than"),
        (("layout", "planes", 0, 0, 1), "|O8", r"layout\.planes"),
        (("more",), 1, "more"),
    ],
)
def test_what_a_manifest_may_not_say(
    short_shards: Path, path: tuple[Any, ...], value: Any, message: str
) -> None:
    manifest = json.loads((short_shards / MANIFEST).read_text())
    inside = manifest
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    with pytest.raises(Damaged, match=f"is broken .*{message}"):
        parse_manifest(json.dumps(manifest).encode())


@pytest.mark.parametrize("data", [b"[" * 10**6, b"1" * 10**5, b'"\\ud800"', b"\xff", b"", b"null"])
def test_json_that_breaks_readers(data: bytes) -> None:
    with pytest.raises(Damaged):
        parse_manifest(data)
