"""V-trace against an independent implementation, the paper's sum, and what it must be equal to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agent_scaling.training.objectives.vtrace import VTrace, action_log_probs, vtrace

INFINITY = float("inf")
THRESHOLDS = {"clip1": (1.0, 1.0), "clip2": (2.0, 3.0), "noclip": (None, None)}


def drawn(seed: int, steps: int, lanes: int, ends: float = 0.2) -> dict[str, Tensor]:
    """Double precision, so that the order of a sum does not matter."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    alive_TB = (torch.rand(steps, lanes, generator=g) >= ends).double()
    return {
        "log_rhos_TB": normal(steps, lanes),
        "discounts_TB": 0.97 * alive_TB,
        "rewards_TB": normal(steps, lanes),
        "values_TB": normal(steps, lanes),
        "bootstrap_B": normal(lanes),
    }


def by_the_formula(
    given: dict[str, Tensor], clip_rho: float, clip_pg_rho: float, clip_c: float, lam: float
) -> VTrace:
    """Equation 1 with the paper's indices: s the state, t the step that is looked forward to."""
    rewards, gammas, values = given["rewards_TB"], given["discounts_TB"], given["values_TB"]
    steps, lanes = rewards.shape
    v = torch.cat([values, given["bootstrap_B"][None]])
    ratios = given["log_rhos_TB"].exp()
    targets = v.clone()
    for b in range(lanes):
        for s in range(steps):
            for t in range(s, steps):
                weight = 1.0
                for i in range(s, t):
                    weight *= float(gammas[i, b]) * lam * min(clip_c, float(ratios[i, b]))
                rho = min(clip_rho, float(ratios[t, b]))
                delta = rho * (rewards[t, b] + gammas[t, b] * v[t + 1, b] - v[t, b])
                targets[s, b] += weight * delta
    rhos = ratios.clamp(max=clip_pg_rho)
    advantages = rhos * (rewards + gammas * targets[1:] - values)
    return VTrace(targets[:-1], advantages)


def close(ours: VTrace, theirs: VTrace) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", THRESHOLDS)
def test_as_the_independent_implementation(reference: Path, name: str) -> None:
    kept = np.load(reference / "reference" / "vtrace_reference.npz")
    given = {key: torch.from_numpy(kept[key]) for key in kept.files}
    actions = given["actions"]
    log_rhos = action_log_probs(given["target_logits"], actions) - action_log_probs(
        given["behavior_logits"], actions
    )
    clip_rho, clip_pg_rho = THRESHOLDS[name]
    found = vtrace(
        log_rhos,
        given["discounts"],
        given["rewards"],
        given["values"],
        given["bootstrap_value"],
        clip_rho=clip_rho,
        clip_pg_rho=clip_pg_rho,
    )
    torch.testing.assert_close(found.vs_TB, given[f"{name}_vs"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        found.advantages_TB, given[f"{name}_pg_advantages"], rtol=1e-5, atol=1e-5
    )


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    steps=st.integers(1, 8),
    lanes=st.integers(1, 3),
    clip_rho=st.sampled_from([0.5, 1.0, 2.0, INFINITY]),
    clip_pg_rho=st.sampled_from([1.0, 3.0, INFINITY]),
    clip_c=st.sampled_from([0.5, 1.0, 2.0]),
    lam=st.sampled_from([0.0, 0.9, 1.0]),
)
def test_as_the_papers_sum(
    seed: int,
    steps: int,
    lanes: int,
    clip_rho: float,
    clip_pg_rho: float,
    clip_c: float,
    lam: float,
) -> None:
    given = drawn(seed, steps, lanes)
    ours = vtrace(**given, clip_rho=clip_rho, clip_pg_rho=clip_pg_rho, clip_c=clip_c, lam=lam)
    close(ours, by_the_formula(given, clip_rho, clip_pg_rho, clip_c, lam))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 12))
def test_on_policy_it_is_the_n_step_return(seed: int, steps: int) -> None:
    """Equation 2: with ρ = c = 1 the target is the discounted sum of rewards and the bootstrap."""
    given = drawn(seed, steps, 2)
    given["log_rhos_TB"] = torch.zeros(steps, 2, dtype=torch.float64)
    value, expected = given["bootstrap_B"], []
    for t in reversed(range(steps)):
        value = given["rewards_TB"][t] + given["discounts_TB"][t] * value
        expected.append(value)
    torch.testing.assert_close(vtrace(**given).vs_TB, torch.stack(expected[::-1]))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), end=st.integers(0, 7))
def test_nothing_crosses_the_end_of_an_episode(seed: int, end: int) -> None:
    given = drawn(seed, 9, 2, ends=0.0)
    given["discounts_TB"][end] = 0
    before = vtrace(**given)
    for name in ("log_rhos_TB", "rewards_TB", "values_TB"):
        given[name] = given[name].clone()
        given[name][end + 1 :] += 7.0
    given["bootstrap_B"] = given["bootstrap_B"] - 5
    after = vtrace(**given)
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old[: end + 1], new[: end + 1])
        assert not torch.equal(old[end + 1 :], new[end + 1 :])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), split=st.integers(1, 7))
def test_lanes_do_not_see_each_other(seed: int, split: int) -> None:
    given = drawn(seed, 6, 8)
    whole = vtrace(**given)
    part = vtrace(**{name: value[..., split:] for name, value in given.items()})
    for all_lanes, some in zip(whole, part, strict=True):
        assert torch.equal(all_lanes[:, split:], some)


def test_no_gradient_flows_through_targets() -> None:
    given = drawn(0, 5, 2)
    values = given["values_TB"].requires_grad_()
    found = vtrace(**{**given, "values_TB": values})
    assert not found.vs_TB.requires_grad
    assert not found.advantages_TB.requires_grad
