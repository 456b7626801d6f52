"""Checkpoints: written whole or not at all, read without running code, and back into a policy."""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from inspect import isclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from hydra.utils import get_object, instantiate

from agent_scaling.envs.game import NETHACK
from agent_scaling.errors import InputError
from agent_scaling.extensions import is_extension
from agent_scaling.files import replacing
from agent_scaling.policy import Policy

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
TRUSTED = ("agent_scaling.policy.", "agent_scaling.encoders.", "agent_scaling.cores.")
"""What a checkpoint's config may name, with installed extensions: it must call nothing else."""
INTERPOLATION = "${"
"""Begins what OmegaConf makes a value of, also one that calls; `train` saves values alone."""

UNREADABLE = (OSError, RuntimeError, EOFError, ValueError, TypeError, AttributeError, LookupError,
              ArithmeticError, AssertionError, MemoryError, struct.error,
              pickle.UnpicklingError)  # fmt: skip
"""What torch's reader raises at bytes that are no checkpoint."""
BLOCK = 2**24
"""Bytes that are looked at together: smaller blocks take longer."""


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


def error_line(error: BaseException) -> str:
    """The first line of an exception's text."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


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


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU, tensors and plain values only.

    Raises:
        InputError: The file is missing, torn, damaged, or holds more than tensors and plain values.
    """
    try:
        refuse_bomb(path, Path(path).stat().st_size)
        refuse_damage(path)
        with warnings.catch_warnings():  # about bytes that are refused
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint; check ckpt=") from None
    except UNREADABLE as error:
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


def build_policy(config: dict[str, Any]) -> Policy:
    """The policy that a checkpoint's config describes, with fresh weights.

    Raises:
        InputError: The config names something outside :data:`TRUSTED` and installed extensions.
    """
    for target in _targets(config):
        if not is_trusted(target):
            raise InputError(
                f"policy config names {target!r}: only {', '.join(TRUSTED)} and installed "
                "extensions' may be; install the package that it is of"
            )
    policy = instantiate(config)
    if not isinstance(policy, Policy):
        raise InputError(f"policy config makes a {type(policy).__name__}, not a Policy")
    policy.config = config
    return policy


def load_policy(path: str | Path) -> Policy:
    """A policy from a checkpoint of ``train``, on the CPU, in evaluation mode.

    Raises:
        InputError: The file cannot be read, or is not a checkpoint of a policy.
    """
    checkpoint = read_checkpoint(path)
    config, weights = checkpoint.get("policy_config"), checkpoint.get("state_dict")
    if not config or not isinstance(weights, dict):
        raise InputError(f"{path}: not a checkpoint of `agent-scaling train` (no policy in it)")
    policy = build_policy(config)
    own = policy_weights(checkpoint)
    check_weights(policy, own, path)
    policy.load_state_dict(own)
    policy.game = checkpoint.get("game") or NETHACK  # of before there were others
    return policy.eval()


def save_policy(policy: Policy, path: str | Path) -> None:
    """Write a policy as a checkpoint that :func:`load_policy`, ``rollout`` and ``watch`` take.

    Training does not go on from it: there is no optimiser in it (``policy=checkpoint`` begins with
    its weights).

    Raises:
        InputError: The file cannot be written, or the policy does not know its own config: it was
            put together by hand.
    """
    if not policy.config:
        raise InputError(f"{path}: the policy has no config; make it with make_policy()")
    weights = {f"policy.{name}": value for name, value in policy.state_dict().items()}
    made = {"policy_config": policy.config, "state_dict": weights, "game": policy.game}
    write_checkpoint(made, path)


def policy_weights(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The policy's part of a module's weights, under the policy's own names."""
    prefix, weights = "policy.", checkpoint["state_dict"]
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def check_weights(policy: Policy, weights: dict[str, Any], path: str | Path) -> None:
    """Compare names and shapes; raises :class:`InputError` that names the first difference."""
    expected = policy.state_dict()
    for name in sorted(expected.keys() | weights.keys()):
        here, there = expected.get(name), weights.get(name)
        if here is None or there is None or here.shape != there.shape:
            shapes = [None if t is None else tuple(t.shape) for t in (there, here)]
            raise InputError(
                f"{path}: {name} is {shapes[0] or 'missing'} in the checkpoint and "
                f"{shapes[1] or 'missing'} in the policy; give the policy= that it was trained with"
            )


def is_trusted(target: str) -> bool:
    """Whether an import path is that of a class of :data:`TRUSTED` or of an extension.

    What a module has only imported is none of its own: every module leads to ``os.system``.
    """
    if not _ours(target) or INTERPOLATION in target:
        return False
    found = get_object(target)
    return isclass(found) and _ours(f"{found.__module__}.")


def _ours(path: str) -> bool:
    return path.startswith(TRUSTED) or is_extension(path)


def _targets(config: Any) -> list[str]:
    """All that instantiating a config could call; what Hydra would first look up elsewhere, too."""
    if isinstance(config, dict):
        own = [str(config["_target_"])] if "_target_" in config else []
        return own + [t for value in config.values() for t in _targets(value)]
    if isinstance(config, (list, tuple)):
        return [t for value in config for t in _targets(value)]
    return [config] if isinstance(config, str) and INTERPOLATION in config else []
