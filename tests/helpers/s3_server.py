"""moto's S3 on loopback, with the faults of real stores before it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from tests.helpers.shard_server import Fault

BUSY = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"""


def none(number: int, name: str) -> str:
    return ""


class S3Server:
    """``url`` is a folder of shards in a bucket; ``fault`` as :class:`ShardServer`'s, of reads."""

    url = "s3://games/shards"

    def __init__(self) -> None:
        self.fault: Fault = none
        self.requests = 0
        self.stopping, self.lock = threading.Event(), threading.Lock()
        self.moto = DomainDispatcherApplication(create_backend_app)
        handler = MotoRequestHandler
        self.server = make_server("127.0.0.1", 0, self.answer, True, request_handler=handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        host, port = self.server.server_address[:2]
        return f"http://{host!s}:{port}"

    def upload(self, shards: Path) -> None:
        s3 = fsspec.filesystem("s3", skip_instance_cache=True)
        s3.mkdir("games")
        s3.put(str(shards), "games/shards", recursive=True)

    def answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, name = environ["REQUEST_METHOD"], environ["PATH_INFO"].rpartition("/")[2]
        with self.lock:
            self.requests += 1
            fault = self.fault(self.requests, name) if method in ("GET", "HEAD") else ""
        if not fault:
            return self.moto(environ, start)
        if fault == "503":
            start("503 Slow Down", [("Content-Length", str(len(BUSY)))])
            return [BUSY if method == "GET" else b""]
        told: list[Any] = []
        body = b"".join(self.moto(environ, lambda *head: told.extend(head)))
        status, headers = told[:2]
        if fault == "cut" and method == "GET":
            body = body[: len(body) // 2]
            headers = [pair for pair in headers if pair[0].lower() != "content-length"]
            headers.append(("Content-Length", str(len(body))))
        start(status, headers)
        return [body] if fault == "cut" else self.half(body, fault)

    def half(self, body: bytes, fault: str) -> Iterator[bytes]:
        yield body[: len(body) // 2]
        if fault == "stall":
            self.stopping.wait(60)

    def close(self) -> None:
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()


def s3_server(shards: Path) -> Iterator[S3Server]:
    """A server that has ``shards``, where s3fs looks for one."""
    server = S3Server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server.upload(shards)
        yield server
    server.close()
