"""``trainer.compile``: the same losses, one graph a shape, wherever games open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo import config as dynamo
from torch._inductor import config as inductor
from torch.nn.utils import get_total_norm
from torch.testing import assert_close

from agent_scaling.data.batch import Batch
from agent_scaling.envs.screens import SIDE
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.cores.causal_conv import TAPS, convolve, convolve_masked
from agent_scaling.policies.cores.lstm import LSTMCore
from agent_scaling.policies.cores.mamba import MambaCore
from agent_scaling.policies.cores.mamba1 import Mamba1Core
from agent_scaling.policies.cores.none import NoCore
from agent_scaling.policies.cores.transformer import TransformerCore
from agent_scaling.policies.encoders.atari import AtariCNN, AtariProfiles, AtariResNet
from agent_scaling.policies.encoders.compact import CompactEncoder
from agent_scaling.policies.encoders.nethack import NetHackEncoder
from agent_scaling.policies.encoders.release2 import Release2Encoder
from agent_scaling.policies.executed_flops import hardware_flops
from agent_scaling.policies.flops import BUDGETS, flops_per_frame
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.device.compilation import split
from agent_scaling.training.device.precision import halve
from agent_scaling.training.modules.base import PolicyModule
from agent_scaling.training.modules.bc import BehaviouralCloning
from agent_scaling.training.modules.impala import Impala
from agent_scaling.training.optim.optimizer import OptimizerFactory
from tests.helpers.policies import SMALL, random_batch
from tests.helpers.runs import UNCOMPARED, composed, train
from tests.helpers.unrolls import random_unroll

# The compiler hides this warning by a filter, which pytest's own precedes.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")

STEPS, LANES = 7, 3
OPENINGS = (0.0, 0.1, 0.4, 0.1, 0.0)
"""Share of frames that open a game, window by window."""
CORES: dict[str, Callable[[int], Any]] = {
    "lstm": lambda width: LSTMCore(width, 16),
    "transformer": lambda width: TransformerCore(width, 16, 1, context=5, head_dim=8),
    "mamba": lambda width: MambaCore(width, 16, 1, state_size=8, head_dim=8),
    "mamba1": lambda width: Mamba1Core(width, 16, 1, state_size=4),
    "none": NoCore,
}
ENCODERS: dict[str, Callable[[], Any]] = {
    "paper": lambda: NetHackEncoder(**{**SMALL, "blocks": 1, "residual_layers": 1, "frames": 2}),
    "ours": lambda: CompactEncoder(16, 2, 3, hidden=16, text_rows=32, text_width=4),
    "release2": lambda: Release2Encoder(16, 4, 16, True, 4, 2, 8, channels=(2, 4), embedding=4),
    "cnn": lambda: AtariCNN(2),
    "resnet": lambda: AtariResNet(8, 0.25),
    "profiles": lambda: AtariProfiles(8, hidden=8),
}
PAIRS = [("lstm", "paper"), ("lstm", "ours")]
PAIRS += [(core, "cnn") for core in CORES if core != "lstm"]
PAIRS += [("none", name) for name in ("release2", "resnet", "profiles")]


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """Nothing compiled before is found again, and another graph of a part is an error."""
    torch.compiler.reset()
    with dynamo.patch(error_on_recompile=True):
        yield
    torch.compiler.reset()


def policy(core: str, encoder: str = "paper") -> Policy:
    torch.manual_seed(0)
    return Policy(ENCODERS[encoder](), CORES[core])


def trained(module: PolicyModule, batches: list[Batch], half: bool = False) -> list[float]:
    """The loss of each step and its gradients' norm: a fresh policy's loss hardly says what its
    parts answer. ``half``: by copies of the weights in bfloat16."""
    module.count = lambda frames, skipped=0: None  # type: ignore[method-assign]
    optimizer = torch.optim.SGD(module.policy.parameters(), 0.05)
    seen = []
    for index, batch in enumerate(batches):
        replaced = halve(module.policy) if half else []
        loss = module.training_step(batch, index)
        optimizer.zero_grad()
        loss.backward()
        for owner, name, parameter in replaced:
            owner._parameters[name] = parameter
        norm = get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
        seen += [float(loss.detach()), float(norm)]
        optimizer.step()
    return seen


def windows() -> list[Batch]:
    drawn = [random_batch(STEPS, LANES, seed, share) for seed, share in enumerate(OPENINGS)]
    for window in drawn:
        window.frame_TBHW = window.chars_TBHW[..., :1, :1] * torch.ones(
            SIDE, SIDE, dtype=torch.uint8
        )
    return drawn


def cloning(core: str, encoder: str = "paper") -> BehaviouralCloning:
    return BehaviouralCloning(policy(core, encoder), OptimizerFactory(torch.optim.Adam, 1e-3))


@pytest.mark.parametrize(("core", "encoder"), PAIRS)
def test_cloning_is_the_same_without_a_break_or_another_graph(core: str, encoder: str) -> None:
    eager, fast = cloning(core, encoder), cloning(core, encoder)
    costs = [flops_per_frame(fast.policy, name) for name in BUDGETS]
    fast.compile_parts("aot_eager")
    assert trained(fast, windows()) == pytest.approx(trained(eager, windows()), rel=1e-4)
    assert list(fast.policy.state_dict()) == list(eager.policy.state_dict())
    assert [flops_per_frame(fast.policy, name) for name in BUDGETS] == costs
    assert hardware_flops(fast.policy, 4, 2) == hardware_flops(eager.policy, 4, 2)


@pytest.mark.parametrize(("core", "encoder"), [("transformer", "ours"), ("mamba", "cnn")])
def test_new_copies_of_the_weights_in_bfloat16_need_no_other_graph(core: str, encoder: str) -> None:
    eager, fast = cloning(core, encoder), cloning(core, encoder)
    fast.compile_parts("aot_eager")
    losses = trained(fast, windows(), half=True)[::2]
    assert losses == pytest.approx(trained(eager, windows(), half=True)[::2], rel=1e-2)


@pytest.mark.parametrize(
    ("core", "encoder"), [("lstm", "paper"), ("transformer", "ours"), ("mamba", "ours")]
)
def test_the_learner_is_the_same(core: str, encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Impala, "_totals", lambda *_: {})  # it asks the trainer
    monkeypatch.setattr(Impala, "_work", lambda *_: None)
    losses = []
    for backend in (None, "aot_eager"):
        module = Impala(policy(core, encoder), OptimizerFactory(torch.optim.Adam, 1e-3))
        unrolls = [
            random_unroll(module.policy, STEPS, LANES, seed, share)
            for seed, share in enumerate(OPENINGS)
        ]
        if backend:
            module.compile_parts(backend)
        losses.append(trained(module, unrolls))
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_the_compiler_of_users_makes_the_same_losses() -> None:
    """Of one graph a part, because it takes long on a CPU; of the instructions that the processor
    names, without a trial of each by the C++ compiler."""
    eager, fast = cloning("lstm", "ours"), cloning("lstm", "ours")
    fast.compile_parts("inductor")
    with inductor.patch({"cpp.vec_isa_ok": True}):
        losses = trained(fast, windows()[:2])
    assert losses == pytest.approx(trained(eager, windows()[:2]), rel=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_the_masked_convolution_is_the_cut_one(steps: int) -> None:
    torch.manual_seed(steps)
    conv = nn.Conv1d(5, 5, TAPS, groups=5)
    batch = random_batch(steps, 4, seed=steps, openings=0.4)
    given, tail = torch.randn(steps, 4, 5), torch.randn(4, 5, TAPS - 1)
    expected: tuple[Tensor, Tensor] = convolve(conv, given, batch, tail)
    assert_close(convolve_masked(conv, given, batch.first_TB, tail), expected)


def test_a_compiled_run_resumes_where_it_stopped(tiny_shards: Path, tmp_path: Path) -> None:
    """Evaluation between, with windows of its own, compiles nothing."""
    small = [*UNCOMPARED, "trainer.compile=aot_eager", "data.val_frames=64", "milestones=[1e9]"]
    for name, budgets in {"whole": [2e9], "parts": [1e9, 2e9]}.items():
        for index, budget in enumerate(budgets):
            more = [*small, f"flops_budget={budget}"]
            train(tiny_shards, tmp_path / name, *more, *(["ckpt_path=last"] if index else []))
    found = {name: tmp_path / name / "checkpoints" / "last.ckpt" for name in ("whole", "parts")}
    whole, parts = map(read_checkpoint, found.values())
    assert whole["frames"] == parts["frames"]
    for name, weight in whole["state_dict"].items():
        assert torch.equal(weight, parts["state_dict"][name]), name


def test_a_backend_that_is_none_is_refused() -> None:
    trainer = composed("train", ["trainer.compile=fast"]).trainer
    with pytest.raises(InputError, match="=fast: must be true or false"):
        split(trainer)
