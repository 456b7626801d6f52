"""Two runs on one output folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_scaling.errors import InputError
from agent_scaling.train import locked
from tests.runs import train


def test_a_second_run_is_refused_while_the_first_is_there(
    tiny_shards: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    with locked(output), pytest.raises(InputError, match="another run is writing there"):
        train(tiny_shards, output, "flops_budget=1e9")
    assert [path.name for path in output.iterdir()] == [".lock"]
    with locked(output):  # a run that has ended holds nothing
        pass
