"""Several ranks without a strategy get that of ``trainer=ddp``, and one rank gets none."""

from __future__ import annotations

import logging
from logging.handlers import BufferingHandler
from pathlib import Path

import pytest

from agent_scaling.runtime.errors import InputError
from agent_scaling.training.build import choose_strategy
from tests.helpers.runs import composed, train

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


def test_lightning_says_nothing_while_it_counts_ranks(tmp_path: Path) -> None:
    said = BufferingHandler(100)
    logger = logging.getLogger("lightning.pytorch")
    logger.setLevel(logging.INFO)
    logger.addHandler(said)
    try:
        with pytest.raises(InputError, match="no-shards"):
            train(
                tmp_path / "no-shards",
                tmp_path / "run",
                CPU,
                "trainer.devices=2",
                "flops_budget=1e9",
            )
    finally:
        logger.removeHandler(said)
    assert said.buffer == []
