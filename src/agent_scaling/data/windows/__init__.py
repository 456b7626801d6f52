"""Cuts shards into batches, in an order that is a pure function of seed and step."""
