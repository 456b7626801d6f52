"""Shards behind a URL give what the folder gives, whatever the network and the cache go through."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import tenacity

from agent_scaling.data.batch import Batch
from agent_scaling.data.shards.cache import Cache
from agent_scaling.data.shards.opening import open_storage
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.data.shards.remote import Remote, piece_of
from agent_scaling.data.shards.threads import ReadingThreads
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import absolute
from data_modules.shards import ShardsDataModule
from tests.helpers.remote_shards import WINDOWS, agree, remote, windows
from tests.helpers.s3_server import S3Server, none, s3_server
from tests.helpers.shard_server import ShardServer, every_fifth


@pytest.fixture(scope="module")
def bucket(short_shards: Path) -> Iterator[S3Server]:
    """The shards in an S3 bucket."""
    yield from s3_server(short_shards)


@pytest.fixture
def server(request: pytest.FixtureRequest, short_shards: Path) -> Iterator[ShardServer | S3Server]:
    """``http`` or ``s3``, as the test's parameter says, without faults before and after it."""
    if request.param == "http":
        with ShardServer(short_shards) as server:
            yield server
        return
    bucket: S3Server = request.getfixturevalue("bucket")
    yield bucket
    bucket.fault = none


def test_an_object_store_gives_the_same_batches(
    bucket: S3Server, tmp_path: Path, short_shards: Path, expected: list[Batch]
) -> None:
    assert agree(windows(remote(bucket.url, tmp_path)), expected)
    assert agree(windows(remote(bucket.url, tmp_path), workers=0, start=57), expected[57:])
    tar = f"{bucket.url}/train-00001.tar"
    fsspec.filesystem("s3").rm(tar)
    with pytest.raises(InputError, match=f"{tar} is missing: upload") as error:
        ShardReader(remote(bucket.url, tmp_path), "train")
    fsspec.filesystem("s3").put(str(short_shards / "train-00001.tar"), tar)
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


@pytest.mark.parametrize("server", ["http", "s3"], indirect=True)
@pytest.mark.parametrize("fault", ["503", "stall", "short", "cut"])
def test_a_bad_network_changes_no_batch(
    server: ShardServer | S3Server, tmp_path: Path, expected: list[Batch], fault: str
) -> None:
    begin = server.requests
    server.fault = every_fifth(fault)
    assert agree(windows(remote(server.url, tmp_path, timeout=3)), expected)
    assert server.requests - begin > 10


GIVEN_UP = r"/train-00000\.tar cannot be read in \d+ attempts and \d+ s "


@pytest.mark.parametrize(
    ("server", "fault", "message"),
    [
        ("http", "503", r"\(.*503"),
        ("http", "stall", r"\(FSTimeoutError"),
        ("http", "short", r"\(ClientPayloadError"),
        ("http", "cut", r"\(Cut: .* bytes came for"),
        ("http", "whole", r"\(Cut: .* range requests"),
        ("s3", "503", r"\(OSError: .*reduce your request rate"),
        ("s3", "stall", r"\(FSTimeoutError"),
        ("s3", "short", r"\(ClientPayloadError"),
        ("s3", "cut", r"\(Cut: .* bytes came for"),
    ],
    indirect=["server"],
)
def test_what_does_not_pass_is_one_line(
    server: ShardServer | S3Server, tmp_path: Path, fault: str, message: str
) -> None:
    storage = remote(server.url, tmp_path, patience=1, attempts=3, timeout=30)
    if isinstance(server, S3Server):  # botocore's own pauses would take half a minute
        options = {"config_kwargs": {"retries": {"max_attempts": 0}}}
        storage.fs = fsspec.filesystem("s3", skip_instance_cache=True, **options)
    found = windows(storage, workers=1)
    if fault == "stall":  # the first connection and the other faults must not run into the limit
        storage.options["timeout"] = 1
    server.fault = lambda number, name: fault if name == "train-00000.tar" else ""
    with pytest.raises(InputError, match=GIVEN_UP + message) as error:
        list(itertools.islice(found, WINDOWS))
    assert "\n" not in str(error.value)


def test_a_store_that_is_away_is_waited_for_and_said_once(
    short_shards: Path,
    tmp_path: Path,
    expected: list[Batch],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With more attempts than damaged bytes would get."""
    monkeypatch.setattr("agent_scaling.data.shards.patience.SAID_AFTER", 0.0)
    asked: list[str] = []

    def away(_: int, name: str) -> str:
        """The whole store is, for six requests from the first for a shard on."""
        asked.append(name)
        since = [n for n in range(len(asked)) if "0.tar" in asked[n]]
        return "503" if since and len(asked) - since[0] <= 6 else ""

    with ShardServer(short_shards) as server:
        server.fault = away
        assert agree(windows(remote(server.url, tmp_path, attempts=2)), expected)
        said = [record.getMessage() for record in caplog.records]
        # An answer from before may come in between, and be said; silence is not said twice.
        assert ["no answer for" in line for line in said] == [True, False] * (len(said) // 2)
        assert 2 <= len(said) <= 4
        assert "no answer for" in said[0]
        assert "retried for 25 minutes in all (data.patience_minutes)" in said[0]
        assert "answers again" in said[1]


def test_a_run_that_ends_waits_for_no_store(short_shards: Path, tmp_path: Path) -> None:
    with ShardServer(short_shards, lambda number, name: "503") as server:
        storage = remote(server.url, tmp_path)
        storage.patience._wait = tenacity.wait_fixed(200)
        with ReadingThreads(1) as threads:
            asked = threads.submit(storage.size, "manifest.json")
            while not server.requests:
                time.sleep(0.01)
        assert re.search(r"in [12] attempts and \d\d? s ", str(asked.exception()))


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


def test_a_token_in_the_url_is_sent_with_each_file(short_shards: Path, tmp_path: Path) -> None:
    with ShardServer(short_shards, query="token=1&x=2") as server:
        storage = open_storage(f"{server.url}/?{server.query}", tmp_path / "cache")
        reader = ShardReader(storage, "train")
        expected = ShardReader(short_shards, "train")
        assert reader.frames(0, 0).key.tolist() == expected.frames(0, 0).key.tolist()
        assert "token=1" not in storage.where("manifest.json")


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
    with pytest.raises(InputError, match=r"data\.patience_minutes=-1: must be at least 0"):
        open_storage("memory://x", tmp_path, patience_minutes=-1)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"data.cache_dir=.*file: "):
        open_storage("memory://x", tmp_path / "file")
    url = Remote("http://me:secret@127.0.0.1:9/x", Cache(tmp_path / "c", 1), patience=0)
    with pytest.raises(
        InputError, match=r"http://\*\*\*@127\.0\.0\.1:9/x/manifest\.json cannot be read"
    ):
        ShardReader(url, "train")
