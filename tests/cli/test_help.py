"""What a verb lets one choose: help lists it, and what is chosen wrongly is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hydra import compose
from omegaconf import OmegaConf

from agent_scaling.cli.help import check_top_keys, help_text, sections
from agent_scaling.cli.main import VERBS
from agent_scaling.config import search_path
from agent_scaling.config.compose import hydra
from agent_scaling.config.groups import check_choices
from agent_scaling.runtime.errors import InputError


def shown(verb: str, *words: str) -> str:
    with hydra() as loader:
        cfg = compose(verb, list(words), return_hydra_config=True)
        return help_text(verb, cfg, cfg.hydra.runtime.choices, loader)


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An extension that has a callback and a policy."""
    conf = tmp_path / "extension_of_help" / "conf"
    for group, text in (("callbacks", "mine: {_target_: x.Y}"), ("policy", "_target_: x.Z")):
        (conf / group).mkdir(parents=True)
        (conf / group / "mine.yaml").write_text(text)
    for folder in (conf, conf.parent):
        (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("extension_of_help", "extension_of_help.conf"):  # those of the last test are gone
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(search_path, "config_packages", lambda: ["extension_of_help.conf"])
    search_path.register()


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_a_terminal(verb: str) -> None:
    lines = shown(verb).splitlines()
    assert any(line.startswith(("agent-scaling ", "  agent-scaling ")) for line in lines)
    assert [line for line in lines if len(line) > 80 and len(line.split()) > 1] == []


def test_help_of_train_has_groups_within_groups_and_the_keys_of_the_parts() -> None:
    text = shown("train")
    for part in (
        "policy/core=lstm    bidirectional_lstm, lstm",
        "policy/size=null",
        "data. shards=",
    ):
        assert part in text
    assert "callbacks.rollouts. episodes=20 " in text
    assert "callbacks=default   default\n" in text
    assert "hydra/" not in text
    assert "data.unrolls. game=" in shown("train", "data=mixed")


def test_help_has_no_options_of_other_verbs() -> None:
    assert "source=nld_aa  altorg, atari, minari, nld_aa\n" in shown("shard")
    text = shown("fit")
    assert "\nsource: csv  " in text
    assert "altorg" not in text
    assert "named" not in text


def test_help_of_study_has_the_keys_of_plan_and_the_studies() -> None:
    text = shown("study")
    assert "\nsizes: null " in text
    assert "paper_nethack_rl" in text
    assert text.count("\noutput: ") == 1
    assert "hydra/launcher=basic  basic, joblib" in text


@pytest.mark.usefixtures("added")
def test_help_has_the_options_of_others() -> None:
    text = " ".join(shown("train").split())  # the list of options is wrapped
    options = "atari_cnn, atari_compact, atari_resnet, checkpoint, compact, mine, "
    options += "release2, release2_167m, resnet_lstm"
    assert f"policy=resnet_lstm {options}" in text
    assert "a part is added by 'callbacks=[mine,default]': mine" in text


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize(
    ("option", "fix"),
    [
        ("ema", r"callbacks=default has it; callbacks\.ema\.KEY=VALUE sets its keys"),
        ("mine", r"'callbacks=\[mine,default\]' adds it"),
    ],
)
def test_one_part_is_not_all_of_a_group(option: str, fix: str) -> None:
    with hydra() as loader:
        check_choices({"callbacks": "default", "experiment": None, "policy": "mine"}, loader)
        with pytest.raises(InputError, match=f"callbacks={option}: is one part.*{fix}"):
            check_choices({"callbacks": option}, loader)


def test_a_list_of_options_is_no_unknown_key() -> None:
    with hydra():
        cfg = compose("train", ["callbacks=[default]"], return_hydra_config=True)
        check_top_keys("train", cfg, cfg.hydra.runtime.choices)


def test_values_are_as_one_types_them() -> None:
    node = OmegaConf.to_container(
        OmegaConf.create({"a": {"b": None, "c": [1, 0.5], "d": True, "_target_": "x", "e": {}}})
    )
    assert list(sections(node)) == [("a.", ["b=null", "c=[1,0.5]", "d=true", "e={}"])]  # type: ignore[arg-type]
