"""The target ``checkpoint``: the pickle in a checkpoint's zip, and the zip itself."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path
from random import Random

import torch

from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.foreign import read_foreign
from agent_scaling.policies.checkpoints.load import load_policy, save_policy
from agent_scaling.policies.compose import make_policy
from agent_scaling.runtime.errors import InputError
from tests.fuzz.mutations import mutate_bytes, mutate_pickle
from tests.fuzz.target import Target

PICKLED, FOREIGN, POLICY, ZIPPED = range(4)
"""Kinds of input, in the first byte: a pickle beside a small checkpoint's tensors, the same for
``import``'s reader, a pickle beside a policy's tensors, and a whole file."""
FEWEST = ("policy=atari_cnn", "policy.params=20000", "policy.num_actions=4")
"""The policy of the fewest tensors: each is a member of the zip, and calls in the pickle."""


def checkpoint_target(scratch: Path) -> Target:
    """Any pickle, in a zip as torch writes it, and any zip."""
    path = scratch / "any.ckpt"
    save_policy(make_policy(*FEWEST), path)
    small, policy = small_checkpoint(), path.read_bytes()

    def read(data: bytes) -> None:
        kind, content = data[0] % 4, data[1:]
        beside = policy if kind == POLICY else small
        path.write_bytes(content if kind == ZIPPED else with_pickle(beside, content))
        if kind == FOREIGN:
            read_foreign(path)
        elif "policy_config" in read_checkpoint(path):
            load_policy(path)

    seeds = [bytes([kind]) + pickle_of(small) for kind in (PICKLED, FOREIGN)]
    seeds += [bytes([POLICY]) + pickle_of(policy), bytes([ZIPPED]) + small]
    longest = 2 * max(map(len, seeds))
    return Target(seeds, read, (InputError,), mutate_checkpoint, longest=longest)


def small_checkpoint() -> bytes:
    """Return a checkpoint of torch's with one of each thing that ours hold."""
    weights = {"a": torch.zeros(3), "b": torch.zeros(2, 2, dtype=torch.int64)}
    content = {
        "state_dict": weights | {"c": torch.nn.Parameter(torch.ones(1))},
        "frames": 7,
        "rate": 0.5,
        "names": ["b", None, True],
        "shape": (1, 2, 3),
        "long": 2**40,
    }
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def pickle_of(checkpoint: bytes) -> bytes:
    """Return the pickle in a checkpoint."""
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as members:
        return members.read(name_of_pickle(members))


def with_pickle(checkpoint: bytes, data: bytes) -> bytes:
    """Return a checkpoint with another pickle beside its tensors, as the last member."""
    rest, name, members, listed = without_pickle(checkpoint)
    about = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0x21, zlib.crc32(data), *(len(data),) * 2,
                        len(name), 0)  # fmt: skip
    here = b"PK\x01\x02\x14\0" + about + struct.pack("<HHHII", 0, 0, 0, 0, len(rest)) + name
    begin, counts = len(rest) + 30 + len(name) + len(data), (members + 1,) * 2
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, *counts, len(listed) + len(here), begin, 0)
    return b"".join([rest, b"PK\3\4", about, name, data, listed, here, end])


@cache
def without_pickle(checkpoint: bytes) -> tuple[bytes, bytes, int, bytes]:
    """Return a checkpoint's other members, the pickle's name, their number, and their directory."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as members, zipfile.ZipFile(file, "w") as changed:
        its = name_of_pickle(members)
        others = [name for name in members.namelist() if name != its]
        for name in others:
            changed.writestr(name, members.read(name))
        begin = changed.start_dir
    whole = file.getvalue()
    return whole[:begin], its.encode(), len(others), whole[begin:-22]


def name_of_pickle(members: zipfile.ZipFile) -> str:
    """Return the name of the member that holds the pickle."""
    return next(name for name in members.namelist() if name.endswith("data.pkl"))


def mutate_checkpoint(data: bytes, rng: Random) -> bytes:
    """Change opcodes of a pickle, or bytes of a zip."""
    kind, content = data[0] % 4 if data else ZIPPED, data[1:]
    if kind == ZIPPED:
        return bytes([kind]) + mutate_bytes(content, rng)
    if kind != POLICY:
        kind = rng.choice([PICKLED, FOREIGN])
    return bytes([kind]) + mutate_pickle(content, rng)
