"""A verb's error is the same whether the command line calls it or another verb does."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from agent_scaling.config.call import call_verb
from agent_scaling.runtime.errors import InputError

KINDS = {"input": InputError, "disk": OSError}


def fail(kind: str) -> None:
    """A verb that fails."""
    raise KINDS[kind]("such words")


def call_another(kind: str, depth: int) -> None:
    """A verb that calls another, which calls …"""
    target = f"{__name__}.{call_another.__name__ if depth > 1 else fail.__name__}"
    further = {"depth": depth - 1} if depth > 1 else {}
    call_verb(OmegaConf.create({"_target_": target, "kind": kind, **further}))


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_comes_through_the_verbs_that_call_each_other(kind: str, depth: int) -> None:
    with pytest.raises(KINDS[kind], match="such words") as caught:
        call_another(kind, depth)
    assert "fail" in [entry.name for entry in caught.traceback]
    assert caught.value.__cause__ is None  # or who follows the causes would go round for ever
