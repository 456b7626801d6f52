"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def reference() -> Path:
    """Reference data: ``../shared`` or ``$AGENT_SCALING_REFERENCE``; its absence fails CI."""
    path = Path(os.environ.get("AGENT_SCALING_REFERENCE", ROOT.parent / "shared"))
    if not (path / "reference").is_dir():
        message = f"no reference data at {path}: set AGENT_SCALING_REFERENCE to its folder"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
