"""NetHack's glyphs as a player sees them: a table of bit flags, and the monsters' facts.

Glyph numbers are those of NLE's ``glyphs`` observation (NetHack 3.6's display.h).
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

import numpy as np
import numpy.typing as npt
from nle import nethack

FLOOR = 1 << 0
"""Terrain that can be walked on, stairs and doorways included."""
BLANK = 1 << 1
"""Nothing seen here: solid rock, or not explored."""
WALL = 1 << 2
"""Walls, iron bars and trees, which never open."""
OPEN_DOOR = 1 << 3
"""Doors that can be walked through, but not diagonally."""
CLOSED_DOOR = 1 << 4
"""Doors that open when walked into, unless they are locked."""
OBJECT = 1 << 5
"""Anything lying on the floor that can be stepped on."""
BOULDER = 1 << 6
"""Boulders, which move when pushed, if there is room behind."""
MONSTER = 1 << 7
"""Monsters that are not pets, the invisible and the player's own glyph included."""
SHUNNED = 1 << 8
"""Monsters that are better left alone: touching them harms, or they keep the peace."""
TRAP = 1 << 9
"""Traps that have been found."""
HOLE = 1 << 10
"""Traps that lead to another level."""
STAIRS_DOWN = 1 << 11
"""Stairs and ladders down."""
STAIRS_UP = 1 << 12
"""Stairs and ladders up."""
WANTED = 1 << 13
"""Gold, food that keeps, digging tools and missiles."""
CORRIDOR = 1 << 14
"""Squares that belong to corridors."""
PASSIVE = 1 << 15
"""Shunned monsters that harm only those who touch them."""
DEADLY = 1 << 16
"""Passive monsters that are never touched."""
WATCH = 1 << 17
"""Watchmen of a town."""

GOLD = int(nethack.GLYPH_OBJ_OFF) + 410
"""Glyph of gold pieces."""
NOTHING = int(nethack.NO_GLYPH)
"""Glyph of nothing at all, not even rock."""
INVISIBLE = int(nethack.GLYPH_INVISIBLE)
"""Glyph where an unseen monster is remembered."""
MONSTERS = int(nethack.GLYPH_PET_OFF)
"""Number of monster species; glyphs below it are monsters."""

# Indices into the map symbols (defsym.h).
_WALLS, _DOORWAY = range(1, 12), 12
_OPEN, _CLOSED = (13, 14), (15, 16)
_SOLID, _FLOORS = (17, 18), (19, 20, 21, 22, *range(23, 32), 33, 35, 36)
_CORRIDORS, _DOWN, _UP = (21, 22), (24, 26), (23, 25)
_TRAPS, _HOLES = range(42, 65), (54, 55, 57)

# Objects (objects.h).
_BOULDER = 447
_WANTED_NAMES = frozenset(
    [
        "gold piece",
        "pick-axe",
        "dwarvish mattock",
        "dagger",
        "elven dagger",
        "orcish dagger",
        "silver dagger",
        "dart",
        "shuriken",
        "food ration",
        "cram ration",
        "lembas wafer",
        "K-ration",
        "C-ration",
        "pancake",
        "tripe ration",
        "cream pie",
        "candy bar",
        "fortune cookie",
        "melon",
        "banana",
        "orange",
        "pear",
        "apple",
        "carrot",
    ]
)

# Passive attacks that outweigh the experience, and explosions; then those whose touch is the end.
_PASSIVE_NAMES = frozenset(
    ["acid blob", "ochre jelly", "spotted jelly", "yellow mold", "green mold", "red mold"]
)
_DEADLY_NAMES = frozenset(
    [
        "floating eye",
        "blue jelly",
        "gelatinous cube",
        "brown mold",
        "gas spore",
        "cockatrice",
        "chickatrice",
        "freezing sphere",
        "flaming sphere",
        "shocking sphere",
    ]
)
# Monsters that are peaceful by their office.
_OFFICIALS = frozenset(
    [
        "shopkeeper",
        "guard",
        "watchman",
        "watch captain",
        "aligned priest",
        "high priest",
        "Oracle",
        "prisoner",
    ]
)
# Flesh that poisons, stuns, petrifies, turns or shames the eater; the rest by its flags.
_FOUL_NAMES = frozenset(
    [
        "cockatrice",
        "chickatrice",
        "Medusa",
        "green slime",
        "lizard",
        "bat",
        "giant bat",
        "vampire bat",
        "stalker",
        "chameleon",
        "doppelganger",
        "small mimic",
        "large mimic",
        "giant mimic",
        "little dog",
        "dog",
        "large dog",
        "kitten",
        "housecat",
        "large cat",
        "violet fungus",
        "lichen",
        "disenchanter",
        "mind flayer",
        "master mind flayer",
    ]
)
_POISONOUS_OR_ACIDIC = 0x10000000 | 0x08000000
_HUMAN_OR_WERE = 0x00000008 | 0x00000004


