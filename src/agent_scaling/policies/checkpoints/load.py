"""Builds policies from checkpoints: checks which classes are named, and that the weights fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import isclass
from pathlib import Path
from typing import Any

from hydra.utils import get_object, instantiate
from torch import Tensor
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from agent_scaling.config.extensions import is_extension
from agent_scaling.config.renamed import with_current_paths
from agent_scaling.envs.rules import game_from_file
from agent_scaling.policies.checkpoints.files import read_checkpoint, write_checkpoint
from agent_scaling.policies.policy import Policy
from agent_scaling.policies.sizes import on_meta
from agent_scaling.runtime.errors import InputError, reading

TRUSTED = (
    "agent_scaling.policies.policy.",
    "agent_scaling.policies.encoders.",
    "agent_scaling.policies.cores.",
)
"""Modules whose classes a checkpoint's config may name, beside those of installed extensions."""

ROOM = 2**30
"""Bytes that a policy may take beside its weights: tables, and the state of one lane."""
LARGEST = 10**6
"""Largest whole number that a config may hold beyond the elements of its weights: lists of so many
parts would be made before the first part is."""
SPARE = 100
"""Parameters and buffers beside those that are saved."""

INTERPOLATION = "${"
"""Start of an OmegaConf interpolation, which may call code; `train` saves resolved values only."""


def build_policy(config: dict[str, Any]) -> Policy:
    """Build the policy that a checkpoint's config describes, with fresh weights.

    Paths of version 0.1 are translated before they are checked.

    Raises:
        InputError: The config names something outside :data:`TRUSTED` and installed extensions.
    """
    config = trusted(config)
    policy = instantiate(config)
    if not isinstance(policy, Policy):
        raise InputError(f"policy config makes a {type(policy).__name__}, not a Policy")
    policy.config = config
    return policy


