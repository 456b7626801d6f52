"""Serves a folder over HTTP on loopback, with range requests and the faults of real servers."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

Fault = Callable[[int, str], str]
"""(number of the request, file) → "" to serve it, or: "503", "stall", "short", "cut", "whole"."""


class ShardServer:
    """``url`` is the folder; ``served`` counts the ranges (file, first byte) that were answered.

    A request without ``query`` behind its file's name is forbidden.
    """

    def __init__(
        self, folder: Path, fault: Fault = lambda number, name: "", query: str = ""
    ) -> None:
        self.folder, self.fault, self.query = folder, fault, query
        self.served: Counter[tuple[str, int]] = Counter()
        self.requests = 0
        self.stopping, self.lock = threading.Event(), threading.Lock()
        self.stalled = threading.Event()
        handler = type("Bound", (Handler,), {"shards": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/shards"

    def __enter__(self) -> Self:
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.05}
        )
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    shards: ShardServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        shards, name = self.shards, self.path.removeprefix("/shards/")
        name, _, query = name.partition("?")
        if query != shards.query:
            return self.head(403, 0)
        with shards.lock:
            shards.requests += 1
            fault = shards.fault(shards.requests, name)
        path = shards.folder / name
        if fault == "503" or not path.is_file():
            return self.head(503 if fault else 404, 0)
        data, begin, status = path.read_bytes(), 0, 200
        if (wanted := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")) and (
            fault != "whole"
        ):
            begin, end = int(wanted[1]), int(wanted[2]) + 1
            data, status = data[begin:end], 206
        if fault == "cut" and body:
            data = data[: len(data) // 2]
        self.head(status, len(data))
        if not body:
            return None
        if fault in ("stall", "short"):
            self.wfile.write(data[: len(data) // 2])
            if fault == "stall":
                shards.stalled.set()
                shards.stopping.wait(60)
            self.close_connection = True
            return None
        if not fault:
            with shards.lock:
                shards.served[name, begin] += 1
        self.wfile.write(data)
        return None

    def head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()


def every_fifth(kind: str) -> Fault:
    return lambda number, name: kind if number % 5 == 0 else ""
