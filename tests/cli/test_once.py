from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from agent_scaling.cli.once import composed_once
from agent_scaling.config.beside import conf

Seen = list[tuple[Any, Any]]
PLAIN = (["train", "experiment=nethack_bc"], ["flops"], ["doctor", "hydra.mode=RUN"])
SEVERAL = (
    ["flops", "-m", "unroll_length=1,2"],
    ["flops", "hydra.mode=MULTIRUN", "unroll_length=1,2"],
    ["flops", "hydra.mode=MULTIRUN", "unroll_length=1"],
    ["train", "experiment=several", "output=x"],
)

MISTAKES = (["flops", "unroll_length=1,2"], ["flops", "policy=none"], ["flops", "hydra.mode=9"])


def jobs_of(words: list[str], composing: AbstractContextManager[None]) -> Seen:
    """The config and Hydra's own of each job that a command line begins."""
    seen: Seen = []

    def task(cfg: DictConfig) -> None:
        own = OmegaConf.to_container(HydraConfig.get(), resolve=False, enum_to_str=True)
        seen.append((OmegaConf.to_container(cfg, resolve=False), own))

    verb, *sys.argv[1:] = words
    with composing:
        hydra.main(config_path=str(conf()), config_name=verb, version_base=None)(task)()
    return seen


@pytest.fixture
def compositions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """One entry for each composition, in a folder of its own."""
    counted: list[int] = []
    impl: Callable[..., Any] = ConfigLoaderImpl._load_configuration_impl

    def counting(self: ConfigLoaderImpl, *args: Any, **kwargs: Any) -> Any:
        counted.append(1)
        return impl(self, *args, **kwargs)

    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", counting)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["agent-scaling"])
    monkeypatch.chdir(tmp_path)
    return counted


@pytest.mark.parametrize("words", PLAIN)
def test_a_run_is_composed_once_to_the_same_config(
    words: list[str], compositions: list[int]
) -> None:
    once = jobs_of(words, composed_once())
    assert len(compositions) == 1
    assert once == jobs_of(words, nullcontext())
    assert len(once) == 1


@pytest.mark.parametrize("words", SEVERAL)
def test_several_runs_are_the_same(
    words: list[str], compositions: list[int], tmp_path: Path
) -> None:
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "several.yaml").write_text("# @package _global_\nhydra: {mode: MULTIRUN}\n")
    words = [*words, "hydra.sweep.dir=x", "--config-dir", str(folder.parent)]
    assert jobs_of(words, composed_once()) == jobs_of(words, nullcontext()) != []


@pytest.mark.parametrize(
    "words",
    [["flops", "unroll_length=1,2"], ["flops", "experiment=none"], ["flops", "hydra.mode=9"]],
)
def test_mistakes_are_the_same(words: list[str], compositions: list[int]) -> None:
    errors = []
    for composing in (composed_once(), nullcontext()):
        with pytest.raises(Exception) as found:  # noqa: PT011  (of any kind that Hydra raises)
            jobs_of(words, composing)
        errors.append((type(found.value), str(found.value)))
    assert errors[0] == errors[1]
