"""Games whose every observation is known: the same seed must give the same game everywhere.

A seed's game may change with another version of NLE, NetHack or ALE, another compiler (the order in
which it evaluates arguments, how its ``qsort`` leaves ties), or a clock that shows through. Tables
and recordings of such an installation cannot be compared game by game with those made elsewhere.

``python -m agent_scaling.envs.goldens`` plays the games and compares; ``--write`` records them
anew.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from agent_scaling.envs.families import find_game

FILE = Path(__file__).with_name("goldens.json")
FIRST, STEPS = 200, 2000
"""Steps after which the observations so far are compared."""
PACKAGES = {"nethack": "nle", "minihack": "minihack", "atari": "ale-py"}

ROLES = ("arc", "bar", "cav", "hea", "kni", "mon", "pri", "ran", "rog", "sam", "tou", "val", "wiz")
LEVELS = ("Room-15x15-v0", "Corridor-R3-v0", "KeyRoom-S5-v0", "River-v0", "Sokoban1a-v1")
CONSOLE = ("Breakout", "Pong", "Qbert", "SpaceInvaders", "MsPacman")
KEYS = "kjlhyubnKJLHYUBNss,>y\r\x1b"
"""Keys of NetHack from which the player draws: it walks, searches, picks up and descends."""


@dataclass(frozen=True)
class Golden:
    """A game, and the SHA-256 of all that it shows in its first steps."""

    family: str
    options: dict[str, Any]
    seed: int
    first: str = ""
    """Of the observations up to step :data:`FIRST`."""
    whole: str = ""
    """Of those up to step :data:`STEPS`."""

    def __str__(self) -> str:
        return " ".join([self.family, *map(str, self.options.values()), f"seed {self.seed}"])


def games() -> list[Golden]:
    """Return the games to play: all roles of NetHack, levels of MiniHack, Atari."""
    found = [Golden("nethack", {"character": role}, seed) for seed, role in enumerate(ROLES)]
    found += [Golden("nethack", {"character": "@"}, seed) for seed in range(100, 107)]
    found += [Golden("minihack", {"task": f"MiniHack-{level}"}, 1) for level in LEVELS]
    return found + [Golden("atari", {"env": env}, 1) for env in CONSOLE]


def played(golden: Golden, steps: int = STEPS) -> Golden:
    """Play a game with keys that the seed alone draws; return it with its digests.

    Where a game ends, that of the next seed begins.
    """
    kind = find_game(golden.family)
    shown: Any = kind.observations
    views = {name: np.zeros(shape, dtype) for name, (shape, dtype) in shown.items()}
    game: Any = kind(views, **golden.options)
    # numpy never changes what a RandomState draws; newer generators may.
    draw = np.random.RandomState(golden.seed)
    # Counted where they are: another game takes longer to start than these steps.
    nethack = golden.family == "nethack"
    actions: Sequence[int] = keys() if nethack else range(len(game.actions))
    seen, digests, seed = hashlib.sha256(), {}, golden.seed
    game.reset(seed)
    for step in range(1, steps + 1):
        for name in sorted(views):
            seen.update(views[name].tobytes())
        if step in (FIRST, STEPS):
            digests["first" if step == FIRST else "whole"] = seen.hexdigest()
        if game.step(actions[int(draw.randint(len(actions)))]) is not None:
            seed += 1
            game.reset(seed)
    game.close()
    return Golden(golden.family, golden.options, golden.seed, **digests)


def keys() -> list[int]:
    """Return the actions of :data:`KEYS`."""
    from agent_scaling.envs.actions import action_to_key

    known = action_to_key().tolist()
    return [known.index(ord(key)) for key in KEYS]


def recorded() -> tuple[dict[str, str], list[Golden]]:
    """Return the versions of the packages that played, and the games as they were."""
    kept = json.loads(FILE.read_text())
    return kept["versions"], [Golden(**game) for game in kept["games"]]


def differences(families: tuple[str, ...], steps: int = STEPS) -> Iterator[Golden]:
    """Play the games of ``families``; yield those that are other games here than recorded."""
    for golden in recorded()[1]:
        if golden.family in families:
            found = played(golden, steps)
            same = (found.first, found.whole) == (golden.first, golden.whole)
            if not (same if steps >= STEPS else found.first == golden.first):
                yield golden


def installed() -> dict[str, str]:
    """Return the versions of the packages that play, as far as they are there."""
    found = {}
    for package in PACKAGES.values():
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def main(arguments: list[str]) -> int:
    """Compare, or record anew; return 1 where a game is another one.

    Args:
        arguments: ``--write`` to record, ``--first`` to compare the first steps alone.
    """
    if arguments == ["--write"]:
        made = [asdict(played(game)) for game in games()]
        FILE.write_text(json.dumps({"versions": installed(), "games": made}, indent=1) + "\n")
        return 0
    families = tuple(family for family, package in PACKAGES.items() if package in installed())
    other = list(differences(families, FIRST if arguments == ["--first"] else STEPS))
    for golden in other:
        sys.stdout.write(f"another game than recorded: {golden}\n")
    compared = sum(golden.family in families for golden in recorded()[1])
    sys.stdout.write(f"{compared - len(other)} of {compared} games as recorded\n")
    return 1 if other else 0
