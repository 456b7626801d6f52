"""What an HDF5 file may declare of an episode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent_scaling.data.recordings import hdf5
from agent_scaling.data.recordings.base import BadGame
from agent_scaling.data.recordings.hdf5 import MOST_STEPS, array_in, group_in, pieces

h5py = pytest.importorskip("h5py", reason="HDF5 comes with the extra minari")


def external(group: Any, secret: Path) -> None:
    group.create_dataset("x", (16,), "u1", external=[(str(secret), 0, 16)])


def virtual(group: Any, secret: Path) -> None:
    layout = h5py.VirtualLayout((16,), "u1")
    layout[:] = h5py.VirtualSource(str(secret), "x", (16,))
    group.create_virtual_dataset("x", layout)


def linked(group: Any, secret: Path) -> None:
    group["x"] = h5py.ExternalLink(str(secret), "x")


def soft(group: Any, secret: Path) -> None:
    group["x"] = h5py.SoftLink("/elsewhere")


def long(group: Any, secret: Path) -> None:
    group.create_dataset("x", (MOST_STEPS + 1,), "u1", chunks=(1024,))


def wide(group: Any, secret: Path) -> None:
    group.create_dataset("x", (3, 30_000, 30_000), "u1", chunks=(1, 16, 16))


def one_piece(group: Any, secret: Path) -> None:
    group.create_dataset("x", (8000, 2**22), "u1", chunks=(8000, 2**17))


def not_stored(group: Any, secret: Path) -> None:
    group.create_dataset("x", (MOST_STEPS,), "f8", chunks=(1024,), fillvalue=1)


def packed_twice(group: Any, secret: Path) -> None:
    kept = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    kept.set_chunk((1024,))
    kept.set_deflate(9)
    kept.set_filter(h5py.h5z.FILTER_DEFLATE, 0, (9,))
    space, kind = h5py.h5s.create_simple((1024,)), h5py.h5t.NATIVE_UINT8
    made = h5py.h5d.create(group.id, b"x", kind, space, kept)
    h5py.Dataset(made)[:] = 1


def text(group: Any, secret: Path) -> None:
    group.create_dataset("x", data=[b"a", b"b"])


def number(group: Any, secret: Path) -> None:
    group.create_dataset("x", data=3)


@pytest.mark.parametrize(
    "make",
    [
        external,
        virtual,
        linked,
        soft,
        long,
        wide,
        one_piece,
        not_stored,
        packed_twice,
        text,
        number,
    ],
)
def test_what_lies_elsewhere_or_is_too_large_is_refused(
    tmp_path: Path, make: Callable[[Any, Path], None]
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(16))
    with h5py.File(tmp_path / "main.hdf5", "w") as file:
        make(file.create_group("episode_0"), secret)
    with h5py.File(tmp_path / "main.hdf5") as file, pytest.raises(BadGame):
        array_in(group_in(file, "episode_0"), "x")


def test_an_episodes_arrays_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "main.hdf5", "w") as file:
        group = file.create_group("episode_0")
        group.create_dataset("rewards", data=np.arange(3.0))
        pictures = group.create_dataset("seen", (2,), h5py.vlen_dtype(np.uint8))
        pictures[0], pictures[1] = np.zeros(3, np.uint8), np.zeros(5, np.uint8)
    with h5py.File(tmp_path / "main.hdf5") as file:
        episode = group_in(file, "episode_0")
        assert array_in(episode, "rewards")[:].tolist() == [0, 1, 2]
        assert len(array_in(episode, "seen")[1]) == 5
        with pytest.raises(KeyError):
            array_in(episode, "actions")


def test_steps_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "PIECE_BYTES", 12)
    with h5py.File(tmp_path / "main.hdf5", "w") as file:
        group = file.create_group("episode_0")
        seen = np.arange(20, dtype=np.uint8).reshape(5, 4)
        group.create_dataset("seen", data=seen, compression="gzip", shuffle=True)
        found = list(pieces(array_in(group, "seen"), 1, 5))
    assert [len(piece) for piece in found] == [3, 1]
    assert (np.concatenate(found) == seen[1:]).all()
