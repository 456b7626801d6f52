"""muP: roles by shape, the base's own values, and activations that do not grow with width."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from agent_scaling.policies.policy import Policy
from agent_scaling.policies.sizes import make_policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.optim.mup import scale_columns, scalings
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
    "mamba": {
        "_target_": "agent_scaling.policies.cores.mamba.MambaCore",
        "layers": 2,
        "state_size": 8,
        "head_dim": 16,
    },
}


def widths(times: int) -> dict[str, dict[str, Any]]:
    width = BASE * times
    encoder = {"width": width, "status_width": 2 * width, "map_width": width}
    scales = {"message_width": 4 * times, "channel_scale": times / 8, "crop_scale": times / 4}
    return {"encoder": {**encoder, **scales}, "core": {"width": width}}


def policy(times: int, core: str = "lstm", seed: int = 0) -> Policy:
    torch.manual_seed(seed)
    parts = widths(times)
    encoder = {
        "_target_": "agent_scaling.policies.encoders.nethack.NetHackEncoder",
        **parts["encoder"],
    }
    encoder |= {"blocks": 2, "residual_blocks": 1}
    return make_policy(encoder=encoder, core={**CORES[core], "_partial_": True, **parts["core"]})


def factory(mup: bool, lr: float = 1e-2) -> OptimizerFactory:
    return OptimizerFactory(torch.optim.Adam, lr, mup=mup, base=widths(1))


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


@pytest.mark.parametrize("core", ["transformer", "mamba"])
def test_roles_of_cores(core: str) -> None:
    found = scalings(policy(4, core), policy(1, core))
    for name, scaling in found.items():
        if name.startswith("core."):
            hidden = name.endswith("weight") and "norm" not in name and ".conv." not in name
            expected = "hidden" if hidden else "input" if name.endswith("conv.weight") else "vector"
            assert scaling.role == expected, name
    drawn = [f"core.blocks.0.{name}" for name in ("step_bias", "log_rate", "skip", "conv.bias")]
    for name in (n for n in drawn if n in found):
        assert found[name].init == 1, name


@pytest.mark.parametrize("core", CORES)
def test_at_base_widths_nothing_changes(core: str) -> None:
    plain, scaled = policy(1, core), policy(1, core)
    factory(mup=True).initialise(scaled)
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, scaled.get_parameter(name)), name
    (group,) = factory(mup=True).groups(scaled)
    assert group["lr_scale"] == 1


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


def logit_change(times: int, core: str, mup: bool) -> float:
    """Root mean square of what three steps of Adam do to the logits; mean over two seeds."""
    found = 0.0
    for seed in (0, 1):
        made = policy(times, core, seed)
        make = factory(mup)
        make.initialise(made)
        optimizer, batch = make(made), random_batch(4, 4, seed=1)

        def logits(made: Policy = made) -> torch.Tensor:
            return made(random_batch(4, 4, seed=1), made.initial_state(4))[0]

        before = logits().detach()
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(logits().flatten(0, 1), batch.action_TB.flatten()).backward()
            optimizer.step()
        found += float((logits().detach() - before).square().mean().sqrt()) / 2
    return found


@pytest.mark.parametrize("core", CORES)
def test_updates_of_the_logits_do_not_grow_with_width(core: str) -> None:
    """The coordinate check of the paper's §D.1, over four times the width."""
    standard, mup = (logit_change(8, core, on) / logit_change(2, core, on) for on in (False, True))
    assert standard > 2
    assert 0.5 < mup < 1.25


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
