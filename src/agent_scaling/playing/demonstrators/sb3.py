"""Agents in Stable-Baselines3's zip format, as players of Atari games.

Such a zip holds pickled objects, which run code when they are loaded. None is loaded here: the
network is built from the shapes of ``policy.pth``, read as tensors only, and from the plain JSON.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from agent_scaling.envs.atari import Atari, action_names
from agent_scaling.envs.screens import SIDE
from agent_scaling.policies.checkpoints.files import refuse_bomb
from agent_scaling.policies.checkpoints.pickles import refuse_pickle_bomb
from agent_scaling.runtime.errors import InputError

WEIGHTS, ABOUT = "policy.pth", "data"
MOST_BYTES = 1 << 30
"""Most bytes of an unpacked agent; those of SB3's zoo have 7 to 20 MB."""
STACK = 4
NATURE = ((8, 4), (4, 2), (3, 1))
"""Kernel and stride of the convolutions of ``NatureCNN`` (Mnih et al. 2015)."""
ACTIVATIONS = {kind.__name__: kind for kind in (nn.ReLU, nn.Tanh, nn.ELU, nn.GELU, nn.LeakyReLU)}
ACTOR = ("features_extractor", "pi_features_extractor", "vf_features_extractor", "mlp_extractor",
         "action_net", "value_net")  # fmt: skip
"""Parts of the policies of A2C and PPO."""
VALUES = ("q_net", "q_net_target")
"""Parts of the policy of DQN."""
FORMAT = re.compile(r"<class '[\w.]*?(\w+)'>")


def is_agent(path: str | Path) -> bool:
    """True where a file is a zip of Stable-Baselines3's (torch's own files are zips, too)."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return WEIGHTS in file.namelist()


def load_agent(path: str | Path) -> nn.Module:
    """Load the network of a CnnPolicy of A2C, PPO or DQN.

    Returns:
        A module: uint8 [N, 4, 84, 84], the newest frame last → value of each action, [N, A].

    Raises:
        InputError: The file is damaged, holds more than tensors, or another kind of policy.
    """
    try:
        refuse_bomb(path, MOST_BYTES)
        with zipfile.ZipFile(path) as file:
            stored = io.BytesIO(file.read(WEIGHTS))
            refuse_bomb(stored, stored.getbuffer().nbytes)
            stored.seek(0)
            refuse_pickle_bomb(stored)
            stored.seek(0)
            weights = torch.load(stored, map_location="cpu", weights_only=True)
            about = json.loads(file.read(ABOUT))
            kwargs = about["policy_kwargs"]
            return _network(weights, kwargs).eval()
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError,
            zipfile.BadZipFile, pickle.UnpicklingError) as error:  # fmt: skip
        line = str(error).strip().partition("\n")[0]
        raise InputError(
            f"player={path}: no agent of Stable-Baselines3 that can play here ({line}): give a "
            "CnnPolicy of A2C, PPO or DQN"
        ) from error


def check_agent(path: str | Path, env: str, codes: tuple[int, ...]) -> None:
    """Raise :class:`InputError` for an agent that does not fit a game with these actions."""
    head = [layer for layer in load_agent(path).modules() if isinstance(layer, nn.Linear)][-1]
    if head.out_features != len(codes):
        fix = ": set options.full_actions=true" if head.out_features == 18 else ""
        raise InputError(
            f"player={path}: chooses from {head.out_features} actions, {env} has {len(codes)}{fix}"
        )


class AgentPlayer:
    """Plays one episode, always with the action that the agent rates best.

    It presses FIRE where a life begins, in games that have it. Agents are trained with a wrapper
    that does so (``FireResetEnv``), and would wait for ever without it.
    """

    def __init__(self, agent: nn.Module, codes: tuple[int, ...]) -> None:
        self.agent = agent
        names = action_names(codes)
        self.fire = names.index("FIRE") if "FIRE" in names else None
        self.lives: int | None = None
        self.stack: npt.NDArray[np.uint8] = np.zeros((1, STACK, SIDE, SIDE), np.uint8)

    def __call__(self, game: Atari, frame: npt.NDArray[np.uint8]) -> int:
        """Return the index of the action that answers ``frame``, uint8 [84, 84]."""
        self.stack = np.concatenate([self.stack[:, 1:], frame[None, None]], axis=1)
        before, self.lives = self.lives, int(game.ale.lives())
        if self.fire is not None and (before is None or self.lives < before):
            return self.fire
        with torch.no_grad():
            return int(self.agent(torch.from_numpy(self.stack)).argmax())


class _Scaled(nn.Module):
    """Turns bytes into floats, in 0 … 1 unless the policy reads them unscaled."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled floats of ``x``."""
        return x.float() / self.most


