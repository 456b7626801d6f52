"""A long window that is run in pieces is the same window."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from agent_scaling.policies.compose import make_policy
from agent_scaling.policies.cores import transformer
from agent_scaling.policies.cores.transformer import TransformerCore, attend
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from tests.helpers.policies import random_batch

STEPS, LANES = 11, 2
CORES = ["lstm", "mamba", "mamba1", "transformer", "none"]


def small(core: str) -> Policy:
    torch.manual_seed(0)
    own = {"transformer": ["policy.core.context=5"], "none": [], "lstm": []}.get(core, [])
    layers = [] if core == "none" else ["policy.core.layers=2"]
    made = make_policy(
        "policy=compact", "policy.params=60_000", f"policy/core={core}", *own, *layers
    )
    return made.double()


def learnt(policy: Policy, seed: int = 3) -> tuple[Tensor, list[Tensor], tuple[Tensor, ...]]:
    """Logits, the gradients of a loss, and the state after a window."""
    batch = random_batch(STEPS, LANES, seed, 0.2)
    policy.zero_grad()
    logits, _, state = policy(batch, policy.initial_state(LANES))
    F.cross_entropy(logits.flatten(0, 1), batch.prev_action_TB.flatten()).backward()
    gradients = [p.grad.clone() for p in policy.parameters() if p.grad is not None]
    return logits.detach(), gradients, state


@pytest.mark.parametrize("core", CORES)
def test_pieces_give_the_window_s_outputs_gradients_and_state(
    core: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small(core)
    expected = learnt(whole)
    monkeypatch.setattr(transformer, "QUERIES", 3)
    for length in (1, 4, 10, STEPS):
        whole.recompute = length
        found = learnt(whole)
        assert_close(found[0], expected[0])
        assert_close(found[1], expected[1])
        assert_close(found[2], expected[2])


def test_batch_norm_counts_each_piece_once() -> None:
    torch.manual_seed(0)
    made = make_policy(
        "policy.encoder.width=16", "policy.encoder.map_width=16", "policy.encoder.blocks=2",
        "policy.encoder.channel_scale=0.1", "policy.recompute=6",
    )  # fmt: skip
    norms = [module for module in made.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    batch = random_batch(12, LANES, 0, 0.0)
    state = made.encoder.initial_state(LANES)
    with torch.no_grad():
        for begin in (0, 6):
            _, state = made.encoder(batch.between(begin, begin + 6), state)
    expected = [(norm.running_mean.clone(), int(norm.num_batches_tracked)) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    made(batch, made.initial_state(LANES))[0].sum().backward()
    for norm, (mean, count) in zip(norms, expected, strict=True):
        assert_close(norm.running_mean, mean)
        assert int(norm.num_batches_tracked) == count == 2


def test_only_a_piece_s_activations_are_kept() -> None:
    """Elements that the forward pass saves for the backward pass, in one piece and in many."""

    def saved(policy: Policy) -> int:
        total = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            policy(random_batch(64, LANES, 0, 0.0), policy.initial_state(LANES))
        return total

    made = small("lstm")
    whole = saved(made)
    made.recompute = 8
    assert saved(made) < whole / 8


def test_attention_in_blocks_is_that_of_one_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(0)
    before, steps = 5, 23
    query = torch.randn(2, 3, steps, 4, generator=g, dtype=torch.float64)
    key, value = torch.randn(2, 2, 3, before + steps, 4, generator=g, dtype=torch.float64)
    game = torch.randint(0, 3, (2, before + steps), generator=g).sort(dim=1).values
    ago = torch.arange(before, before + steps)[:, None] - torch.arange(before + steps)
    mask = (ago >= 0) & (ago <= before) & (game[:, before:, None] == game[:, None])
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None])
    for block in (1, 4, 22, 23, 100):
        monkeypatch.setattr(transformer, "QUERIES", block)
        assert_close(attend(query, key, value, game[:, before:], game), expected)


def test_no_mask_is_as_large_as_the_window_s_square(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer, "QUERIES", 16)
    core, largest = TransformerCore(4, 8, 1, context=9, head_dim=8), 0
    own = transformer.near_attention

    def watched(*given: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, given[3].shape[1] * given[4].shape[1])
        return own(*given)

    monkeypatch.setattr(transformer, "near_attention", watched)
    core(torch.zeros(128, 1, 4), random_batch(128, 1, 0, 0.0), core.initial_state(1))
    assert largest == 16 * (16 + 8)


def test_a_length_below_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"policy\.recompute=0: must be at least 1"):
        make_policy("policy.recompute=0")
