"""An encoder whose activations the backward pass computes again is the same encoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from agent_scaling.data.batch import blank_batch
from agent_scaling.policies.compose import make_policy
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.device.compilation import compile_module
from agent_scaling.training.modules.bc import BehaviouralCloning
from agent_scaling.training.modules.impala import freeze_norms
from agent_scaling.training.optim.optimizer import OptimizerFactory
from tests.helpers.policies import random_batch

STEPS, LANES = 5, 3
NETWORKS = {
    "resnet_lstm": ["policy.params=3e4", "policy.encoder.frames=2"],
    "compact": ["policy.params=3e4", "policy.encoder.inventory=true", "policy.encoder.far=true"],
    "release2": ["policy.params=3e5", "policy.core.layers=1"],
    "atari_cnn": ["policy.encoder.width=2", "policy.num_actions=4"],
    "atari_resnet": ["policy.params=2e4", "policy.num_actions=4"],
}


def pair(policy: str) -> tuple[Policy, Policy]:
    """The policy as it is, and with the same weights and its encoder computed again."""
    torch.manual_seed(0)
    plain = make_policy(f"policy={policy}", *NETWORKS[policy])
    again = make_policy(f"policy={policy}", *NETWORKS[policy], "policy.encoder.checkpoint=true")
    again.load_state_dict(plain.state_dict())
    return plain.double(), again.double()


def learnt(policy: Policy) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor], int]:
    """Logits, gradients, buffers behind the step, and bytes that the forward pass keeps."""
    batch, kept = random_batch(STEPS, LANES, 0, 0.2), 0
    generator = torch.Generator().manual_seed(1)
    frames = blank_batch(STEPS, LANES).frame_TBHW
    assert frames is not None
    batch.frame_TBHW = torch.randint(0, 256, frames.shape, generator=generator).to(torch.uint8)

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    batch.prev_action_TB %= policy.num_actions
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits_TBA, _, _ = policy(batch, policy.initial_state(LANES))
    F.cross_entropy(logits_TBA.flatten(0, 1), batch.prev_action_TB.flatten()).backward()
    gradients = {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}
    return logits_TBA.detach(), gradients, dict(policy.named_buffers()), kept


@pytest.mark.parametrize("frozen", [False, True], ids=["", "norms-frozen"])
@pytest.mark.parametrize("policy", NETWORKS)
def test_outputs_gradients_and_statistics_are_the_same(policy: str, frozen: bool) -> None:
    plain, again = pair(policy)
    if frozen:  # as IMPALA's learner has them
        freeze_norms(plain)
        freeze_norms(again)
    expected, found = learnt(plain), learnt(again)
    assert_close(found[0], expected[0])
    assert_close(found[1], expected[1])
    assert_close(found[2], expected[2])
    assert found[3] < 0.7 * expected[3]


def test_nothing_is_computed_again_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, again = pair("resnet_lstm")
    calls: list[Any] = []
    again.encoder.map.register_forward_hook(lambda *_: calls.append(1))
    batch = random_batch(1, LANES, 0, 0.0)
    with torch.no_grad():
        answers = [made.eval()(batch, made.initial_state(LANES))[0] for made in (plain, again)]
    assert calls
    assert_close(*answers)


def test_pieces_of_windows_and_stages_are_not_asked_for_together() -> None:
    with pytest.raises(InputError, match="both compute the encoder again; set the first to false"):
        make_policy("policy.encoder.checkpoint=true", "policy.recompute=8")


def test_a_compiled_encoder_cannot_compute_batch_norm_again() -> None:
    class Trainer:
        strategy = None

    def compiled(policy: str) -> Policy:
        module = BehaviouralCloning(pair(policy)[1], OptimizerFactory(torch.optim.Adam, 1e-3))
        compile_module(module, Trainer(), "eager")  # type: ignore[arg-type]
        return module.policy

    assert any(isinstance(part, nn.BatchNorm2d) for part in pair("resnet_lstm")[1].modules())
    with pytest.raises(InputError, match=r"encoder\.checkpoint=true: the compiler cannot"):
        compiled("resnet_lstm")
    fast, plain = compiled("compact"), pair("compact")[0]
    expected, found = learnt(plain), learnt(fast)
    assert_close(found[0], expected[0])
    assert_close(found[1], expected[1])
    torch.compiler.reset()