def trusted(config: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's config with current paths; raises as :func:`build_policy`."""
    config = with_current_paths(config)
    for target in _targets(config):
        if not is_trusted(target):
            raise InputError(
                f"policy config names {target!r}: only {', '.join(TRUSTED)} and installed "
                "extensions' may be; install the package that it is of"
            )
    return config


def load_policy(path: str | Path, baseline: bool = False) -> Policy:
    """Load a policy from a checkpoint of ``train``, on the CPU, in evaluation mode.

    Args:
        path: The checkpoint.
        baseline: Give a policy that has no baseline one that answers 0 until it is trained, for
            learning by playing.

    Raises:
        InputError: The file cannot be read, or is not a checkpoint of a policy.
    """
    checkpoint = read_checkpoint(path)
    config, weights = checkpoint.get("policy_config"), checkpoint.get("state_dict")
    if not isinstance(config, dict) or not config or not isinstance(weights, dict):
        raise InputError(f"{path}: not a checkpoint of `agent-scaling train` (no policy in it)")
    with reading(path, "use an earlier one"):
        own = policy_weights(checkpoint)
        game = game_from_file(checkpoint.get("game"), str(path))
        check_size(config, own, path)
        policy = build_policy(config)
        policy.load_state_dict(own)
        policy.game = game
        if baseline:
            policy.add_baseline()
        return policy.eval()


def check_size(config: dict[str, Any], weights: dict[str, Any], path: str | Path) -> None:
    """Compare a config with the weights beside it before anything of its size is made.

    Raises:
        InputError: It describes other shapes, or takes more memory than its weights account for.
    """
    config = trusted(config)
    elements = sum(weight.numel() for weight in weights.values() if isinstance(weight, Tensor))
    if (largest := max(_numbers(config), default=0)) > max(LARGEST, elements):
        raise InputError(
            f"{path}: its policy's config holds {largest:,}, far more than its weights; use another"
        )
    with at_most_parts(len(weights)):
        drawn = on_meta(config)
    check_weights(drawn, weights, path)
    state = drawn.initial_state(1)
    taken = sum(t.nbytes for t in (*drawn.parameters(), *drawn.buffers(), *state))
    if taken > 2 * sum(weight.nbytes for weight in weights.values()) + ROOM:
        raise InputError(
            f"{path}: its policy would take {taken:,} bytes, far more than its weights; use another"
        )


@contextmanager
def at_most_parts(count: int) -> Iterator[None]:
    """Raise :class:`InputError` when a policy gets more parameters and buffers than ``count``."""
    left = count

    def one_more(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left < -SPARE:
            raise InputError(
                f"policy config describes more than the {count} tensors that are there"
            )

    hooks = [register_module_parameter_registration_hook(one_more)]
    hooks += [register_module_buffer_registration_hook(one_more)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def save_policy(policy: Policy, path: str | Path) -> None:
    """Write a policy as a checkpoint that :func:`load_policy`, ``rollout`` and ``watch`` take.

    Training cannot resume from it, because it holds no optimiser (``policy=checkpoint`` begins with
    its weights).

    Raises:
        InputError: The file cannot be written, or the policy does not know its own config: it was
            put together by hand.
    """
    if not policy.config:
        raise InputError(f"{path}: the policy has no config; make it with make_policy()")
    weights = {f"policy.{name}": value for name, value in policy.state_dict().items()}
    made = {"policy_config": policy.config, "state_dict": weights, "game": policy.game.to_dict()}
    write_checkpoint(made, path)


def policy_weights(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The policy's part of a module's weights, under the policy's own names."""
    prefix, weights = "policy.", checkpoint["state_dict"]
    return {
        key.removeprefix(prefix): value
        for key, value in weights.items()
        if isinstance(key, str) and key.startswith(prefix)
    }


def check_weights(policy: Policy, weights: dict[str, Any], path: str | Path) -> None:
    """Compare names and shapes; raises :class:`InputError` that names the first difference.

    Weights that are NaN, or of another kind of number, are refused as well.
    """
    expected = policy.state_dict()
    for name in sorted(expected.keys() | weights.keys()):
        here, there = expected.get(name), weights.get(name)
        shapes = [tuple(t.shape) if isinstance(t, Tensor) else None for t in (there, here)]
        if here is None or not isinstance(there, Tensor) or shapes[0] != shapes[1]:
            raise InputError(
                f"{path}: {name} is {shapes[0] or 'missing'} in the checkpoint and "
                f"{shapes[1] or 'missing'} in the policy; give the policy= that it was trained with"
            )
        if here.is_floating_point() != there.is_floating_point():
            raise InputError(f"{path}: {name} is {there.dtype}, not {here.dtype}; use another")
        with reading(path, "use an earlier one"):
            refuse_nan(there, name)


def refuse_nan(value: object, name: str) -> None:
    """Refuse a tree with a number that is NaN: all that is computed from it would be NaN.

    Raises:
        ValueError: One is; the message says which.
    """
    if isinstance(value, Mapping):
        for key, part in value.items():
            refuse_nan(part, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            refuse_nan(part, f"{name}.{number}")
    elif isinstance(value, Tensor):
        if value.isnan().any():
            raise ValueError(f"{name} holds NaN")
    elif isinstance(value, float) and math.isnan(value):
        raise ValueError(f"{name} is NaN")


def is_trusted(target: str) -> bool:
    """True for the import path of a class that :data:`TRUSTED` or an extension defines.

    Names that a module has only imported are refused: every module leads to ``os.system``.
    """
    if not _ours(target) or INTERPOLATION in target:
        return False
    found = get_object(target)
    return isclass(found) and _ours(f"{found.__module__}.")


def _ours(path: str) -> bool:
    return path.startswith(TRUSTED) or is_extension(path)


def _numbers(config: object) -> Iterator[int]:
    """Yield the whole numbers of a config."""
    if isinstance(config, dict | list | tuple):
        for value in config.values() if isinstance(config, dict) else config:
            yield from _numbers(value)
    elif isinstance(config, int):
        yield config


def _targets(config: object) -> list[str]:
    """All that instantiating a config could call; what Hydra would first look up elsewhere, too."""
    if isinstance(config, dict):
        own = [str(config["_target_"])] if "_target_" in config else []
        return own + [t for value in config.values() for t in _targets(value)]
    if isinstance(config, (list, tuple)):
        return [t for value in config for t in _targets(value)]
    return [config] if isinstance(config, str) and INTERPOLATION in config else []
