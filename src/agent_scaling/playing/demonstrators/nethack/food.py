"""The food of the player: rations in the inventory and the fresh corpses of what it killed."""

from __future__ import annotations

from nle import nethack

from agent_scaling.playing.demonstrators.nethack import glyphs as g
from agent_scaling.playing.demonstrators.nethack.memory import Memory
from agent_scaling.playing.demonstrators.nethack.view import View
from agent_scaling.playing.demonstrators.pathfinding import Cells

FOOD_CLASS = 7
FRESH_TURNS = 30
"""Age up to which a corpse is eaten; they turn dangerous after about fifty turns."""

# Most filling first; tins take too many turns to open, eggs and unknown corpses may harm.
_RATIONS = [
    "food ration",
    "cram ration",
    "lembas wafer",
    "K-ration",
    "C-ration",
    "pancake",
    "tripe ration",
    "cream pie",
    "fortune cookie",
    "candy bar",
    "melon",
    "banana",
    "orange",
    "pear",
    "apple",
    "carrot",
    "kelp frond",
    "meatball",
    "meat stick",
    "huge chunk of meat",
    "slime mold",
    "lump of royal jelly",
    "eucalyptus leaf",
    "clove of garlic",
    "sprig of wolfsbane",
]


def best_ration(view: View) -> str | None:
    """Inventory letter of the most filling safe food, or None."""
    letters: dict[int, str] = {}
    for item in view.inventory:
        if item.oclass != FOOD_CLASS or "corpse" in item.text:
            continue
        rank = next((i for i, name in enumerate(_RATIONS) if name in item.text), None)
        if rank is not None:
            letters.setdefault(rank, item.letter)
    return letters[min(letters)] if letters else None


def fresh_corpses(player: Memory, view: View) -> Cells:
    """Cells where a safe corpse of something that was just killed lies."""
    fresh = {c: turn for c, turn in player.corpses.items() if view.turn - turn <= FRESH_TURNS}
    player.corpses = fresh
    return sum(1 << c for c in fresh)


def is_meal(glyph: int, kin: tuple[str, ...], message: str) -> bool:
    """True where a glyph shows the safe corpse of what ``message`` says was killed.

    ``kin`` are parts of the names of species that this character does not eat.
    """
    species = glyph - int(nethack.GLYPH_BODY_OFF)
    if species not in g.safe_corpses():
        return False
    name = g.monster_name(species)
    return name in message and not any(part in name for part in kin)
