"""Which packages may add parts: those that are installed and say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_scaling.config.extensions import config_packages, extensions, is_extension
from agent_scaling.envs.families import find_family
from agent_scaling.policies.checkpoints.load import is_trusted
from agent_scaling.runtime.errors import InputError


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packages, as an installation leaves them: one with configs, one whose files are gone."""
    for name in ("added", "gone"):
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[agent_scaling]\n{name} = {name}\n")
    (tmp_path / "added" / "conf").mkdir(parents=True)
    (tmp_path / "added" / "__init__.py").write_text("import os\n\n\nclass Part: ...\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed")
def test_a_package_is_found_by_its_entry_point() -> None:
    assert set(extensions()) >= {"added", "gone"}
    assert "added.conf" in config_packages()
    assert "gone.conf" not in config_packages()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("path", "trusted"),
    [
        ("added.Part", True),
        ("added.os.system", False),
        ("addedmore.Part", False),
        ("agent_scaling.policies.policy.Policy", True),
        ("agent_scaling.policies.policy.nn.Linear", False),
    ],
)
def test_a_checkpoint_may_name_its_classes(path: str, trusted: bool) -> None:
    assert is_trusted(path) is trusted


def test_what_is_not_installed_is_no_extension() -> None:
    assert not is_extension("added.Part")
    with pytest.raises(InputError, match="game=added:Part: unknown"):
        find_family("added:Part")
