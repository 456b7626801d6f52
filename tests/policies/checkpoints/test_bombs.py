"""Checkpoints that would take more memory or time than their bytes account for."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.foreign import read_foreign
from agent_scaling.policies.checkpoints.load import load_policy, save_policy
from agent_scaling.policies.compose import make_policy
from agent_scaling.runtime.errors import InputError

HUGE = 10**9


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def write(path: Path, value: Any) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({"x": value}, 2))
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
    return path


@pytest.mark.parametrize(
    "call",
    [
        Call(bytearray, HUGE),
        Call(torch.FloatStorage, HUGE),
        Call(torch.FloatTensor, HUGE),
        Call(torch._utils._rebuild_meta_tensor_no_storage, torch.float32, (HUGE,), (1,), False),
        Call(bytearray.__new__, bytearray, HUGE),
    ],
)
@pytest.mark.parametrize("read", [read_checkpoint, read_foreign])
def test_a_call_that_takes_any_memory_is_refused(
    tmp_path: Path, call: Call, read: Callable[[Path], Any]
) -> None:
    with pytest.raises(InputError, match=r"bomb\.ckpt: not a readable checkpoint \(it calls"):
        read(write(tmp_path / "bomb.ckpt", call))


def test_a_class_whose_name_is_no_name_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "odd.ckpt", "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02cargparse\nName\0space\n)\x81.")
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
    with pytest.raises(InputError, match=r"odd\.ckpt"):
        read_foreign(tmp_path / "odd.ckpt")


def test_an_array_of_unknown_bytes_is_refused(tmp_path: Path) -> None:
    scalar = np.float64().__reduce__()[0]
    path = write(tmp_path / "bomb.ckpt", Call(scalar, Call(np.dtype, f"V{HUGE}")))
    with pytest.raises(InputError, match=r"it calls numpy\.dtype"):
        read_foreign(path)


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    path, bomb = tmp_path / "good.ckpt", tmp_path / "bomb.ckpt"
    torch.save({"x": torch.zeros(7)}, path)
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(bomb, "w") as file:
        for name in good.namelist():
            content = good.read(name)
            if name.endswith("data.pkl"):  # the shape (7,), and the storage of 7, in turn
                content = content.replace(b"K\x07\x85", b"J\xff\xff\xff\x3f\x85")
            file.writestr(name, content)
    assert read_checkpoint(path)
    with pytest.raises(InputError, match="a tensor of shape"):
        read_checkpoint(bomb)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [("core", "width", 30_000), ("core", "layers", 100_000), ("encoder", "width", 10**15)],
)
def test_a_config_of_another_size_than_its_weights_is_never_built(
    tmp_path: Path, part: str, key: str, value: int
) -> None:
    policy = make_policy("policy/size=30k")
    policy.config[part][key] = value
    save_policy(policy, tmp_path / "bomb.ckpt")
    with pytest.raises(InputError):
        load_policy(tmp_path / "bomb.ckpt")
