"""Shards behind a URL give what the folder gives, whatever the network and the cache go through."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from agent_scaling.batch import Batch
from agent_scaling.errors import InputError
from agent_scaling.shards.cache import Cache, locked
from agent_scaling.shards.lanes import TrainLanes
from agent_scaling.shards.loader import WindowLoader
from agent_scaling.shards.reader import ShardReader
from agent_scaling.shards.remote import Remote, piece_of
from agent_scaling.shards.storage import Storage, absolute, open_storage
from data_modules.shards import ShardsDataModule
from tests.shard_server import ShardServer, every_fifth
from tests.shards.test_reader import same

WINDOWS = 100  # of 5 lanes and 70 steps: more than an epoch
GIGABYTE = 10**9


def windows(storage: Storage | Path, workers: int = 2, start: int = 0) -> Iterator[Batch]:
    reader = ShardReader(storage, "train")
    frames = [game.frames for game in reader.games]
    order = TrainLanes([game.id for game in reader.games], frames, 5, 3)
    return iter(
        WindowLoader(reader, order, range(5), 70, start_step=start, workers=workers, scores=True)
    )


def remote(url: str, cache: Path, limit: int = GIGABYTE, **options: float) -> Remote:
    return Remote(url, Cache(cache, limit), **{"pause": 0.01, **options})  # type: ignore[arg-type]


def kept(cache: Path) -> int:
    with locked(cache / "lock"):  # readers are ahead, and write and remove meanwhile
        return sum(path.stat().st_size for path in (cache / "pieces").iterdir())


@pytest.fixture(scope="module")
def expected(short_shards: Path) -> list[Batch]:
    return list(itertools.islice(windows(short_shards), WINDOWS))


def agree(found: Iterator[Batch], expected: list[Batch]) -> bool:
    return all(same(a, b) for a, b in zip(expected, found, strict=False))


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
        found = windows(remote(server.url, tmp_path, timeout=0.5))
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
        found = windows(remote(server.url, tmp_path, timeout=0.3, attempts=3), workers=1)
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


def test_what_was_read_is_not_asked_for_again(
    short_shards: Path, tmp_path: Path, expected: list[Batch]
) -> None:
    with ShardServer(short_shards) as server:
        assert agree(windows(remote(server.url, tmp_path)), expected)
        tars = {at: n for at, n in server.served.items() if at[0].endswith(".tar")}
        assert set(tars.values()) == {1}
        server.served.clear()
        assert agree(windows(remote(server.url, tmp_path)), expected)
        assert {name for name, _ in server.served} == {"manifest.json"}
    for path in (tmp_path / "pieces").iterdir():  # a bad disk
        path.write_bytes(path.read_bytes()[:-9] + b"bad bytes")
    with ShardServer(short_shards) as server:
        assert agree(windows(remote(server.url, tmp_path)), expected)


def test_the_cache_stays_within_its_bound(
    short_shards: Path, tmp_path: Path, expected: list[Batch]
) -> None:
    limit = kept_by_all(short_shards) // 3
    with ShardServer(short_shards) as server:
        for batch, other in zip(
            windows(remote(server.url, tmp_path, limit)), expected, strict=False
        ):
            assert same(batch, other)
            assert kept(tmp_path) <= limit
        assert kept(tmp_path) > limit // 4
        assert agree(windows(remote(server.url, tmp_path / "none", limit=1)), expected)
        assert kept(tmp_path / "none") == 0


def kept_by_all(shards: Path) -> int:
    return sum(path.stat().st_size for path in shards.glob("train-*.tar"))


def read_all(url: str, cache: Path, ready: object = None) -> None:
    if ready is not None:
        ready.wait()  # type: ignore[attr-defined]
    for _ in itertools.islice(windows(remote(url, cache)), WINDOWS):
        pass


def die_before_the_rename(url: str, cache: Path) -> None:
    def die(path: Path, target: Path) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    Path.replace = die  # type: ignore[method-assign, assignment]
    read_all(url, cache)


def processes() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.runs", "data_modules.shards", "tests.shards.test_remote"]
    )
    return context


def test_two_processes_share_the_cache(
    short_shards: Path, tmp_path: Path, expected: list[Batch]
) -> None:
    context = processes()
    ready = context.Barrier(2)
    with ShardServer(short_shards) as server:
        both = [context.Process(target=read_all, args=(server.url, tmp_path, ready)) for _ in "ab"]
        for process in both:
            process.start()
        for process in both:
            process.join()
        assert [process.exitcode for process in both] == [0, 0]
        tars = {at: n for at, n in server.served.items() if at[0].endswith(".tar")}
        assert tars
        assert set(tars.values()) == {1}  # each piece once, for both
        assert agree(windows(remote(server.url, tmp_path)), expected)


def test_kill_9_leaves_nothing_that_is_used(
    short_shards: Path, tmp_path: Path, expected: list[Batch]
) -> None:
    context = processes()
    with ShardServer(short_shards) as server:
        process = context.Process(target=die_before_the_rename, args=(server.url, tmp_path))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert [path.suffix for path in (tmp_path / "pieces").iterdir()] == [".partial"]

        server.fault = lambda number, name: "stall" if name == "train-00001.tar" else ""
        process = context.Process(target=read_all, args=(server.url, tmp_path))
        process.start()
        assert server.stalled.wait(60)
        process.kill()
        process.join()

        server.fault = lambda number, name: ""
        assert agree(windows(remote(server.url, tmp_path)), expected)
    Cache(tmp_path, kept(tmp_path)).put("0" * 32, bytes(1000))  # makes room
    assert not list((tmp_path / "pieces").glob("*.partial"))


def test_reading_goes_on_while_the_file_is_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    cache.put("a" * 32, b"a" * 600)
    with (tmp_path / "pieces" / ("a" * 32)).open("rb") as file:
        cache.put("b" * 32, b"b" * 600)
        assert file.read() == b"a" * 600
    assert cache.get("a" * 32) is None
    assert cache.get("b" * 32, 590, 100) == b"b" * 10


def test_what_was_used_last_goes_last(tmp_path: Path) -> None:
    cache, keys = Cache(tmp_path, 1000), [c * 32 for c in "abcd"]
    for second, key in enumerate(keys[:3]):
        cache.put(key, bytes(300))
        os.utime(tmp_path / "pieces" / key, (second, second))
    cache.get(keys[0])
    cache.put(keys[3], bytes(300))
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True]


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
