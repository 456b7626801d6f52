"""Checkpoint files: written whole or not at all, and read without running code."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from agent_scaling.policies.checkpoints.pickles import refuse_pickle_bomb, refuse_sharing
from agent_scaling.runtime.errors import InputError, error_line
from agent_scaling.runtime.files import replacing

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
BLOCK = 2**24
"""Bytes read at a time; smaller blocks take longer."""


def write_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write beside the target, sync, then rename: a kill at any moment leaves a whole file.

    Raises:
        InputError: The disk is full or not writable.
    """
    try:
        with replacing(Path(path)) as file:
            torch.save(checkpoint, file)
    except (OSError, RuntimeError) as error:
        # torch reports a full disk as a RuntimeError of its zip writer.
        raise InputError(
            f"{path}: cannot be written ({error_line(error)}); earlier checkpoints are "
            "intact: free space, then continue with ckpt_path=last"
        ) from error


def refuse_bomb(file: str | Path | BinaryIO, most: int) -> None:
    """Raise ValueError for a zip whose members unpack to more than ``most`` bytes."""
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as members:
            size = sum(member.file_size for member in members.infolist())
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(str(error)) from None
    if size > most:
        raise ValueError(f"it would unpack to {size} bytes, more than {most}")


def refuse_damage(path: str | Path) -> None:
    """Raise ValueError for a zip whose bytes do not fit its checksums, which torch ignores.

    2.6 GB/s on one core; to load a checkpoint from memory is 0.8 GB/s.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as members:
            for member in members.infolist():
                if member.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{member.filename} in it is compressed, torch only stores")
                with members.open(member) as bits:
                    while bits.read(BLOCK):
                        pass
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"it is damaged: {error}") from None


def read_checkpoint(path: str | Path, foreign: bool = False) -> dict[str, Any]:
    """Load a checkpoint onto the CPU, tensors and plain values only.

    Raises:
        InputError: The file is missing, torn, damaged, or holds more than tensors and plain values.
    """
    try:
        size = Path(path).stat().st_size
        if not Path(path).is_file():  # to open a pipe would wait for its other end
            raise ValueError("it is no file")
        refuse_bomb(path, size)
        refuse_damage(path)
        refuse_pickle_bomb(path, foreign)
        with warnings.catch_warnings():  # about bytes that are refused
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        refuse_sharing(loaded)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint; check ckpt=") from None
    except Exception as error:  # torch's reader raises any at bytes that are no checkpoint
        raise InputError(
            f"{path}: not a readable checkpoint ({error_line(error)}); use an earlier one"
        ) from error
    if not isinstance(loaded, dict):
        raise InputError(f"{path}: not a checkpoint (holds a {type(loaded).__name__})")
    return loaded


def resume_path(folder: Path) -> Path | None:
    """The newest readable checkpoint to go on from: the last, else the one before; or None.

    Raises:
        InputError: There are checkpoints, and none can be read.
    """
    candidates = [folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()]
    problems = []
    for path in candidates:
        try:
            read_checkpoint(path)
        except InputError as error:
            problems.append(str(error))
        else:
            return path
    if problems:
        raise InputError("; ".join(problems))
    return None
