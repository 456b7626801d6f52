"""Each fuzz target reads its seeds, and refuses or reads what its generator makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from agent_scaling.runtime.allocator import give_back_memory
from tests.fuzz.mutations import mutate_bytes
from tests.fuzz.target import Finding, Target
from tests.fuzz.targets import NAMES, make_target

INPUTS = 300


@pytest.mark.parametrize("name", NAMES)
def test_a_target_finds_nothing(
    name: str, tiny_games: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    target = make_target(name, tiny_games, tiny_shards, tmp_path)
    for seed in target.seeds:
        assert target.accepts(seed)
    rng = Random(0)
    seen = []
    for number in range(INPUTS):
        data = rng.choice(target.seeds)
        for _ in range(rng.randint(1, 4)):
            data = target.mutate(data, rng) if number % 4 else mutate_bytes(data, rng)
        seen.append(target.accepts(data[: target.longest]) if data else False)
    assert any(seen)
    assert all(seen) == (not target.refusals)


def two_lines(_: bytes) -> None:
    raise ValueError("two\nlines")


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda data: data[9], "IndexError"),
        (two_lines, "not one line"),
        (lambda data: b"x" * (300 << 20), "MB"),
    ],
)
def test_a_finding_is_found(read: Callable[[bytes], object], message: str) -> None:
    held = b"x" * (500 << 20)  # an earlier peak
    del held
    give_back_memory()  # which runs of this process may have told the allocator to keep
    target = Target([b""], read, (ValueError,), mutate_bytes, megabytes=100)
    with pytest.raises(Finding, match=message):
        target.accepts(b"")
