"""Accounts of what a policy costs: FLOPs and memory, printed by the ``flops`` verb."""
