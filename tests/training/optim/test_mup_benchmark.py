"""The sweep over widths and rates: a stopped one goes on, and no width is left out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from agent_scaling.runtime.errors import InputError
from benchmarks.mup import Results, arguments, draw, moved, sweep, transfer

WORDS = ["--frames=128", "--widths", "4", "8", "--base=4", "--rates", "1e-3", "1e-2"]


@pytest.fixture(autouse=True)
def quieted() -> Iterator[None]:
    """The sweep takes one thread, and silences Lightning."""
    logger = logging.getLogger("lightning.pytorch")
    threads, level = torch.get_num_threads(), logger.level
    yield
    torch.set_num_threads(threads)
    logger.setLevel(level)


def test_a_stopped_sweep_goes_on(
    tiny_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, settings = tmp_path / "mup.json", {"frames": 128}
    options = arguments([*WORDS, "--standard", "8"])
    first = sweep(tiny_shards, options, Results(file, settings))
    assert "6/6: standard, width 8" in capsys.readouterr().out
    more = arguments([*WORDS, "--standard", "8", "--multipliers", "readout=4"])
    more.seeds = [0, 1]
    results = Results(file, settings)
    del results.losses["muP", 8, 1e-2, 0]
    losses = sweep(tiny_shards, more, results)
    said = capsys.readouterr().out
    assert said.count("seed 0") == 1  # the one that was missing
    assert said.count("seed 1") == 6
    assert first["standard"].keys() == losses["standard"].keys() == {8}
    assert losses["muP"].keys() == {4, 8}
    assert losses["muP"][4] != first["muP"][4]  # a mean over two seeds
    draw(losses, more.rates, tmp_path / "mup.png")
    with pytest.raises(InputError, match="other settings"):
        Results(file, {"frames": 256})


def test_what_a_sweep_says() -> None:
    losses = {
        "muP": {4: [3.0, 1.0, 2.0], 8: [2.0, 0.5, 0.4]},
        "standard": {8: [0.9, 0.6, 0.7]},
    }
    assert moved(losses["muP"]) == 1
    assert transfer(losses, base=4) == {"width": 8, "muP": 0.5, "standard": 0.6}
