"""muP: roles by shape, the base's own values, and activations that do not grow with width."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from agent_scaling.data.batch import Batch
from agent_scaling.policies.compose import make_policy as composed
from agent_scaling.policies.policy import Policy
from agent_scaling.policies.sizes import make_policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.optim.muon import Muon
from agent_scaling.training.optim.muon_factory import MuonFactory
from agent_scaling.training.optim.mup import Scaling, scale_columns, scalings
from agent_scaling.training.optim.optimizer import OptimizerFactory
from tests.helpers.policies import random_batch

BASE = 16
CORES: dict[str, dict[str, Any]] = {
    "lstm": {"_target_": "agent_scaling.policies.cores.lstm.LSTMCore"},
    "transformer": {
        "_target_": "agent_scaling.policies.cores.transformer.TransformerCore",
        "layers": 2,
        "context": 8,
        "head_dim": 16,
    },
    "mamba1": {
        "_target_": "agent_scaling.policies.cores.mamba1.Mamba1Core",
        "layers": 2,
        "state_size": 8,
    },
    "mamba": {
        "_target_": "agent_scaling.policies.cores.mamba.MambaCore",
        "layers": 2,
        "state_size": 8,
        "head_dim": 16,
    },
}


def widths(times: int, compact: bool = False) -> dict[str, dict[str, Any]]:
    width = BASE * times
    if compact:
        encoder = {"width": width, "hidden": 4 * width, "text_width": width // 2, "cell": 2 * times}
        return {"encoder": encoder, "core": {"width": width}}
    encoder = {"width": width, "status_width": 2 * width, "map_width": width}
    scales = {"message_width": 4 * times, "channel_scale": times / 8, "crop_scale": times / 4}
    return {"encoder": {**encoder, **scales}, "core": {"width": width}}


def policy(times: int, core: str = "lstm", seed: int = 0) -> Policy:
    torch.manual_seed(seed)
    parts = widths(times, core == "compact")
    if core == "compact":
        changes = [f"policy.{part}.{key}={x}" for part in parts for key, x in parts[part].items()]
        return composed("policy=compact", "policy.encoder.near=3", *changes)
    encoder = {
        "_target_": "agent_scaling.policies.encoders.nethack.NetHackEncoder",
        **parts["encoder"],
    }
    encoder |= {"blocks": 2, "residual_blocks": 1}
    return make_policy(encoder=encoder, core={**CORES[core], "_partial_": True, **parts["core"]})


def factory(
    mup: bool, core: str = "lstm", muon: bool = False, **multipliers: float
) -> OptimizerFactory:
    base = widths(1, core == "compact")
    options: dict[str, Any] = {"mup": mup, "base": base, "multipliers": multipliers}
    if muon:
        return MuonFactory(Muon, 0.02, 1e-2, **options)
    return OptimizerFactory(torch.optim.Adam, 1e-2, **options)


def test_roles_of_every_kind_of_layer() -> None:
    found = scalings(policy(4), policy(1))
    roles = {
        "encoder.chars.weight": "input",  # its width stays
        "encoder.message.table": "input",  # a bag of embeddings
        "encoder.message.bias": "vector",
        "encoder.message.out.weight": "hidden",
        "encoder.status.convs.0.weight": "input",
        "encoder.map.blocks.0.0.weight": "input",  # from embeddings of a fixed width
        "encoder.map.blocks.1.0.weight": "hidden",
        "encoder.map.blocks.1.2.net.0.weight": "hidden",
        "encoder.map.blocks.1.2.net.1.weight": "vector",  # BatchNorm
        "encoder.fc.2.weight": "hidden",
        "encoder.fc.2.bias": "vector",
        "core.lstm.weight_ih_l0": "hidden",
        "core.lstm.weight_hh_l0": "hidden",
        "core.lstm.bias_hh_l0": "vector",
        "policy.weight": "output",
        "policy.bias": "vector",
        "baseline.weight": "output",
    }
    assert {name: found[name].role for name in roles} == roles
    for name, scaling in found.items():
        if scaling.role in ("vector", "input"):
            assert scaling.lr == 1, name
    assert found["encoder.fc.2.weight"].lr == found["policy.weight"].lr == 1 / 4
    # torch draws ±1/√fan_in: right for hidden weights, too wide for the readout, narrow for biases.
    assert found["encoder.fc.2.weight"].init == pytest.approx(1)
    assert found["policy.weight"].init == pytest.approx(1 / 2)
    assert found["encoder.fc.2.bias"].init == pytest.approx(2)
    assert found["core.lstm.bias_hh_l0"].init == pytest.approx(2)
    assert found["encoder.message.bias"].init == found["encoder.message.table"].init == 1


@pytest.mark.parametrize("core", ["transformer", "mamba", "mamba1"])
def test_roles_of_cores(core: str) -> None:
    found = scalings(policy(4, core), policy(1, core))
    for name, scaling in found.items():
        if name.startswith("core."):
            hidden = name.endswith("weight") and "norm" not in name and ".conv." not in name
            expected = "hidden" if hidden else "input" if name.endswith("conv.weight") else "vector"
            assert scaling.role == expected, name
    drawn = ("step_bias", "step.bias", "log_rate", "skip", "conv.bias")
    names = [f"core.blocks.0.{name}" for name in drawn]
    for name in (n for n in names if n in found):
        assert (found[name].init, found[name].lr) == (1, 1), name


def test_a_table_that_gets_more_rows_is_no_wider() -> None:
    """A frame reads as many of them as before."""
    made, small = (composed("policy=compact", f"policy.params={n}") for n in (200_000, 20_000))
    found = scalings(made, small)
    for name in ("message.table", "status.table", "recent.table.weight", "cells.chars"):
        assert found[f"encoder.{name}"] == Scaling("input"), name


@pytest.mark.parametrize("core", CORES)
def test_at_base_widths_only_the_multipliers_act(core: str) -> None:
    plain, scaled = policy(1, core), policy(1, core)
    factory(mup=True).initialise(scaled)
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, scaled.get_parameter(name)), name
    (group,) = factory(mup=True).groups(scaled)
    assert group["lr_scale"] == 1


def test_multipliers_act_by_part_at_all_widths() -> None:
    given = {"readout": 3.0, "embeddings": 5.0, "hidden": 7.0}
    one = scalings(policy(4), policy(1))
    for times in (1, 4):
        made = policy(times)
        found = scalings(made, policy(1), given)
        expected = {
            "policy.weight": 3 / times,
            "baseline.weight": 3 / times,
            "encoder.chars.weight": 5,
            "encoder.message.table": 5,
            "encoder.status.convs.0.weight": 5,  # reads raw inputs
            "encoder.fc.0.weight": 7,  # and its columns' factors
            "encoder.fc.2.weight": 7 / times,
            "encoder.map.blocks.0.0.weight": 7,
            "core.lstm.weight_hh_l0": 7 / times,
            "core.lstm.bias_hh_l0": 1,
            "policy.bias": 1,
        }
        assert {name: found[name].lr for name in expected} == expected
    assert found["encoder.fc.0.weight"].columns is not None
    assert torch.equal(found["encoder.fc.0.weight"].columns, one["encoder.fc.0.weight"].columns)
    groups = factory(True, **given).groups(made)
    assert {group["lr_scale"] for group in groups} == {3 / 4, 5, 7, 7 / 4, 1}


def test_vectors_side_by_side_are_scaled_each_by_its_own_growth() -> None:
    found = scalings(policy(4), policy(1))["encoder.fc.0.weight"]
    made = policy(4)
    widths = made.encoder.joins["fc.0"]
    assert sum(widths) == made.encoder.fc[0].in_features
    assert found.lr == 1
    assert found.columns is not None
    columns = found.columns.split(widths)
    for part in columns[:3]:  # message, status, map
        assert set(part.tolist()) == {1 / 4}
    assert columns[3].tolist() == [1] * 121  # the previous action
    assert isinstance(found.init, torch.Tensor)
    # torch drew all columns from ±1/√fan_in; a fixed one is to have the base's spread.
    drawn = (sum(widths) / policy(1).encoder.fc[0].in_features) ** -0.5
    torch.testing.assert_close(found.init * drawn, found.columns.sqrt())


def test_steps_are_scaled_by_column() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 3))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scale_columns(optimizer, [(weight, torch.tensor([1.0, 0.5, 0.25]))])
    weight.grad = torch.tensor([[1.0, 2.0, 4.0], [0.0, -2.0, 1.0]])
    optimizer.step()
    torch.testing.assert_close(weight.data, torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 0.75]]))


def test_decoupled_decay_is_that_of_no_column() -> None:
    weights = [torch.nn.Parameter(torch.ones(1, 2)) for _ in range(2)]
    steps = []
    for weight, decay in zip(weights, (0.0, 0.5), strict=True):
        optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=decay)
        scale_columns(optimizer, [(weight, torch.tensor([1.0, 0.25]))])
        weight.grad = torch.tensor([[1.0, 1.0]])
        optimizer.step()
        steps.append(1 - weight.detach())
    torch.testing.assert_close(steps[0], torch.tensor([[0.1, 0.025]]))
    torch.testing.assert_close(steps[1] - steps[0], torch.full((1, 2), 0.1 * 0.5))


PLACES = ("encoder", "core", "logits")


def changes(times: int, core: str, mup: bool, muon: bool = False) -> torch.Tensor:
    """Root mean squares of what three steps do to the activations at :data:`PLACES`; mean over two
    seeds."""
    found = torch.zeros(len(PLACES))
    for seed in (0, 1):
        made = policy(times, core, seed)
        # Else, in so few steps, random initial heads count, whose share shrinks with the width.
        make = factory(mup, core, muon, readout=4.0)
        make.initialise(made)
        optimizer, batch = make(made), random_batch(4, 4, seed=1)

        def activations(made: Policy = made, batch: Batch = batch) -> list[torch.Tensor]:
            kept: list[torch.Tensor] = []
            hooks = [
                part.register_forward_hook(lambda _, __, output: kept.append(output[0]))
                for part in (made.encoder, made.core)
            ]
            kept.append(made(batch, made.initial_state(4))[0])
            for hook in hooks:
                hook.remove()
            return kept

        before = [activation.detach() for activation in activations()]
        for _ in range(3):
            optimizer.zero_grad()
            logits = activations()[-1].flatten(0, 1)
            F.cross_entropy(logits, batch.action_TB.flatten()).backward()
            optimizer.step()
        after = [activation.detach() for activation in activations()]
        pairs = zip(before, after, strict=True)
        found += torch.stack([(b - a).square().mean().sqrt() for a, b in pairs]) / 2
    return found


CHECKED = [(core, False) for core in (*CORES, "compact")]
CHECKED.append(("compact", True))


@pytest.mark.parametrize(("core", "muon"), CHECKED)
def test_what_steps_do_to_activations_does_not_grow_with_width(core: str, muon: bool) -> None:
    """The coordinate check of the paper's §D.1: slopes over log(width), from twice the base's
    width to eight times. Updates that vanish are as wrong as those that grow."""
    slopes = {}
    for mup in (False, True):
        narrow, wide = (changes(times, core, mup, muon) for times in (2, 8))
        slopes[mup] = dict(zip(PLACES, ((wide / narrow).log() / math.log(4)).tolist(), strict=True))
    assert slopes[False]["logits"] > 0.4
    for place, slope in slopes[True].items():
        assert -0.25 < slope < 0.25, place


def test_base_by_parameters() -> None:
    made = make_policy(
        params=2e5,
        encoder={"_target_": "agent_scaling.policies.encoders.nethack.NetHackEncoder"},
        core={**CORES["lstm"], "_partial_": True},
    )
    same = OptimizerFactory(torch.optim.Adam, 1e-3, mup=True, base={"params": 2e5})
    assert [group["lr_scale"] for group in same.groups(made)] == [1]
    less = OptimizerFactory(torch.optim.Adam, 1e-3, mup=True, base={"params": 1e5})
    assert min(group["lr_scale"] for group in less.groups(made)) < 0.8


def test_only_optimisers_that_it_is_derived_for() -> None:
    for kind in (torch.optim.SGD, torch.optim.RMSprop):
        OptimizerFactory(kind, 1e-3)
        with pytest.raises(InputError, match=rf"derived for Adam, and not for {kind.__name__};"):
            OptimizerFactory(kind, 1e-3, mup=True, base=widths(1))
    OptimizerFactory(torch.optim.AdamW, 1e-3, mup=True, base=widths(1))


def test_multipliers_that_cannot_be() -> None:
    for given, said in (({"output": 2.0}, "readout, embeddings, hidden"), ({"hidden": 0.0}, "=0")):
        with pytest.raises(InputError, match=rf"optimizer\.multipliers\..*{said}"):
            OptimizerFactory(torch.optim.Adam, 1e-3, multipliers=given)


def test_bases_that_cannot_be() -> None:
    with pytest.raises(InputError, match=r"optimizer\.base"):
        OptimizerFactory(torch.optim.Adam, 1e-3, mup=True)
    no_message = {**widths(1), "encoder": {"message_width": 0}}
    with pytest.raises(InputError, match=r"no encoder\.message\.table"):
        OptimizerFactory(torch.optim.Adam, 1e-3, mup=True, base=no_message).groups(policy(2))
    wide, narrow = policy(8, "transformer"), policy(8, "transformer")
    wide.core.blocks[0].head_width = 64
    with pytest.raises(InputError, match=r"policy\.core\.head_dim=16"):
        scalings(wide, narrow)
