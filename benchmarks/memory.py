"""Memory of a training step by size and core, computed: bytes per frame, lanes that devices hold.

    python benchmarks/memory.py [--policy compact] [--steps 80] [--sizes 1m 10m] [--cores lstm]

Of each size and core, the policy as it is and with ``policy.encoder.checkpoint=true``.
"""

from __future__ import annotations

import argparse

import torch

from agent_scaling.policies.compose import make_policy
from agent_scaling.policies.counting.flops_table import DEVICES_GB
from agent_scaling.policies.counting.memory import STATE_BYTES, step_memory, with_checkpoint
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.formats import short

SIZES = ["10k", "30k", "100k", "300k", "1m", "3m", "10m", "30m", "100m", "200m", "500m"]
CORES = ["lstm", "transformer", "mamba"]


def cells(policy: Policy | None, steps: int) -> str:
    """Bytes per frame and lanes, as cells of a Markdown table."""
    if policy is None:
        return "– | –"
    memory = step_memory(policy, steps)
    lanes = (f"{memory.most_lanes(1e9 * size, steps):,}" for size in DEVICES_GB)
    return f"{short(memory.per_frame, 3, ' ')}B | {' · '.join(lanes)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="compact")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--cores", nargs="+", default=CORES)
    args = parser.parse_args()
    devices = " · ".join(map(str, DEVICES_GB))
    columns = ["size", "core", "state", "per frame", f"lanes in {devices} GB"]
    columns += ["per frame, checkpoint", "lanes"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for size in args.sizes:
        for core in args.cores:
            options = (f"policy={args.policy}", f"policy/size={size}", f"policy/core={core}")
            with torch.device("meta"):
                made = make_policy(*options)
            state = short(STATE_BYTES * made.num_params, 3, " ")
            ways = [cells(way, args.steps) for way in (made, with_checkpoint(made))]
            print(f"| {size} | {core} | {state}B | {' | '.join(ways)} |", flush=True)


if __name__ == "__main__":
    main()
