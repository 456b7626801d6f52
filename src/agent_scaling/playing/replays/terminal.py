"""Replays of games that are played in a terminal: a page, and an asciinema cast."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from agent_scaling.playing.replays import Episode
from agent_scaling.playing.replays.cast import cast
from agent_scaling.playing.replays.frames import SHOWN, encode_frames
from agent_scaling.playing.replays.page import page
from agent_scaling.playing.replays.replay import replayed
from agent_scaling.playing.replays.screen import PALETTE


def show(episode: Episode) -> dict[str, bytes]:
    """Return the ``html`` page and the ``cast``."""
    again = replayed(episode.game, episode.seed, episode.trace["action"], SHOWN)
    frames = encode_frames(again)
    arrays: dict[str, npt.NDArray[Any]] = {
        "counts": frames.counts_T,
        "gaps": frames.gaps,
        "chars": frames.chars,
        "colors": frames.colors,
        "cursor": frames.cursor_T2,
        "turn": frames.turn_T,
        "score": frames.score_T,
    }
    return {
        "html": page("terminal", episode, arrays, palette=PALETTE),
        "cast": cast(episode.title, frames, episode.trace, episode.actions).encode(),
    }
