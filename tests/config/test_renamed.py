"""Programs written for version 0.1 find the modules that its pages named."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from agent_scaling.config.renamed import MODULES

PROGRAM = """
import warnings
warnings.simplefilter("ignore")
from agent_scaling.library import make_policy, read_batches
from agent_scaling.shards.reader import ShardReader
from agent_scaling.sources import base
import agent_scaling.data.shards.reader as now
assert ShardReader is now.ShardReader and base.__name__.startswith("agent_scaling.")
import agent_scaling.shards.nothing
"""


@pytest.mark.parametrize("old", MODULES)
def test_an_old_module_has_the_names_of_its_new_place(old: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match="since version 0.2"):
        found = importlib.import_module(old)
    new = importlib.import_module(MODULES[old])
    public = getattr(new, "__all__", [name for name in vars(new) if not name.startswith("_")])
    assert all(getattr(found, name) is getattr(new, name) for name in public)


def test_a_program_runs_and_what_never_was_is_not_found() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip().endswith(
        "ModuleNotFoundError: No module named 'agent_scaling.shards.nothing'"
    )
