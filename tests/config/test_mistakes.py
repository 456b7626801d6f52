"""Command lines that cannot be composed: one line that says what was likely meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose
from omegaconf import OmegaConf

from agent_scaling.config.compose import hydra
from agent_scaling.config.mistakes import UNTAKEN, check_chosen, explain, meant
from agent_scaling.policies.compose import make_policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.studies.experiments import compose_train
from tests.cli.test_cli import agent_scaling


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["flops_bugdet=1e9"], "flops_bugdet: no such key; did you mean flops_budget?"),
        (["lanes=3"], "lanes: no such key; did you mean data.lanes?"),
        (["experimnt=demo"], "experimnt: no such key; did you mean experiment?"),
        (["policy/cor=lstm"], "policy/cor: no such key; did you mean policy/core"),
        (["xyzzy=1"], "xyzzy: no such key (agent-scaling train --help)"),
        (["policy/core=lstn"], "policy/core=lstn: no such option; did you mean lstm?; of: bidir"),
        (["data.shards=[1"], "data.shards=[1: cannot be read as key=value; quote"),
        (["ckpt=lr=1e-3/a"], "quote a value that holds '='"),
        (["+data.lanes=3"], "'++data.lanes=3'"),
        (["source=csv"], "source: train has no such choice (agent-scaling train --help)"),
        (["~data.lanez"], "'data.lanez' does not exist"),
        (["milestones={a:1}"], "milestones={a:1}: the key holds another kind of value"),
    ],
)
def test_what_was_likely_meant(words: list[str], said: str) -> None:
    with hydra(), pytest.raises(UNTAKEN) as raised:
        compose("train", words)
    line = explain(raised.value, "train")
    assert said in line
    assert "\n" not in line


def test_a_choice_that_is_null_is_one_line() -> None:
    done = agent_scaling("train", "experiment=nethack_bc", "callbacks=null")
    assert done.returncode == 2
    assert done.stderr.startswith("error: callbacks=null: a choice among configs cannot be null")
    assert done.stderr.count("\n") == 1
    kept = ["callbacks.rollouts=null", "ckpt=null", "policy/core=lstm", "named.study=null"]
    check_chosen("train", [*kept, "policy/size=30k", "callbacks=[ema,default]", "~callbacks"])


@pytest.mark.parametrize("word", ["experiment=-1", "policy=1.5", "+callbacks=[null]", "data={a:b}"])
def test_a_choice_that_is_no_name_is_one_line(word: str) -> None:
    with pytest.raises(InputError, match="a choice among configs is a name, or a list of names"):
        check_chosen("train", [word])
    group, _, value = word.removeprefix("+").partition("=")
    if "{" not in value:
        with pytest.raises(InputError, match=rf"train\.{group}=.*: must be the name of a config"):
            compose_train({group: OmegaConf.create(f"[{value}]")[0]}, {})


def test_names_that_are_not_alike_are_not_suggested() -> None:
    assert meant("lanes", ["optimizer.lr", "seed"]) == ""
    assert meant("lanes", ["data.lanes", "data.val_lanes"]) == "; did you mean data.lanes?"
    assert meant("lanes", []) == ""


def test_the_command_line_and_the_library_say_it_too(tmp_path: Path) -> None:
    done = agent_scaling("train", "lanes=3")
    assert done.returncode == 2
    assert done.stderr.startswith("error: lanes: no such key; did you mean data.lanes?")
    assert done.stderr.count("\n") == 1
    with pytest.raises(InputError, match=r"did you mean policy\.encoder\.width"):
        make_policy("policy.encoder.widht=32")
    with pytest.raises(InputError, match=r"train\.data\.lane: .* did you mean data\.lanes"):
        compose_train({"data.lane": 3}, {})


def test_configs_of_one_s_own_that_are_no_yaml_are_named(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("a: [1\nb: 2\n")
    done = agent_scaling("train", "--config-dir", str(tmp_path), "experiment=mine")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert 'mine.yaml", line 2' in done.stderr
