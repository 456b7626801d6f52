"""Words of the command line without a key."""

from __future__ import annotations

import pytest

from agent_scaling.cli.words import as_overrides
from agent_scaling.runtime.errors import InputError


@pytest.mark.parametrize(
    ("words", "overrides"),
    [
        (["a.ckpt", "b.ckpt"], ["first=a.ckpt", "second=b.ckpt"]),
        (["a", "episodes=3", "b"], ["first=a", "episodes=3", "second=b"]),
        (["second=b", "a"], ["second=b", "first=a"]),
        (["a, b", "c"], ['first="a, b"', "second=c"]),
        (["a", "b", "--cfg", "job"], ["first=a", "second=b", "--cfg", "job"]),
        (["+x=1", "~by", "a"], ["+x=1", "~by", "first=a"]),
        (["first=a=1.ckpt", "b"], ["first=a=1.ckpt", "second=b"]),
        ([], []),
    ],
)
def test_bare_words_become_the_keys_that_are_not_given(words, overrides):
    assert as_overrides("compare", words) == overrides


def test_lightnings_own_arguments_need_no_plus():
    words = ["trainer.devices=2", "trainer.strategy=ddp", "+trainer.num_nodes=2"]
    assert as_overrides("train", words) == [words[0], "++trainer.strategy=ddp", words[2]]


def test_a_file_with_an_equals_sign_is_a_value(tmp_path):
    path = tmp_path / "frames=2.ckpt"
    path.write_text("")
    assert as_overrides("compare", [str(path)]) == [f'first="{path}"']


def test_other_verbs_leave_bare_words_to_hydra():
    assert as_overrides("rollout", ["a"]) == ["a"]
    with pytest.raises(InputError, match="c: one word too many"):
        as_overrides("compare", ["a", "b", "c"])
