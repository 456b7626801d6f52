"""Peaks of devices by their names, and what a step executes."""

from __future__ import annotations

import pytest
import torch

from agent_scaling.policies.executed_flops import hardware_flops
from agent_scaling.training.device.peaks import find_peak
from agent_scaling.training.modules.bc import BehaviouralCloning
from agent_scaling.training.modules.impala import Impala
from agent_scaling.training.optim.optimizer import OptimizerFactory
from tests.helpers.policies import random_batch, small_policy

ADAM = OptimizerFactory(torch.optim.Adam, 1e-3)


@pytest.mark.parametrize(
    ("name", "precision", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16-mixed", 989e12),
        ("NVIDIA H100 PCIe", "bf16-true", 756e12),
        ("NVIDIA A100-SXM4-80GB", "16-mixed", 312e12),
        ("NVIDIA L40S", "32-true", 183e12),
        ("NVIDIA L40", "bf16-mixed", None),
        ("NVIDIA H200", "64-true", None),
        ("cpu, 2 threads", "bf16-mixed", None),
    ],
)
def test_peaks(name: str, precision: str, peak: float | None) -> None:
    assert find_peak(name, precision) == peak


def test_what_a_step_executes() -> None:
    policy, window = small_policy(), random_batch(6, 3)
    cloning, learner = BehaviouralCloning(policy, ADAM), Impala(policy, ADAM)
    assert cloning.executed(window) == hardware_flops(policy, 6, 3)
    acted = 5 * 3 * learner.unit_costs["acting"]["model"]
    assert learner.executed(window) == hardware_flops(policy, 6, 3) + acted
    both = {"unroll": window, "demonstrations": random_batch(4, 2)}
    assert learner.executed(both) == learner.executed(window) + hardware_flops(policy, 4, 2)
