"""Every YAML composes, and what it names can be built."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from agent_scaling.cli.main import VERBS
from agent_scaling.policies.flops import flops_per_frame
from agent_scaling.policies.policy import Policy
from tests.conftest import ROOT
from tests.helpers.runs import composed

CONF = ROOT / "conf"
FILLED = ["flops_budget=1e9", "logger.tracking_uri=sqlite:///x.db", "logger.artifact_location=x"]


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def targets(node: object) -> list[str]:
    if isinstance(node, DictConfig):
        own = [node["_target_"]] if "_target_" in node else []
        return own + [
            t for key in node if not OmegaConf.is_missing(node, key) for t in targets(node[key])
        ]
    if isinstance(node, ListConfig):
        return [t for item in node for t in targets(item)]
    return []


def test_every_yaml_is_reached() -> None:
    roots = {path.stem for path in CONF.glob("*.yaml")}
    assert roots == {*VERBS, "hydra_defaults"}


@pytest.mark.parametrize("verb", VERBS)
def test_targets_exist(verb: str) -> None:
    cfg = composed(verb, {"train": FILLED, "study": ["name=x"], "tune": ["name=x"]}.get(verb, []))
    found = targets(cfg)
    assert found
    for target in found:
        assert callable(get_object(target))


@pytest.mark.parametrize(
    "choice",
    [
        f"{group}={name}"
        for group in ("policy/core", "optimizer", "schedule", "trainer", "module", "data")
        for name in options(group)
    ]
    + [f"experiment={name}" for name in options("experiment")],
)
def test_every_option_composes(choice: str) -> None:
    more = ["policy.path=x"] if choice.endswith("kickstart") else []
    cfg = composed("train", [*FILLED, choice, *more])
    for target in targets(cfg):
        assert callable(get_object(target))


@pytest.mark.parametrize("core", options("policy/core"))
def test_policies_can_be_built(core: str) -> None:
    cfg = composed("train", [*FILLED, "experiment=nethack_bc_paper", f"policy/core={core}"])
    policy = instantiate(cfg.policy)
    assert isinstance(policy, Policy)
    assert flops_per_frame(policy) > 0


def test_callbacks_are_one_file_and_one_key() -> None:
    for name in options("callbacks"):
        if name != "default":
            assert list(OmegaConf.load(CONF / "callbacks" / f"{name}.yaml")) == [name]
            assert Path(ROOT / "callbacks" / f"{name}.py").is_file()
