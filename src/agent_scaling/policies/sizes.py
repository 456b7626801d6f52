"""Sizes policies by parameters: finds the width of encoder and core that gives the number."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import product
from typing import Any, Protocol

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError

TOLERANCE = 0.05
WIDTHS = tuple(4 << times for times in range(15))
"""Each twice the one before, up to 65,536: the first bounds of a search."""
FIRST = 64
"""The first width that a search tries."""
GUESSES = 6
"""Widths that a search guesses before it halves what is left."""
STRETCH = 0.75, 1.5
"""Bounds of an encoder's number of features, as shares of the width of its other parts."""


class HasActions(Protocol):
    """Data that tell the size of their action set."""

    @property
    def num_actions(self) -> int | None:
        """Size of the action set; None where the policy chooses it."""


def make_policy(*, params: float | None = None, **parts: Any) -> Policy:
    """The policy of a config, at the widths that it says or that ``params`` asks for.

    Args:
        params: Parameters N to have, within 5 %. Sets the widths of encoder and core (see their
            ``sized``), whatever the config says of them; the number of layers stays. ``None``: as
            the config says.
        parts: Arguments of :class:`Policy` as configs: ``encoder``, ``core``, …

    Raises:
        InputError: No width gives ``params``, or ``num_actions`` is null.
    """
    if parts.get("num_actions", 0) is None:
        raise InputError("policy.num_actions=null: only data tell it; give it, for instance 4")
    plain = {name: _plain(part) for name, part in parts.items()}
    config = {"_target_": "agent_scaling.policies.policy.Policy", **plain}
    if params is not None:
        config = solve(config, params)
    policy: Policy = instantiate(config)
    policy.config = config
    return policy


def take_actions(policy: DictConfig, data: HasActions) -> None:
    """Give a policy's config the data's number of actions, where it has ``num_actions: null``."""
    if policy.get("num_actions", 0) is None:
        policy.num_actions = data.num_actions


def solve(config: Mapping[str, Any], params: float) -> dict[str, Any]:
    """The config with the width whose parameters come nearest to ``params``.

    Encoder and core have the same width, but for a step or two where that misses by over 2.5 %.
    Steps are about 3 %, and multiples of powers of two. Where that misses by over 5 %, as between
    widths at which a narrow part of the encoder grows by one, the number of features alone is
    moved. Each trial is built on the meta device: it takes no memory.

    Raises:
        InputError: None comes within 5 %.
    """
    if not isinstance(params, (int, float)) or params < 1:
        raise InputError(f"policy.params={params!r}: must be a number of parameters")

    def params_at(width: int) -> int:
        return num_params(at_widths(config, width, width, params))

    low, high = neighbours(params_at, params)
    found = nearest(config, params, [(low, low), (high, high)])
    if abs(num_params(found) - params) > TOLERANCE / 2 * params:  # few steps where it is narrow
        around = (low - (high - low), low, high, high + (high - low))
        found = nearest(config, params, product(around, around))
    if abs(num_params(found) - params) > TOLERANCE * params:
        tried = [found, *stretched(config, low, params), *stretched(config, high, params)]
        found = closest(tried, params)
    count = num_params(found)
    if abs(count - params) > TOLERANCE * params:
        raise InputError(
            f"policy.params={params:,.0f}: the nearest that these parts make is {count:,}; "
            "give that, or change the number of layers"
        )
    return found


def neighbours(params_at: Callable[[int], int], params: float) -> tuple[int, int]:
    """Two neighbouring widths: the second is the first of all that gives ``params`` or more.

    Each trial builds a policy, so widths are guessed: parameters grow about as their square.
    """

    def enough(place: int) -> bool:
        return params_at(WIDTHS[place]) >= params

    place = WIDTHS.index(FIRST) + round(math.log2(params / params_at(FIRST)) / 2)
    place = min(max(place, 0), len(WIDTHS) - 1)
    while place < len(WIDTHS) - 1 and not enough(place):
        place += 1
    while place > 0 and enough(place - 1):
        place -= 1
    low, high = WIDTHS[max(0, place - 1)], WIDTHS[place]
    step = high - rounded(high - 1)
    guesses = GUESSES
    while high - low > step:
        share = 0.5
        if guesses > 0:
            least, most = math.sqrt(params_at(low)), math.sqrt(params_at(high))
            share = (math.sqrt(params) - least) / max(most - least, 1e-9)
            guesses -= 1
        middle = rounded(round(low + share * (high - low)))
        middle = min(max(middle, low + step), high - step)
        if params_at(middle) < params:
            low = middle
        else:
            high = middle
    return low, high


def nearest(
    config: Mapping[str, Any], params: float, widths: Iterable[tuple[int, int]]
) -> dict[str, Any]:
    """Return the config at the pair of widths (encoder's, core's) nearest to ``params``."""
    return closest([at_widths(config, *pair, params) for pair in widths if min(pair) > 0], params)


def stretched(config: Mapping[str, Any], width: int, params: float) -> list[dict[str, Any]]:
    """The configs at ``width`` whose encoder gives fewer or more features, within STRETCH."""
    sized = at_widths(config, width, width, params)
    if sized["encoder"].get("width") != width:  # an encoder without that argument
        return []
    least, most = (round(width * share) for share in STRETCH)
    features = range(max(1, least), most + 1, max(1, width // 32))
    return [{**sized, "encoder": {**sized["encoder"], "width": number}} for number in features]


def closest(tried: Iterable[dict[str, Any]], params: float) -> dict[str, Any]:
    """Return the config whose parameters come nearest to ``params``."""
    return min(tried, key=lambda sized: abs(num_params(sized) - params))


def at_widths(config: Mapping[str, Any], encoder: int, core: int, params: float) -> dict[str, Any]:
    """The config with its parts at these widths."""
    sized = dict(config)
    for part, width in (("encoder", encoder), ("core", core)):
        kind: Any = get_class(config[part]["_target_"])
        if not hasattr(kind, "sized"):
            raise InputError(f"policy.params: {kind.__name__} has no rule for it (`sized`)")
        sized[part] = {**config[part], **kind.sized(width, int(params))}
    return sized


def rounded(width: int) -> int:
    """The width as a multiple of the power of two (≤ 64) that is 1.6 to 3.1 % of it, or of 1."""
    step = min(64, 1 << max(0, (width // 32).bit_length() - 1))
    return width // step * step


def num_params(config: Mapping[str, Any]) -> int:
    """Trainable parameters N of the policy that a config describes; takes no memory."""
    return _counted(json.dumps(config))


@lru_cache(maxsize=4096)
def _counted(config: str) -> int:
    """Count a JSON config's parameters; cached, because the runs of a grid repeat policies."""
    return on_meta(json.loads(config)).num_params


def on_meta(config: Mapping[str, Any]) -> Policy:
    """The policy of a config on the meta device: shapes without memory."""
    try:
        with torch.device("meta"):
            policy: Policy = instantiate(config)
    except InstantiationException as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, InputError):
            raise cause from None
        raise InputError(f"policy: {cause}") from error
    return policy


def _plain(part: object) -> object:
    return OmegaConf.to_container(part, resolve=True) if isinstance(part, DictConfig) else part
