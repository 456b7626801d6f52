"""Several ranks without a strategy get that of ``trainer=ddp``, and one rank gets none."""

from __future__ import annotations

import pytest

from agent_scaling.training.build import choose_strategy
from tests.helpers.runs import composed

CPU = "trainer.accelerator=cpu"


@pytest.mark.parametrize(
    "words",
    [["trainer.devices=2"], ["trainer.devices=2", "+trainer.strategy=ddp"],
     ["trainer.devices=2", "+trainer.strategy=auto"], ["+trainer.num_nodes=2"]],
)  # fmt: skip
def test_several_ranks_get_the_strategy_of_ddp(words: list[str]) -> None:
    trainer = composed("train", [CPU, *words]).trainer
    choose_strategy(trainer)
    assert trainer.strategy == composed("train", ["trainer=ddp"]).trainer.strategy
    assert trainer.strategy.find_unused_parameters


@pytest.mark.parametrize(
    "words", [[], ["trainer.devices=auto"], ["trainer.devices=2", "+trainer.strategy=fsdp"]]
)
def test_others_keep_what_they_have(words: list[str]) -> None:
    trainer = composed("train", [CPU, *words]).trainer
    before = trainer.copy()
    choose_strategy(trainer)
    assert trainer == before
