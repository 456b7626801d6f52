"""Scaling laws for imitation and reinforcement learning in games."""