def monster_name(glyph: int) -> str:
    """Species of a monster's glyph, for instance ``giant ant``; empty for other glyphs."""
    return str(nethack.permonst(glyph).mname) if 0 <= glyph < MONSTERS else ""


@cache
def monster_levels() -> npt.NDArray[np.int64]:
    """Base level of each species [381], the measure of how dangerous it is."""
    return np.array([nethack.permonst(i).mlevel for i in range(MONSTERS)])


@cache
def safe_corpses() -> frozenset[int]:
    """Species whose fresh corpses anyone may eat; same-race cannibalism is left to the caller."""
    return frozenset(i for i in range(MONSTERS) if _is_safe(i))


def _is_safe(species: int) -> bool:
    monster = nethack.permonst(species)
    flags1, flags2 = int(monster.mflags1), int(monster.mflags2)
    foul = flags1 & _POISONOUS_OR_ACIDIC or flags2 & _HUMAN_OR_WERE or not monster.cnutrit
    rotten = any(part in monster.mname for part in ("zombie", "mummy", "ghoul", "vampire", "lich"))
    return not foul and not rotten and monster.mname not in _FOUL_NAMES


@cache
def flags() -> npt.NDArray[np.uint32]:
    """Look-up table: glyph → its flags."""
    table = np.zeros(nethack.MAX_GLYPH + 1, dtype=np.uint32)
    table[nethack.NO_GLYPH] = BLANK
    _flag_monsters(table)
    _flag_objects(table)
    _flag_terrain(table)
    table.setflags(write=False)
    return table


def _flag_monsters(table: npt.NDArray[np.uint32]) -> None:
    table[:MONSTERS] = MONSTER
    table[INVISIBLE] = MONSTER
    for species in range(MONSTERS):
        name = monster_name(species)
        if name in _PASSIVE_NAMES | _DEADLY_NAMES:
            table[species] |= SHUNNED | PASSIVE
        if name in _DEADLY_NAMES:
            table[species] |= DEADLY
        if name.startswith("watch"):
            table[species] |= WATCH
        if name in _OFFICIALS:
            table[species] |= SHUNNED
    # Pets swap places with the player, so their cell is as good as floor.
    table[nethack.GLYPH_PET_OFF : nethack.GLYPH_INVIS_OFF] = FLOOR
    table[nethack.GLYPH_DETECT_OFF : nethack.GLYPH_BODY_OFF] = MONSTER
    table[nethack.GLYPH_RIDDEN_OFF : nethack.GLYPH_OBJ_OFF] = MONSTER


def objects_named(names: Collection[str]) -> list[int]:
    """Return the glyphs of the objects of these names."""
    kinds = range(nethack.GLYPH_CMAP_OFF - nethack.GLYPH_OBJ_OFF)
    found = (kind for kind in kinds if nethack.OBJ_NAME(nethack.objclass(kind)) in names)
    return [int(nethack.GLYPH_OBJ_OFF) + kind for kind in found]


def _flag_objects(table: npt.NDArray[np.uint32]) -> None:
    table[nethack.GLYPH_BODY_OFF : nethack.GLYPH_RIDDEN_OFF] = OBJECT
    table[nethack.GLYPH_STATUE_OFF : nethack.MAX_GLYPH] = OBJECT
    table[nethack.GLYPH_OBJ_OFF : nethack.GLYPH_CMAP_OFF] = OBJECT
    table[nethack.GLYPH_OBJ_OFF + _BOULDER] = BOULDER
    table[objects_named(_WANTED_NAMES)] |= WANTED


def _flag_terrain(table: npt.NDArray[np.uint32]) -> None:
    cmap = table[nethack.GLYPH_CMAP_OFF : nethack.GLYPH_EXPLODE_OFF]
    cmap[0] = BLANK
    cmap[list(_WALLS)] = WALL
    cmap[list(_SOLID)] = WALL
    cmap[[_DOORWAY, *_FLOORS]] = FLOOR
    cmap[list(_OPEN)] = OPEN_DOOR
    cmap[list(_CLOSED)] = CLOSED_DOOR
    cmap[list(_CORRIDORS)] |= CORRIDOR
    cmap[list(_TRAPS)] = TRAP
    cmap[list(_HOLES)] |= HOLE
    cmap[list(_DOWN)] |= STAIRS_DOWN
    cmap[list(_UP)] |= STAIRS_UP
