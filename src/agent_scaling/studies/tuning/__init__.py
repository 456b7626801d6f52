"""Searches a few keys of ``train`` for the best ones, within a budget of FLOPs."""
