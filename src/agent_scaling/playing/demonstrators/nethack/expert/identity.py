"""The character's role and race, from NetHack's list of attributes."""

from __future__ import annotations

import re

from agent_scaling.playing.demonstrators.nethack.choice import Choice
from agent_scaling.playing.demonstrators.nethack.level import Level
from agent_scaling.playing.demonstrators.nethack.memory import RACES, Memory
from agent_scaling.playing.demonstrators.nethack.view import View

ATTRIBUTES = "\x18"
"""The command that shows the list."""
_BACKGROUND = re.compile(r"a level 1 (?:(?:fe)?male )?(\w+) (\w+)\.")


def ask(player: Memory, view: View, level: Level) -> Choice | None:
    """Ask for the list in the first turn; the welcome, which says the same, is not always seen."""
    if view.turn > 1 or player.notes.asked:
        return None
    player.notes.asked = True
    return Choice(ATTRIBUTES)


def read(player: Memory, view: View) -> None:
    """Take in the list, if it is on the screen."""
    if not view.asks_space:
        return
    found = _BACKGROUND.search(view.obs["tty_chars"].tobytes().decode("latin-1"))
    if found is None:
        return
    race, player.role = found.groups()
    player.kin += tuple(name for name in RACES if race.startswith(name) and name not in player.kin)
