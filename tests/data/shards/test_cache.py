"""The cache of what was read from URLs: bounded, shared by processes, never half-written."""

from __future__ import annotations

import itertools
import os
import resource
import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from agent_scaling.data.batch import Batch
from agent_scaling.data.shards.cache import Cache, locked
from tests.data.shards.test_reader import same
from tests.helpers.remote_shards import WINDOWS, agree, remote, windows
from tests.helpers.runs import fork_server
from tests.helpers.shard_server import ShardServer


def kept(cache: Path) -> int:
    with locked(cache / "lock", wait=True):  # readers are ahead, and write and remove meanwhile
        return sum(path.stat().st_size for path in (cache / "pieces").iterdir())


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


def processes() -> ForkServerContext:
    return fork_server("tests.helpers.runs", "data_modules.shards", "tests.data.shards.test_cache")


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


def test_a_full_disk_keeps_nothing_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, limits = Cache(tmp_path, 10_000), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
        for key in "abc":
            cache.put(key * 32, bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"data.cache_dir={tmp_path}: the file would exceed the size limit: give another" in said
    assert kept(tmp_path) == 0
    cache.put("d" * 32, bytes(9_500))  # what was not written is not counted
    assert cache.get("d" * 32) == bytes(9_500)
