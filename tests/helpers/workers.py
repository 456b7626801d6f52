"""Game workers and their memory, as the process that started them sees them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil


def game_workers(process: psutil.Process | None = None) -> list[psutil.Process]:
    """The game workers that a process (this one) has started and that live, oldest first."""
    found = []
    for child in (process or psutil.Process()).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            if child.status() == psutil.STATUS_ZOMBIE:
                continue
            if "agent_scaling.envs.pool.worker" in " ".join(child.cmdline()):
                found.append(child)
    return sorted(found, key=lambda p: (p.create_time(), p.pid))


def pool_memory() -> list[str]:
    """What this process holds open of a pool's shared memory, which has no name outside it."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that listed the folder
            links.append(str(descriptor.readlink()))
    return [link for link in links if "agent-scaling-pool" in link]
