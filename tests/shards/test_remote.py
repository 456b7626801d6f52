"""Shards behind a URL give what the folder gives, whatever the network and the cache go through."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from agent_scaling.batch import Batch
from agent_scaling.errors import InputError
from agent_scaling.shards.cache import Cache
from agent_scaling.shards.reader import ShardReader
from agent_scaling.shards.remote import Remote, piece_of
from agent_scaling.shards.storage import absolute, open_storage
from data_modules.shards import ShardsDataModule
from tests.remote_shards import WINDOWS, agree, remote, windows
from tests.shard_server import ShardServer, every_fifth


@pytest.fixture(scope="module")
def bucket(short_shards: Path) -> Iterator[str]:
    """The shards in an S3 bucket of a server on loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3 = fsspec.filesystem("s3", skip_instance_cache=True)
        s3.mkdir("games")
        s3.put(str(short_shards), "games/shards", recursive=True)
        yield "s3://games/shards"
    server.stop()


def test_an_object_store_gives_the_same_batches(
    bucket: str, tmp_path: Path, short_shards: Path, expected: list[Batch]
) -> None:
    assert agree(windows(remote(bucket, tmp_path)), expected)
    assert agree(windows(remote(bucket, tmp_path), workers=0, start=57), expected[57:])
    tar = "s3://games/shards/train-00001.tar"
    fsspec.filesystem("s3").rm(tar)
    with pytest.raises(InputError, match=f"{tar} is missing: upload") as error:
        ShardReader(remote(bucket, tmp_path), "train")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"s3://none/x/manifest\.json is missing"):
        ShardReader(remote("s3://none/x", tmp_path), "train")


def test_a_data_module_goes_on_from_a_url_where_it_stood_in_a_folder(
    short_shards: Path, tmp_path: Path
) -> None:
    fsspec.filesystem("memory").put(str(short_shards), "/games", recursive=True)
    options = {"lanes": 6, "unroll_length": 40, "val_lanes": 2}
    local = ShardsDataModule(str(short_shards), **options)
    there = ShardsDataModule("memory://games", **options, cache_dir=str(tmp_path), cache_gb=1)
    there.load_state_dict(local.state_dict() | {"step": 30})
    batches = list(itertools.islice(local.train_dataloader(), 60))[30:]
    assert agree(iter(there.train_dataloader()), batches)
    assert agree(iter(there.val_dataloader()), list(local.val_dataloader()))
    assert there.facts == local.facts


@pytest.mark.parametrize("fault", ["503", "stall", "short", "cut"])
def test_a_bad_network_changes_no_batch(
    short_shards: Path, tmp_path: Path, expected: list[Batch], fault: str
) -> None:
    with ShardServer(short_shards, every_fifth(fault)) as server:
        found = windows(remote(server.url, tmp_path, timeout=3))
        assert agree(found, expected)
        assert server.requests > 10


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("503", r"/train-00000\.tar cannot be read in 3 attempts \(.*503"),
        ("stall", r"/train-00000\.tar cannot be read in 3 attempts \(FSTimeoutError"),
        ("short", r"/train-00000\.tar cannot be read in 3 attempts \(ClientPayloadError"),
        ("cut", r"/train-00000\.tar cannot be read in 3 attempts \(OSError: .* bytes came for"),
        ("whole", r"/train-00000\.tar cannot be read in 3 attempts \(OSError: .* range requests"),
    ],
)
def test_what_does_not_pass_is_one_line(
    short_shards: Path, tmp_path: Path, fault: str, message: str
) -> None:
    server = ShardServer(short_shards)
    with server:
        found = windows(remote(server.url, tmp_path, timeout=1, attempts=3), workers=1)
        server.fault = lambda number, name: fault if name == "train-00000.tar" else ""
        with pytest.raises(InputError, match=message) as error:
            list(itertools.islice(found, WINDOWS))
        assert "\n" not in str(error.value)


def test_a_shard_that_is_lost(short_shards: Path, tmp_path: Path) -> None:
    shutil.copytree(short_shards, tmp_path / "s")
    with ShardServer(tmp_path / "s") as server:
        found = windows(remote(server.url, tmp_path / "c"))
        (tmp_path / "s" / "train-00001.tar").unlink()
        asked = server.requests
        with pytest.raises(InputError, match=r"/train-00001\.tar is missing: upload"):
            list(itertools.islice(found, WINDOWS))
        assert server.requests - asked < 10  # it is not asked for again and again
        with pytest.raises(InputError, match=r"/train-00001\.tar is missing: upload"):
            ShardReader(remote(server.url, tmp_path / "c"), "train")
        shutil.copy(short_shards / "train-00001.tar", tmp_path / "s")
        index = tmp_path / "s" / "train-00002.json"
        index.write_bytes(index.read_bytes().replace(b"nle", b"nld"))
        with pytest.raises(InputError, match=r"train-00002\.json is not the one"):
            ShardReader(remote(server.url, tmp_path / "empty", attempts=2), "train")


def test_a_bucket_without_credentials_is_one_line_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    storage = remote("s3://games/shards", tmp_path)
    storage.fs = fsspec.filesystem("s3", skip_instance_cache=True)
    message = r"s3://games/shards/manifest\.json cannot be read \(NoCredentialsError: .*credentials"
    with pytest.raises(InputError, match=message):
        ShardReader(storage, "train")


def test_pieces_hold_each_chunk_once() -> None:
    sizes = [10, 3 << 20, 700_000, 700_000, 700_000, 1 << 20, 1 << 20, 5]
    offsets = itertools.accumulate(sizes, initial=512)
    chunks = [(offset, size, 0) for offset, size in zip(offsets, sizes, strict=False)]
    pieces = [piece_of(chunks, number) for number in range(len(chunks))]
    assert all(first <= number < end for number, (first, end) in enumerate(pieces))
    found = sorted(set(pieces))
    assert [first for first, _ in found] == [0, *(end for _, end in found[:-1])]
    assert found == [(0, 1), (1, 2), (2, 4), (4, 6), (6, 8)]


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("shards") == str(tmp_path / "shards")
    assert absolute("file:///data/shards") == "/data/shards"
    assert absolute("s3://games/shards") == "s3://games/shards"
    for url, message in (
        ("nothing://x", "data.shards=nothing://x: .*not known"),
        ("gs://x", r"data.shards=gs://x: .*pip install 'agent-scaling\[gcs\]'"),
    ):
        with pytest.raises(InputError, match=message):
            open_storage(url, tmp_path)
    with pytest.raises(InputError, match=r"data\.cache_gb=0: must be positive"):
        open_storage("memory://x", tmp_path, 0)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"data.cache_dir=.*file: "):
        open_storage("memory://x", tmp_path / "file")
    url = Remote("http://me:secret@127.0.0.1:9/x", Cache(tmp_path / "c", 1), attempts=1)
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9/x/manifest\.json cannot be read"):
        ShardReader(url, "train")
