"""Muon: its iteration against singular values, its groups by role, its steps against torch's."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.compose import make_policy
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.optim.muon import (
    QUINTIC,
    Muon,
    orthogonalise,
    orthogonalise_flops,
)
from agent_scaling.training.optim.muon_factory import MuonFactory
from tests.helpers.policies import random_batch, small_policy
from tests.helpers.runs import UNCOMPARED, train_in_parts
from tests.training.test_resume import COMPARED, assert_same


def by_singular_values(matrix: Tensor, iterations: int) -> Tensor:
    """The definition: the polynomial, applied to each singular value by itself."""
    a, b, c = QUINTIC
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values / values.square().sum().sqrt()
    for index, value in enumerate(values.tolist()):
        for _ in range(iterations):
            value = a * value + b * value**3 + c * value**5
        values[index] = value
    return left @ values.diag() @ right


@pytest.mark.parametrize("shape", [(7, 7), (5, 12), (12, 5), (1, 6)])
def test_the_iteration_acts_on_singular_values_alone(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, dtype=torch.float64, generator=torch.manual_seed(0))
    found = orthogonalise(matrices, 5)
    for matrix, ours in zip(matrices, found, strict=True):
        torch.testing.assert_close(ours, by_singular_values(matrix, 5))
        values = torch.linalg.svdvals(ours)
        assert values.min() > 0.3
        assert values.max() < 1.3


def test_bfloat16_changes_no_direction() -> None:
    matrices = torch.randn(2, 16, 40, generator=torch.manual_seed(0))
    exact, coarse = orthogonalise(matrices), orthogonalise(matrices.bfloat16()).float()
    for ours, theirs in zip(exact, coarse, strict=True):
        assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.995


def test_no_gradient_is_no_step() -> None:
    assert not orthogonalise(torch.zeros(1, 3, 4)).any()


def test_flops_are_those_of_the_products() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    for shape in ((6, 20), (20, 6)):
        with FlopCounterMode(display=False) as counter:
            orthogonalise(torch.randn(1, *shape), 3)
        assert counter.get_total_flops() == orthogonalise_flops(*shape, 3)


def names(policy: Policy, factory: MuonFactory) -> tuple[dict[str, list[int]], set[str]]:
    """Muon's parameters and their rows, and Adam's."""
    name_of = {id(parameter): name for name, parameter in policy.named_parameters()}
    muon: dict[str, list[int]] = {}
    adam: list[str] = []
    for group in factory.groups(policy):
        own = [name_of[id(p)] for p in group["params"]]
        if group["rows"] is None:
            adam += own
        else:
            muon |= dict(zip(own, group["rows"], strict=True))
    assert Counter([*muon, *adam]) == Counter(name_of.values())
    return muon, set(adam)


def test_parameters_go_by_role() -> None:
    muon, adam = names(small_policy(), MuonFactory(Muon, lr=0.02, adam_lr=1e-3))
    assert muon["core.lstm.weight_ih_l0"] == muon["core.lstm.weight_hh_l1"] == [16] * 4
    for name in ("map.blocks.0.0", "crop.net.0", "status.convs.2", "fc.0", "message.out"):
        assert len(muon[f"encoder.{name}.weight"]) == 1
    for name in ("chars.weight", "message.table", "message.bias", "status.convs.0.weight"):
        assert f"encoder.{name}" in adam
    assert {"policy.weight", "baseline.weight", "policy.bias", "core.lstm.bias_hh_l0"} <= adam
    assert "encoder.map.blocks.0.2.net.1.weight" in adam  # BatchNorm


@pytest.mark.parametrize("core", ["transformer", "mamba"])
def test_joined_matrices_are_taken_apart(core: str) -> None:
    policy = make_policy("policy.params=200_000", f"policy/core={core}")
    muon, _ = names(policy, MuonFactory(Muon, lr=0.02, adam_lr=1e-3))
    parts = {"transformer": {"qkv": 3, "gate_up": 2}, "mamba": {"project": 5}}[core]
    for name, rows in muon.items():
        parameter = policy.get_parameter(name)
        assert sum(rows) == parameter.shape[0]
        layer = name.split(".")[-2]
        assert len(rows) == (parts.get(layer, 1) if "core" in name else 1), name


def test_a_step_is_that_of_each_matrix_by_itself() -> None:
    """Two parameters of one shape, one of them two matrices, against the definition."""
    g = torch.manual_seed(1)
    weights = [nn.Parameter(torch.randn(4, 6, generator=g)), nn.Parameter(torch.randn(4, 3, 2))]
    weights.append(nn.Parameter(torch.randn(8, 6, generator=g)))
    rows = [[4], [4], [4, 4]]
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.5, "momentum": 0.9}
    optimizer = Muon([{"params": weights, "rows": rows}], **options)
    expected = [weight.detach().clone() for weight in weights]
    momenta = [torch.zeros_like(weight) for weight in weights]
    for _ in range(3):
        for index, weight in enumerate(weights):
            weight.grad = torch.randn(weight.shape, generator=g)
            momenta[index] = 0.9 * momenta[index] + 0.1 * weight.grad
            ahead = (0.9 * momenta[index] + 0.1 * weight.grad).flatten(1)
            parts = [by_singular_values(part, 5) for part in ahead.split(rows[index])]
            step = torch.cat(parts).view(weight.shape)
            expected[index] = expected[index] * (1 - 0.1 * 0.5) - 0.1 * step
        optimizer.step()
    for weight, wanted in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.detach(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_rest_is_adamw(decay: float) -> None:
    ours, theirs = small_policy().double(), small_policy().double()
    groups: list[Any] = [{"params": list(ours.parameters()), "rows": None}]
    options: dict[str, Any] = {"lr": 1e-2, "weight_decay": decay, "betas": (0.9, 0.95), "eps": 1e-8}
    pairs: list[Any] = [(ours, Muon(groups, **options))]
    pairs += [(theirs, torch.optim.AdamW(theirs.parameters(), **options))]
    for step in range(3):
        for policy, optimizer in pairs:
            batch = random_batch(3, 2, seed=step)
            policy(batch, policy.initial_state(2))[0].square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter, theirs.get_parameter(name))


def test_cautious_decay_only_helps_a_step() -> None:
    weight = nn.Parameter(torch.tensor([[2.0, -2.0]]))
    weight.grad = torch.tensor([[1.0, 1.0]])
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": 1.0, "cautious": True}
    Muon([{"params": [weight], "rows": None}], **options).step()
    torch.testing.assert_close(weight.detach(), torch.tensor([[2 - 0.2 - 0.1, -2 - 0.1]]))


def test_rates_follow_the_schedule_by_role() -> None:
    policy, factory = small_policy(), MuonFactory(Muon, lr=0.02, adam_lr=1e-3)
    optimizer = factory(policy)
    factory.set_rate(optimizer, 0.5)
    rates = {group["rows"] is None: group["lr"] for group in optimizer.param_groups}
    assert rates == {False: 0.01, True: 5e-4}


def test_under_mup_the_rest_has_rates_by_width_and_matrices_have_one() -> None:
    policy = small_policy()
    base = {"encoder": {"width": 8, "map_width": 8}, "core": {"width": 8}}
    options: dict[str, Any] = {"weight_decay": 0.1, "mup": True, "base": base}
    factory = MuonFactory(Muon, 0.02, 1e-3, multipliers={"embeddings": 3.0}, **options)
    plain, _ = names(policy, MuonFactory(Muon, lr=0.02, adam_lr=1e-3))
    assert names(policy, factory)[0] == plain
    optimizer = factory(policy)
    factory.set_rate(optimizer, 0.5)
    name_of = {id(parameter): name for name, parameter in policy.named_parameters()}
    rates = {name_of[id(p)]: g["lr"] for g in optimizer.param_groups for p in g["params"]}
    decays = [g["lr"] * g["weight_decay"] for g in optimizer.param_groups if g["rows"] is None]
    assert {rates[name] for name in plain} == {0.01}
    assert rates["policy.weight"] == rates["baseline.weight"] == pytest.approx(0.5e-3 / 2)
    assert rates["encoder.chars.weight"] == pytest.approx(1.5e-3)
    assert rates["core.lstm.bias_hh_l0"] == rates["encoder.message.bias"] == 0.5e-3
    assert sorted(decays)[-1] == pytest.approx(0.5e-3 * 0.1)
    assert all(decay in (0, pytest.approx(0.5e-3 * 0.1)) for decay in decays)


def test_flops_of_a_step_are_stated() -> None:
    policy, factory = small_policy(), MuonFactory(Muon, lr=0.02, adam_lr=1e-3, iterations=2)
    expected = 0
    for group in factory.groups(policy):
        for parameter, rows in zip(group["params"], group["rows"] or [], strict=False):
            expected += sum(orthogonalise_flops(r, parameter[0].numel(), 2) for r in rows)
    assert factory.flops_per_step(policy) == expected > 0


def test_what_it_was_not_derived_for_is_refused() -> None:
    with pytest.raises(InputError, match=r"optimizer=muon: not with trainer=fsdp"):
        MuonFactory(Muon, lr=0.02, adam_lr=1e-3).check_sharded()
    policy, factory = small_policy(), MuonFactory(Muon, lr=0.02, adam_lr=1e-3)
    saved = copy.deepcopy(factory(policy).state_dict())
    MuonFactory(Muon, lr=0.01, adam_lr=2e-3).check_saved(policy, saved, "run.ckpt")
    with pytest.raises(InputError, match="another optimizer="):
        MuonFactory(Muon, 0.02, 1e-3, weight_decay=0.1).check_saved(policy, saved, "run.ckpt")


def test_a_run_resumes_bit_exactly(tiny_shards: Path, tmp_path: Path) -> None:
    more = ["optimizer=muon", "optimizer.weight_decay=0.1", "flops_budget=1e18"]
    ends = train_in_parts(tiny_shards, tmp_path, *UNCOMPARED, *more)
    whole, parts = map(read_checkpoint, ends)
    for part in COMPARED:
        assert_same(parts[part], whole[part], part)
    rows = [json.loads((end.parents[1] / "milestones.json").read_text())[-1] for end in ends]
    assert rows[0]["val/nats"] == rows[1]["val/nats"]
    assert min(row["cpu_seconds"] for row in rows) > 0
