"""Files that somebody else has made run no code and take no more memory than they have bytes."""

from __future__ import annotations

import ast
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agent_scaling.envs.families import Description
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.load import load_policy, save_policy
from agent_scaling.policies.compose import make_policy
from agent_scaling.runtime.errors import InputError
from tests.conftest import ROOT
from tests.data.shards.test_fuzz import broken
from tests.helpers.fuzz import FUZZ

NEVER = {
    "eval", "exec", "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "dill.load",
    "joblib.load", "pd.read_pickle", "pandas.read_pickle", "torch.jit.load", "torch.hub.load",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "shutil.unpack_archive", "os.system",
}  # fmt: skip
"""Calls that run what a file holds, or unpack it wherever it says."""
UNPACKS = {"extract", "extractall"}


def offences(source: str) -> Iterator[str]:
    """Lines of a program that read files in a way that is not to be trusted."""
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if (
            name in NEVER
            or name.rpartition(".")[2] in UNPACKS
            or given.get("allow_pickle", "False") != "False"
            or (
                (name == "torch.load" or "ckpt_path" in given)
                and given.get("weights_only") != "True"
            )
        ):
            yield f"{call.lineno}: {ast.unparse(call)}"


def test_no_file_is_read_in_a_way_that_can_run_code() -> None:
    files = [
        p for f in ("src", "callbacks", "data_modules", "conf") for p in ROOT.glob(f"{f}/**/*.py")
    ]
    assert len(files) > 100
    found = [
        f"{path.relative_to(ROOT)}:{line}" for path in files for line in offences(path.read_text())
    ]
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "trainer.fit(module, data, ckpt_path=path)",
        "numpy.load(path, allow_pickle=True)",
        "tarfile.open(path).extractall(folder)",
        "yaml.load(text, yaml.Loader)",
        "pickle.load(file)",
    ],
)
def test_the_search_finds_them(line: str) -> None:
    assert list(offences(line))


def test_a_checkpoint_that_would_unpack_to_more_than_its_size(tmp_path: Path) -> None:
    path, bomb = tmp_path / "good.ckpt", tmp_path / "bomb.ckpt"
    torch.save({"weights": torch.zeros(1_000_000)}, path)
    assert read_checkpoint(path)
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        for name in good.namelist():
            file.writestr(name, good.read(name))
    assert torch.load(bomb, weights_only=True)  # torch would unpack it
    with pytest.raises(InputError, match=r"bomb\.ckpt: .*it would unpack to 4\d+ bytes"):
        read_checkpoint(bomb)


def small_checkpoint() -> bytes:
    file = io.BytesIO()
    torch.save({"weights": {"a": torch.zeros(3)}, "frames": 7, "names": ["b", None]}, file)
    return file.getvalue()


@FUZZ
@given(data=st.one_of(broken(small_checkpoint()), st.binary()))
def test_any_checkpoint(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "any.ckpt").write_bytes(data)
    said = ""
    try:
        assert isinstance(read_checkpoint(tmp_path / "any.ckpt"), dict)
    except InputError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 1000


def test_a_checkpoint_that_names_a_folder_is_refused(tmp_path: Path) -> None:
    policy = make_policy("policy/size=30k")
    policy.game = Description("nethack", {"record_dir": str(tmp_path)})
    save_policy(policy, tmp_path / "evil.ckpt")
    with pytest.raises(InputError, match=r"evil\.ckpt: .*record_dir"):
        load_policy(tmp_path / "evil.ckpt")
