"""A run's device: compiled kernels, and the share of its peak that training reaches."""
