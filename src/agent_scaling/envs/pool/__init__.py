"""Many games in worker processes, stepped together."""
