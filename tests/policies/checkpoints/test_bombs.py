"""Checkpoints that would take more memory or time than their bytes account for."""

from __future__ import annotations

import os
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
    return write_pickle(path, pickle.dumps({"x": value}, 2))


def write_pickle(path: Path, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data)
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


TWICE = 23
"""Pairs, each of the one before twice: a walk of them takes 2^23 steps, 40 would never end."""
PAIRS = b"\x80\x02)q\0" + b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(TWICE))
LISTS = b"\x80\x02]q\0" + b"".join(b"]q%c(h%ch%ce" % (n + 1, n, n) for n in range(TWICE))
FILLED_LATE = (
    b"\x80\x02"
    + b"".join(b"]q%c" % n for n in range(TWICE + 1))
    + b"".join(b"h%c(h%ch%ce" % (n + 1, n, n) for n in reversed(range(TWICE)))
)
LAST = b"h%c" % TWICE
TEXT = b"X" + (10**6).to_bytes(4, "little") + b"a" * 10**6
NUMBERS = b"](" + b"".join(b"M" + n.to_bytes(2, "little") for n in range(10_000)) + b"e"
STORAGE = b"(X\7\0\0\0storagectorch\nFloatStorage\n" + LAST + b"X\3\0\0\0cpuK\1tQ."


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (PAIRS + b"}(" + LAST + b"K\1u.", "than it has bytes"),  # the key of a dict
        (PAIRS + b"cbuiltins\nset\n](" + LAST + b"e\x85R.", "than it has bytes"),
        (PAIRS + b"ccollections\nOrderedDict\n]](" + LAST + b"K\1ea\x85R.", "than it has bytes"),
        (PAIRS + STORAGE, "than it has bytes"),  # its member's name
        (LISTS + b"}K\1" + LAST + b"s.", "than it has them"),
        (FILLED_LATE + b"}K\1" + LAST + b"s.", "than it has them"),
        (b"\x80\x02]q\0h\0a}K\1h\0s.", "deep in one another"),  # a list that holds itself
        (b"\x80\x02}" + b")" + b"\x85" * 200 + b"K\1s.", "tuples in one another"),
        (b"\x80\x02}K\1" + b"]" * 200 + b"a" * 199 + b"s.", "deep in one another"),
        (
            b"\x80\x02" + TEXT + b"q\1]("
            b"c_codecs\nencode\nq\2h\1X\6\0\0\0latin1q\3\x86R" + b"h\2h\1h\3\x86R" * 99 + b"e.",
            "than it has bytes",
        ),
        (
            b"\x80\x02" + NUMBERS + b"q\1](cbuiltins\nset\nq\2h\1\x85R"
            b"" + b"h\2h\1\x85R" * 99 + b"e.",
            "than it has bytes",
        ),
    ],
)
@pytest.mark.parametrize("read", [read_checkpoint, read_foreign])
def test_what_is_reached_by_many_ways_is_refused(
    tmp_path: Path, data: bytes, why: str, read: Callable[[Path], Any]
) -> None:
    with pytest.raises(InputError, match=f"not a readable checkpoint .*{why}"):
        read(write_pickle(tmp_path / "bomb.ckpt", data))


def test_what_real_checkpoints_share_is_read(tmp_path: Path) -> None:
    shared = ("a", (1, 2.0, None))
    content = {"x": [shared] * 1000, "y": {f"{n}": shared for n in range(1000)}, "z": {1, 2, 3}}
    content |= {"numbers": list(range(100_000)), "text": "a" * 10**6, shared: [[[[]]]]}
    torch.save(content, tmp_path / "real.ckpt")
    assert read_checkpoint(tmp_path / "real.ckpt") == content


def test_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.ckpt")
    for path in (tmp_path / "a.ckpt", tmp_path):
        with pytest.raises(InputError, match="it is no file"):
            read_checkpoint(path)


def test_a_class_whose_name_is_no_name_is_refused(tmp_path: Path) -> None:
    path = write_pickle(tmp_path / "odd.ckpt", b"\x80\x02cargparse\nName\0space\n)\x81.")
    with pytest.raises(InputError, match=r"odd\.ckpt"):
        read_foreign(path)


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


@pytest.mark.parametrize("value", [10**8, 10**15])
def test_a_number_in_a_config_is_bounded_by_the_weights(tmp_path: Path, value: int) -> None:
    """Before lists of so many parts are made, which takes gigabytes."""
    policy = make_policy("policy/size=30k")
    policy.config["encoder"]["map_fc_layers"] = value
    save_policy(policy, tmp_path / "bomb.ckpt")
    with pytest.raises(InputError, match="far more than its weights"):
        load_policy(tmp_path / "bomb.ckpt")


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
