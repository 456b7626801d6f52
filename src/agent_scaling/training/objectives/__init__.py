"""Losses, V-trace, rewards and teachers."""
