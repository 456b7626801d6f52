"""Groups of parameters, and what an optimiser may go on from."""

from __future__ import annotations

import copy

import pytest
import torch

from agent_scaling.runtime.errors import InputError
from agent_scaling.training.optim.muon import Muon
from agent_scaling.training.optim.optimizer import OptimizerFactory
from tests.helpers.policies import small_policy


def test_adam_is_one_group_in_the_policys_order() -> None:
    policy = small_policy()
    optimizer = OptimizerFactory(torch.optim.Adam, lr=1e-3, betas=(0.9, 0.99))(policy)
    (group,) = optimizer.param_groups
    assert all(a is b for a, b in zip(group["params"], policy.parameters(), strict=True))
    assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-3, (0.9, 0.99), 0)


def test_only_matrices_decay() -> None:
    policy = small_policy()
    groups = OptimizerFactory(torch.optim.AdamW, lr=1e-3, weight_decay=0.1).groups(policy)
    names = {id(parameter): name for name, parameter in policy.named_parameters()}
    decays = {names[id(p)]: g["weight_decay"] for g in groups for p in g["params"]}
    assert decays.keys() == set(names.values())
    for name in ("map.blocks.0.0.weight", "status.convs.0.weight", "fc.0.weight"):
        assert decays[f"encoder.{name}"] == 0.1
    assert decays["core.lstm.weight_hh_l0"] == decays["policy.weight"] == 0.1
    for name in ("chars.weight", "message.table", "message.bias", "fc.0.bias"):
        assert decays[f"encoder.{name}"] == 0
    assert decays["encoder.map.blocks.0.2.net.1.weight"] == 0  # BatchNorm
    assert decays["core.lstm.bias_hh_l0"] == 0


def test_under_mup_the_decay_of_a_step_is_that_of_the_base() -> None:
    policy = small_policy()
    base = {"encoder": {"width": 8, "map_width": 8}, "core": {"width": 8}}
    factory = OptimizerFactory(torch.optim.AdamW, 1e-3, weight_decay=0.1, mup=True, base=base)
    groups = factory.groups(policy)
    assert len(groups) > 2
    for group in groups:
        assert group["lr_scale"] * group["weight_decay"] in (0, pytest.approx(0.1))
    optimizer = factory(policy)
    factory.set_rate(optimizer, 0.5)
    assert [g["lr"] for g in optimizer.param_groups] == [5e-4 * g["lr_scale"] for g in groups]


def test_an_optimiser_of_other_groups_is_refused() -> None:
    policy = small_policy()
    adam = OptimizerFactory(torch.optim.Adam, lr=1e-3)
    saved = copy.deepcopy(adam(policy).state_dict())
    adam.check_saved(policy, saved, "run.ckpt")
    OptimizerFactory(torch.optim.Adam, lr=1e-2).check_saved(policy, saved, "run.ckpt")
    with pytest.raises(InputError, match=r"run\.ckpt: trained with another optimizer="):
        OptimizerFactory(torch.optim.AdamW, 1e-3, 0.1).check_saved(policy, saved, "run.ckpt")


@pytest.mark.parametrize(
    ("kind", "options", "line"),
    [
        (torch.optim.Adam, {"betas": None}, "optimizer.betas=null: input should be a list"),
        (torch.optim.Adam, {"betas": [0.9, 2.0]}, "optimizer: Adam refuses .*beta"),
        (torch.optim.Adam, {"nesterov": True}, "optimizer: Adam refuses .*nesterov"),
        (Muon, {"momentum": None}, "optimizer.momentum=null: input should be a valid number"),
        (Muon, {"iterations": None}, "optimizer.iterations=null: input should be a valid integer"),
    ],
)
def test_options_that_the_optimiser_refuses_are_one_line_before_anything_is_trained(
    kind: type[torch.optim.Optimizer], options: dict[str, object], line: str
) -> None:
    with pytest.raises(InputError, match=line):
        OptimizerFactory(kind, lr=1e-3, **options)
