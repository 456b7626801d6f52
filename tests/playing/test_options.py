"""The options of episodes stand in one place; the configs repeat them for the reader."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from agent_scaling.playing.options import PlayOptions
from agent_scaling.runtime.errors import InputError
from tests.helpers.runs import composed


@pytest.mark.parametrize("verb", ["rollout", "watch", "compare"])
def test_configs_have_every_option_with_its_default(verb: str) -> None:
    cfg = composed(verb, [])
    defaults = asdict(PlayOptions())
    assert {name: cfg[name] for name in defaults} == defaults


def test_the_callbacks_config_has_no_other_defaults() -> None:
    cfg = composed("train", []).callbacks.rollouts
    defaults = asdict(PlayOptions())
    shared = defaults.keys() & cfg.keys()
    assert {"seed", "sampling", "character", "max_episode_steps"} <= shared
    assert {name: cfg[name] for name in shared} == {name: defaults[name] for name in shared}


@pytest.mark.parametrize("name", ["seed", "sampling_seed", "level_seed"])
def test_a_seed_that_no_table_can_hold_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"below 2\*\*62"):
        PlayOptions(**{name: 10**20})
    PlayOptions(**{name: 2**62 - 1})


@pytest.mark.parametrize(
    ("option", "value"),
    [("seed", -1), ("level_seed", -1), ("block", 0), ("top_k", 1.5), ("temperature", "hot")],
)
def test_a_wrong_value_is_one_line_that_names_its_option(option: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{option}={value}: input should be [^\n]*$"):
        PlayOptions(**{option: value})


def test_an_unknown_option_is_refused() -> None:
    options: dict[str, Any] = {"max_steps": 5}
    with pytest.raises(InputError, match="max_steps=5: unexpected keyword argument"):
        PlayOptions(**options)
