"""Values that a config gives are checked before anything runs; what is missing is named."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from agent_scaling.cli.main import VERBS
from agent_scaling.config.call import call_verb
from agent_scaling.config.check import check_keys, check_values, checked, missing_keys
from agent_scaling.envs.families import Game
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.keys import check_callbacks, check_trainer
from tests.config.test_configs import options
from tests.helpers.runs import composed

FILLED = ["flops_budget=1e9", "experiment=nethack_bc_paper", "data.shards=x"]
STORE = ["logger.tracking_uri=sqlite:///x.db", "logger.artifact_location=x"]


@pytest.mark.parametrize("verb", VERBS)
def test_the_defaults_of_every_verb_pass(verb: str) -> None:
    check_values(composed(verb, {"train": [*FILLED, *STORE], "study": ["name=x"]}.get(verb, [])))


@pytest.mark.parametrize(
    ("verb", "override", "line"),
    [
        ("rollout", "episodes=many", "episodes=many: input should be a valid integer"),
        ("rollout", "episodes=1.5", "episodes=1.5: input should be a valid integer"),
        ("train", "data.lanes=[1,2]", "data.lanes=[1,2]: input should be a valid integer"),
        ("train", "milestones=[x]", "milestones=[x]: input should be a valid number"),
        ("train", "seed=abc", "seed=abc: input should be a valid integer"),
        ("fit", "output=null", "output=null: input should be a text"),
        ("fit", "where=a", "where=a: input should be a mapping, {name: value}"),
        ("fit", "budgets=1e9", "budgets=1000000000.0: input should be a list, [a,b]"),
        ("fit", "measured.loss=low", "measured.loss=low: input should be a valid number"),
        ("fit", "highest_return=.inf", "highest_return=.inf: input should be a valid number"),
        ("fit", "lowest_return=nan", "lowest_return=nan: input should be a finite number"),
        ("study", "expert_return=nan", "expert_return=nan: input should be a finite number"),
        ("plan", "epochs=-1", "epochs=-1: input should be greater than 0"),
        ("train", "optimizer.lr=nan", "optimizer.lr=nan: input should be a finite number"),
        ("train", "flops_budget=-1", "flops_budget=-1: input should be greater than 0"),
        ("train", "policy.encoder.width=wide", "policy.encoder.width=wide: input should be"),
        ("train", "callbacks.held_out.every_frames=x", "callbacks.held_out.every_frames=x: "),
        (
            "train",
            "callbacks.flops.convention=7nd",
            "schedule.convention=7nd: input should be 'model'",
        ),
    ],
)
def test_a_value_of_another_type_is_one_line(verb: str, override: str, line: str) -> None:
    given = [*FILLED, *STORE] if verb == "train" else []
    with pytest.raises(InputError) as caught:
        check_values(composed(verb, [*given, override]))
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (1e6, int),
        (3, float),
        (2024, str),
        (None, int | None),
        (True, bool | str),
        ("a", Any),
        ("a", Game),
    ],
)
def test_what_a_command_line_makes_of_a_value_passes(value: Any, hint: Any) -> None:
    checked("key", value, hint)


@pytest.mark.parametrize("name", options("experiment"))
def test_every_experiment_passes(name: str) -> None:
    more = ["policy.path=x"] if name.endswith("kickstart") else []
    cfg = composed("train", ["flops_budget=1e9", *STORE, f"experiment={name}", *more])
    check_values(cfg)
    OmegaConf.set_struct(cfg, False)
    del cfg.examples
    check_keys(cfg)


@pytest.mark.parametrize(
    ("verb", "key"), [("train", "new"), ("train", "data.lanez"), ("shard", "inputs")]
)
def test_a_key_that_nothing_takes_is_named(verb: str, key: str) -> None:
    cfg = composed(verb, [f"+{key}={{a: 1}}"])
    OmegaConf.set_struct(cfg, False)
    del cfg.examples
    with pytest.raises(InputError, match=f"^{key}: no such key"):
        check_keys(cfg)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["callbacks=[flops,tracking]"], "callbacks.rollouts={.*}: not a callback"),
        (["callbacks.held_out=3"], "callbacks.held_out=3: not a callback"),
        (["~callbacks.flops"], "callbacks.flops: without it nothing ends the run"),
        (["callbacks.flops.budget=null"], "callbacks.flops: without it nothing ends the run"),
    ],
)
def test_callbacks_that_make_no_run(words: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line):
        check_callbacks(composed("train", [*FILLED, *words]))


@pytest.mark.parametrize("word", ["accumulate_grad_batches=0", "gradient_clip_val=-1"])
def test_a_number_that_lightning_would_take_is_one_line(word: str) -> None:
    with pytest.raises(InputError, match=rf"trainer\.{word}: must be at least"):
        check_trainer(composed("train", [*FILLED, f"trainer.{word}"]))


def test_a_number_that_lightning_would_miss_in_training_is_one_line() -> None:
    with pytest.raises(InputError, match=r"trainer\.accumulate_grad_batches=null: input should be"):
        check_trainer(composed("train", [*FILLED, "trainer.accumulate_grad_batches=null"]))


def test_steps_may_end_a_run() -> None:
    check_callbacks(composed("train", [*FILLED, "callbacks.flops=null", "trainer.max_steps=3"]))


def test_the_choices_are_in_the_line() -> None:
    with pytest.raises(InputError, match="key=c: input should be 'a' or 'b'"):
        checked("key", "c", Literal["a", "b"])


def test_a_number_where_a_text_is_asked_for_is_that_text() -> None:
    cfg = composed("rollout", ["ckpt=5", "env=2600", "output=2024"])
    check_values(cfg)
    assert [cfg.ckpt, cfg.env, cfg.output] == ["5", "2600", "2024"]


def test_what_must_be_given_is_named() -> None:
    with pytest.raises(InputError, match="ckpt: must be given, as key=value"):
        call_verb(composed("rollout", []))


def test_a_text_that_would_be_looked_up_again_is_one_line() -> None:
    with pytest.raises(InputError, match=r"output=a\$\{seed\}: .* rename"):
        call_verb(composed("rollout", ["ckpt=x", "output='a\\${seed}'"]))


def test_missing_keys_are_all_named_and_interpolations_are_not() -> None:
    cfg = OmegaConf.create({"a": "???", "b": {"c": "???", "d": "${a}"}, "e": 1})
    assert missing_keys(cfg) == ["a", "b.c"]


def test_numbers_that_were_given_as_text() -> None:
    """A quoted number, and what ``${oc.env:…}`` gives."""
    cfg = composed("shard", ["input=games", 'val_fraction="0.25"', 'level="3"', 'actions="false"'])
    check_values(cfg)
    assert (cfg.val_fraction, cfg.level, cfg.actions) == (0.25, 3, False)
    assert cfg.split_salt == ""
    cfg = composed("shard", ["input=games", 'split_salt="7"'])
    check_values(cfg)
    assert cfg.split_salt == "7"
