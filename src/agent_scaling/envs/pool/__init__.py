"""The environment pool: many games in worker processes, stepped together."""
