from __future__ import annotations

import subprocess
import sys

import pytest

STEPS = """
from pathlib import Path
from resource import getpagesize
from agent_scaling.runtime.allocator import give_back_memory, keep_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()

keep_memory()
before = resident()
bytearray(100_000_000)
kept = resident() - before
give_back_memory()
print(kept, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_kept_until_it_is_given_back() -> None:
    run = [sys.executable, "-c", STEPS]
    printed = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    kept, left = map(int, printed.split())
    assert kept > 99_000_000
    assert left < 1_000_000
