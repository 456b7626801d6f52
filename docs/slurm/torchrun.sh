#!/bin/bash
# A run without a scheduler. One machine: docs/slurm/torchrun.sh. Several: the same on each, with
#   NODES=4 HEAD=host-of-the-first:29500 docs/slurm/torchrun.sh trainer=fsdp policy/size=500m
# After a rank has died, all are started again, RESTARTS times, and go on from last.ckpt. They meet at a
# store of their own: in the one that torchrun shares, they find the dead ranks' addresses
# (pytorch/pytorch#135712).
# SIGTERM to torchrun reaches every rank, which has --shutdown-timeout seconds to save.
set -u
NODES=${NODES:-1} DEVICES=${DEVICES:-8} HEAD=${HEAD:-localhost:29500} RESTARTS=${RESTARTS:-3}
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1

exec torchrun --nnodes="$NODES" --nproc-per-node="$DEVICES" --max-restarts="$RESTARTS" \
  --rdzv-backend=c10d --rdzv-endpoint="$HEAD" --rdzv-id=agent-scaling --shutdown-timeout=120 \
  --no-python agent-scaling train trainer=ddp trainer.devices="$DEVICES" trainer.num_nodes="$NODES" \
  experiment="${EXPERIMENT:-nethack_bc}" threads=4 data.shards=shards data.lanes=1024 \
  flops_budget=1e18 output=outputs/run ckpt_path=last "$@"
