"""A user's own ``conf``, ``callbacks`` and ``data_modules`` are no harm, and can be used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from agent_scaling.config.beside import conf, hidden, share_names
from agent_scaling.config.call import call_verb
from agent_scaling.config.check import located
from agent_scaling.runtime.errors import InputError
from tests.conftest import ROOT
from tests.helpers.runs import composed

PROGRAM = """
import callbacks  # the user's
assert callbacks.OWN == "mine"
import agent_scaling
agent_scaling.make_policy("policy/size=30k")
from hydra.utils import get_object
from agent_scaling.config.compose import hydra
from hydra import compose
with hydra():
    assert compose("train", ["experiment=nethack_bc"]).callbacks.flops
print(get_object("callbacks.flops.FlopBudget").__name__, get_object("callbacks.own.Own").__name__,
      get_object("data_modules.theirs.Data").__name__, callbacks.OWN)
"""


def test_a_users_packages_of_the_same_names_work_beside_ours(tmp_path: Path) -> None:
    for name in ("conf", "callbacks", "data_modules"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('OWN = "mine"\n')
    (tmp_path / "conf" / "train.yaml").write_text("mine: 1\n")
    (tmp_path / "callbacks" / "own.py").write_text("class Own: ...\n")
    (tmp_path / "data_modules" / "theirs.py").write_text("class Data: ...\n")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["FlopBudget", "Own", "Data", "mine"]


def test_ours_are_found_by_where_the_package_lies() -> None:
    assert conf() == ROOT / "conf"


def test_a_module_under_the_name_of_one_of_ours_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = type(sys)("callbacks.flops")
    theirs.__file__ = str(tmp_path / "callbacks" / "flops.py")
    monkeypatch.setitem(sys.modules, "callbacks.flops", theirs)
    with pytest.raises(InputError, match=r"callbacks/flops\.py: .*rename the file"):
        share_names()


def test_a_users_module_that_ours_hides_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks" / "flops.py").write_text("class Mine: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    node = OmegaConf.create({"_target_": "callbacks.flops.Mine"})
    with pytest.raises(InputError, match=rf"{tmp_path}/callbacks/flops\.py is hidden .*rename"):
        located("callbacks.x.", node)
    assert hidden("callbacks.ema.Mine") == hidden("torch.nn.Mine") == ""


def test_a_users_package_that_ends_the_program_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data_modules.py").write_text("raise SystemExit('usage')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "data_modules", raising=False)
    share_names()
    assert get_object("data_modules.shards.ShardsDataModule")


def test_a_target_that_is_not_there_is_one_line() -> None:
    words = ["experiment=nethack_bc", "data.shards=x", "flops_budget=1e9", "output=run"]
    words += ["logger.artifact_location=files", "logger.tracking_uri=sqlite:///runs.db"]
    with pytest.raises(InputError, match=r"callbacks\.x\._target_=callbacks\.nope\.X: cannot be"):
        call_verb(composed("train", [*words, "+callbacks.x._target_=callbacks.nope.X"]))
