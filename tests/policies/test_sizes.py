from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from agent_scaling.policies.checkpoints.load import build_policy
from agent_scaling.policies.policy import Policy
from agent_scaling.policies.sizes import (
    neighbours,
    num_params,
    on_meta,
    rounded,
    solve,
    take_actions,
)
from agent_scaling.runtime.errors import InputError
from tests.config.test_configs import options
from tests.helpers.runs import composed

CORES = options("policy/core")


@cache
def config(*overrides: str) -> tuple[float | None, dict[str, Any]]:
    """``policy.params`` and the policy's config, as ``train`` gets them."""
    policy = composed("train", ["flops_budget=1", *overrides]).policy
    parts: Any = OmegaConf.to_container(policy, resolve=True)
    kept = {name: parts[name] for name in ("encoder", "core")}
    return parts["params"], {"_target_": "agent_scaling.policies.policy.Policy", **kept}


def solved(core: str, params: float) -> dict[str, Any]:
    return solve(config(f"policy/core={core}")[1], params)


@pytest.mark.parametrize("core", CORES)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(exponent=st.floats(4, 8.7))
def test_any_size_is_met_within_five_percent(core: str, exponent: float) -> None:
    params = 10**exponent
    assert num_params(solved(core, params)) == pytest.approx(params, rel=0.05)


@pytest.mark.parametrize("core", CORES)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(exponent=st.floats(4, 8.7))
def test_the_compact_policy_has_any_size(core: str, exponent: float) -> None:
    params = 10**exponent
    _, parts = config("policy=compact", f"policy/core={core}")
    assert num_params(solve(parts, params)) == pytest.approx(params, rel=0.05)


@pytest.mark.parametrize(
    ("params", "overrides"),
    [
        (8_048, ["policy=compact"]),
        (9_323, ["policy=compact", "policy.encoder.far=true"]),
        (28_900, ["policy=compact", "policy/core=none"]),
        (13_400, ["policy/core=none"]),
        (20_227, ["policy/core=none"]),
    ],
)
def test_sizes_between_widths_at_which_a_part_grows(params: float, overrides: list[str]) -> None:
    """Where the vector of a cell grows by one, all parameters jump by a tenth or more."""
    parts = config(*overrides)[1]
    assert num_params(solve(parts, params)) == pytest.approx(params, rel=0.05)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("size", options("policy/size"))
def test_named_sizes(core: str, size: str) -> None:
    unit = {"k": 1e3, "m": 1e6}[size[-1]]
    asked, parts = config(f"policy/size={size}")
    assert asked == float(size[:-1]) * unit
    assert parts == config()[1]  # so any core may stand beside it
    assert num_params(solved(core, asked)) == pytest.approx(asked, rel=0.05)


GROWTHS: dict[str, Callable[[int], int]] = {
    "square": lambda width: 3 * width**2 + 500 * width + 9_000,
    "flat at first": lambda width: 60_000 + width**2 // 50,
    "jumps": lambda width: 4 ** (width.bit_length()) + width,
    "alike": lambda width: 1_000_000,
}


@pytest.mark.parametrize("growth", GROWTHS)
def test_neighbouring_widths_are_those_of_the_slow_search(growth: str) -> None:
    params_at = GROWTHS[growth]
    widths = [width for width in range(4, 65_537) if rounded(width) == width]
    for params in (500, 10_000, 65_000, 1_000_000, 1_000_001, 1.7e7, 3e9, 2e10):
        counted = cache(params_at)
        low, high = neighbours(counted, params)
        enough = [width for width in widths if params_at(width) >= params]
        assert high == (enough[0] if enough else widths[-1])
        assert low == widths[max(0, widths.index(high) - 1)]
        assert counted.cache_info().misses <= (7 if growth == "square" else 25)


def test_policy_knows_the_widths_that_were_solved() -> None:
    cfg = composed("train", ["flops_budget=1", "policy/core=mamba", "policy.params=5e4"])
    policy = instantiate(cfg.policy)
    assert isinstance(policy, Policy)
    assert policy.num_params == pytest.approx(5e4, rel=0.05)
    assert policy.config["core"]["width"] == policy.core.width
    again = build_policy(policy.config)  # as from a checkpoint
    shapes = {name: value.shape for name, value in policy.state_dict().items()}
    assert {name: value.shape for name, value in again.state_dict().items()} == shapes


def test_what_is_no_width_stays() -> None:
    options = ["policy.core.layers=2", "policy.encoder.crop=false"]
    _, parts = config("policy/core=transformer", *options)
    sized = solve(parts, 1e6)
    assert sized["core"]["layers"] == 2
    assert sized["encoder"]["crop"] is False
    assert sized["core"]["width"] > solved("transformer", 1e6)["core"]["width"]


VIEWS = {
    "inventory": ["policy.encoder.inventory=true", "policy.encoder.frames=4"],
    "mono": ["policy.encoder.colors=false", "policy.encoder.crop=false"],
}


@pytest.mark.parametrize("params", [1e4, 3e5, 1e7, 2e8])
@pytest.mark.parametrize("view", VIEWS)
def test_sizes_are_met_whatever_is_seen(view: str, params: float) -> None:
    _, parts = config(*VIEWS[view])
    sized = solve(parts, params)
    assert num_params(sized) == pytest.approx(params, rel=0.05)
    assert sized["encoder"]["inventory"] == (view == "inventory")
    assert sized["encoder"]["frames"] == (4 if view == "inventory" else 1)


def test_the_smallest_have_no_message_line() -> None:
    policy = on_meta(solved("lstm", 1e4))
    assert policy.encoder.message is None
    assert on_meta(solved("lstm", 1e7)).encoder.message is not None


@pytest.mark.parametrize("params", ["500", "-1", "many"])
def test_impossible_sizes_are_refused(params: str) -> None:
    asked, parts = config(f"policy.params={params}")
    with pytest.raises(InputError, match=r"policy\.params"):
        solve(parts, asked)  # type: ignore[arg-type]


def test_the_number_of_actions_may_be_left_to_the_data() -> None:
    cfg = composed("flops", ["policy=atari_cnn"]).policy
    with pytest.raises(InputError, match=r"num_actions=null: only data tell it"):
        on_meta(OmegaConf.to_container(cfg))
    take_actions(cfg, SimpleNamespace(num_actions=6))
    assert on_meta(OmegaConf.to_container(cfg)).num_actions == 6
    take_actions(cfg, SimpleNamespace(num_actions=3))  # one that was given stays
    assert cfg.num_actions == 6
