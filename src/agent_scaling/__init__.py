"""Scaling laws for imitation and reinforcement learning in games."""

from agent_scaling.batch import Batch
from agent_scaling.checkpoint import load_policy
from agent_scaling.flops import flops_per_frame

__all__ = ["Batch", "flops_per_frame", "load_policy"]
