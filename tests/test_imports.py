"""Verbs and parts do not wait for libraries that they can do without."""

from __future__ import annotations

import subprocess
import sys

import pytest

TRAINING = {"lightning", "mlflow"}
HEAVY = {"scipy.stats", "torch", "torchmetrics", *TRAINING}


@pytest.mark.parametrize(
    ("parts", "kept_out"),
    [
        # A worker of a conversion and a launcher's job import them as well.
        (
            "playing.demonstrators.demonstrate data.conversion.shard cli.doctor studies.sweep "
            "scaling.fit",
            HEAVY,
        ),
        (
            "playing.rollouts.rollout playing.watch policies.checkpoints.published "
            "policies.compose playing.players data.windows.read policies.counting.flops_table "
            "training.labelling.label studies.study",
            TRAINING,
        ),
    ],
)
def test_what_need_not_be_imported_is_not(parts: str, kept_out: set[str]) -> None:
    program = "; ".join(
        [
            "import sys",
            *(f"import agent_scaling.{part}" for part in parts.split()),
            f"print(sorted({kept_out} & set(sys.modules)))",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
