"""Plays policies in games: rollouts, replays, live view, actors and demonstrators."""
