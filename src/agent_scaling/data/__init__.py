"""Recorded games: their conversion to shards, reading shards, and the order of batches."""
