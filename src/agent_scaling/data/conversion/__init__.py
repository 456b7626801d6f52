"""Turns recordings into shards."""
