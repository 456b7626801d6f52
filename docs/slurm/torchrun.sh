#!/bin/bash
# A run without a scheduler. One machine: docs/slurm/torchrun.sh. Several: the same on each, with
#   NODES=4 HEAD=host-of-the-first:29500 docs/slurm/torchrun.sh trainer=fsdp policy/size=500m
# --max-restarts starts all ranks again after one has died, and they go on from last.ckpt.
# SIGTERM to torchrun reaches every rank, which has --shutdown-timeout seconds to save.
set -u
NODES=${NODES:-1} DEVICES=${DEVICES:-8} HEAD=${HEAD:-localhost:29500}

exec torchrun --nnodes="$NODES" --nproc-per-node="$DEVICES" --max-restarts=3 \
  --rdzv-backend=c10d --rdzv-endpoint="$HEAD" --rdzv-id=agent-scaling --shutdown-timeout=120 \
  --no-python agent-scaling train trainer=ddp trainer.devices="$DEVICES" trainer.num_nodes="$NODES" \
  experiment=nethack_bc threads=4 data.shards=shards data.lanes=1024 \
  flops_budget=1e18 output=outputs/run ckpt_path=last "$@"
