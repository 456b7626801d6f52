"""What stands in for ``last.ckpt`` while the next one is written."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agent_scaling.policies.checkpoints.files import read_checkpoint, resume_path, write_checkpoint
from agent_scaling.runtime.errors import InputError
from callbacks.checkpoints import keep_previous


@pytest.mark.parametrize("links", [True, False])
def test_at_each_moment_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    write_checkpoint({"frames": 0}, last)
    for frames in (64, 128):
        keep_previous(tmp_path)
        found = resume_path(tmp_path)
        assert found == (last if links else previous)
        assert read_checkpoint(found)["frames"] == frames - 64
        write_checkpoint({"frames": frames}, last)
        assert read_checkpoint(previous)["frames"] == frames - 64
    if links:
        keep_previous(tmp_path)
        keep_previous(tmp_path)  # the save between them failed
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "previous.ckpt"}


def test_a_disk_that_refuses_is_one_line(tmp_path: Path) -> None:
    write_checkpoint({"frames": 0}, tmp_path / "last.ckpt")
    (tmp_path / "previous.ckpt").mkdir()
    with pytest.raises(InputError, match=r"previous\.ckpt: cannot be written"):
        keep_previous(tmp_path)
