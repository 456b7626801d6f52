"""Readers of recorded games: one file per kind of recording, all with the interface of ``base``."""
