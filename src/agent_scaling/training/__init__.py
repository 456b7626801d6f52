"""Trains policies: the train verb, modules, objectives and optimisers."""
