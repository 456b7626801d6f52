"""Readers of recorded games: one file per kind of recording, each implementing ``base.Source``."""
