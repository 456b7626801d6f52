"""A default that stands both in a shipped config and in a signature is the same in both."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import Container, DictConfig, OmegaConf

import conf
from agent_scaling.config.check import targets
from agent_scaling.playing.options import PlayOptions

CONF = Path(conf.__path__[0])


def parameters(found: Any) -> dict[str, Parameter]:
    """The parameters of a class or function, and the options that its ``**how`` stands for."""
    own = dict(signature(found).parameters)
    return {**own, **signature(PlayOptions).parameters} if "how" in own else own


def twice_given() -> Iterator[tuple[str, Any, Any]]:
    """File and key, the config's value and the signature's, of each default that both give."""
    for file in sorted(CONF.rglob("*.yaml")):
        for path, node in targets(OmegaConf.create(file.read_text())):
            for key, parameter in parameters(get_object(node["_target_"])).items():
                left_open = OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key)
                if key not in node or left_open or parameter.default is Parameter.empty:
                    continue
                value = node[key]
                if isinstance(value, DictConfig):
                    continue  # a part of its own
                if isinstance(value, Container):
                    value = tuple(OmegaConf.to_container(value))
                yield f"{file.relative_to(CONF)}: {path}{key}", value, parameter.default


def test_configs_and_signatures_have_the_same_defaults() -> None:
    found = list(twice_given())
    assert len(found) > 100
    assert {where: (given, own) for where, given, own in found if given != own} == {}