def _network(weights: Mapping[str, Tensor], kwargs: Mapping[str, Any]) -> nn.Module:
    """Build the network; raise ValueError or KeyError for one of no known kind."""
    parts = {name.partition(".")[0] for name in weights}
    actor = "action_net" in parts
    if unknown := sorted(parts - set(ACTOR if actor else VALUES)):
        raise ValueError(f"its policy has {', '.join(unknown)}")
    if not actor:
        screen, hidden, head = "q_net.features_extractor", "q_net.q_net", None
    else:
        shared = "pi_features_extractor" not in parts  # the format before version 1.8
        screen = "features_extractor" if shared else "pi_features_extractor"
        hidden, head = "mlp_extractor.policy_net", "action_net"
    extractor = _class_name(kwargs.get("features_extractor_class")) or "NatureCNN"
    if extractor != "NatureCNN" or any(name.startswith("mlp_extractor.shared") for name in weights):
        raise ValueError(f"its network is {extractor}, with layers of its own")
    activation = ACTIVATIONS[
        _class_name(kwargs.get("activation_fn")) or ("Tanh" if actor else "ReLU")
    ]
    layers: list[nn.Module] = [_Scaled(255.0 if kwargs.get("normalize_images", True) else 1.0)]
    for index, (kernel, stride) in enumerate(NATURE):
        layers += [_conv(weights, f"{screen}.cnn.{2 * index}", kernel, stride), nn.ReLU()]
    _check_screen(weights, screen)
    layers += [nn.Flatten(), _linear(weights, f"{screen}.linear.0"), nn.ReLU()]
    deep = sum(name.startswith(f"{hidden}.") for name in weights) // 2
    for index in range(deep):
        layers.append(_linear(weights, f"{hidden}.{2 * index}"))
        if head or index < deep - 1:
            layers.append(activation())
    return nn.Sequential(*layers, *([_linear(weights, head)] if head else []))


def _check_screen(weights: Mapping[str, Tensor], screen: str) -> None:
    channels = weights[f"{screen}.cnn.0.weight"].shape[1]
    if channels != STACK:
        raise ValueError(f"it sees {channels} channels, the game shows {STACK} grey frames")
    sees, has = weights[f"{screen}.linear.0.weight"].shape[1], 64 * 7 * 7
    if sees != has:
        raise ValueError(f"its screen is not {SIDE}×{SIDE}: {sees} features, not {has}")


def _conv(weights: Mapping[str, Tensor], name: str, kernel: int, stride: int) -> nn.Module:
    out, channels, *size = weights[f"{name}.weight"].shape
    if size != [kernel, kernel]:
        raise ValueError(f"{name} is {'×'.join(map(str, size))}, not {kernel}×{kernel}")
    return _filled(nn.Conv2d(channels, out, kernel, stride), weights, name)


def _linear(weights: Mapping[str, Tensor], name: str) -> nn.Module:
    out, features = weights[f"{name}.weight"].shape
    return _filled(nn.Linear(features, out), weights, name)


def _filled(layer: nn.Module, weights: Mapping[str, Tensor], name: str) -> nn.Module:
    layer.load_state_dict({part: weights[f"{name}.{part}"] for part in ("weight", "bias")})
    return layer


def _class_name(shown: object) -> str | None:
    """``"<class 'torch.nn.modules.activation.ReLU'>"``, as the JSON describes one → ``ReLU``."""
    found = FORMAT.fullmatch(str(shown))
    return found[1] if found else None
