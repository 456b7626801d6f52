"""The player: reads each screen, answers prompts, and lets its behaviours decide in order."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from nle import nethack

from agent_scaling.envs.actions import key_to_action
from agent_scaling.playing.demonstrators.nethack import food
from agent_scaling.playing.demonstrators.nethack.behaviours import BEHAVIOURS, Behaviour
from agent_scaling.playing.demonstrators.nethack.choice import DIRECTIONS, Choice
from agent_scaling.playing.demonstrators.nethack.level import FORGET_TURNS, Level
from agent_scaling.playing.demonstrators.nethack.memory import RACES, Memory
from agent_scaling.playing.demonstrators.nethack.view import Observation, View
from agent_scaling.playing.demonstrators.pathfinding import STRIDE, around

ESCAPE, ENTER = "\x1b", "\r"

_SHOP_GREETING = re.compile(r"[Ww]elcome( again)? to .+'s? ")
_IMPASSABLE = re.compile(
    "You try to move the boulder|cannot move past it|carrying too much to get through|"
    "squeeze|There isn't enough room|solid stone|It's a wall"
)
_TRAPPED = re.compile("You are (still|stuck|caught)|You cannot pull|You crawl|held|You disentangle")


class NetHackDemonstrator(Memory):
    """Plays NetHack with NetHackChallenge's keys; deterministic given its seed and the screens."""

    behaviours: tuple[Behaviour, ...] = BEHAVIOURS
    """Its behaviours in order of priority; the first that has something to do acts."""

    replies: Mapping[str, str | Callable[[View], str]] = MappingProxyType({})
    """Part of a prompt that may come unasked → the keys that answer it, as in a choice."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new game begins."""
        super().reset()
        self.rng = random.Random(self._seed)
        self.doing = ""
        """Name of the behaviour that pressed the last key."""
        self._choice = Choice("")
        self._killed: tuple[int, str] | None = None
        self._queue = ""
        self._prompts = 0
        self._answers = ""
        self._idle = 0
        self._turn = -1
        self._from = -1
        self._failures: dict[int, int] = {}

    def act(self, obs: Observation) -> int:
        """The action (index into ``nle.nethack.ACTIONS``) that answers this observation."""
        view = self.view = View(obs)
        if view.asks_key or view.asks_text or view.asks_space:
            key = self._answer(view)
        else:
            self._prompts, self._answers = 0, ""
            key = self._next_key(view)
        return int(key_to_action()[ord(key)])

    def _answer(self, view: View) -> str:
        self._read_message(view)
        if self._answers:
            key, self._answers = self._answers[0], self._answers[1:]
            return key
        self._prompts += 1
        if self._prompts > 12:  # an unknown prompt: press keys that might close it
            return (ESCAPE, ENTER, " ", "n", "q", "y")[self._prompts % 6]
        for part, keys in (*self._choice.answers.items(), *self.replies.items()):
            if part in view.message or part in view.top_lines:
                given = keys if isinstance(keys, str) else keys(view)
                self._answers = given[1:]
                return given[0]
        if view.asks_space and "--More--" in view.obs["tty_chars"].tobytes().decode("latin-1"):
            return ENTER
        return ESCAPE

    def _next_key(self, view: View) -> str:
        if not self._queue:
            self._observe(view)
            self._choice = self._choose(view)
            self._queue = self._choice.keys
            self._from = self.level.here
        key, self._queue = self._queue[0], self._queue[1:]
        return key

    def _choose(self, view: View) -> Choice:
        if self._idle > 8:
            return self._stumble()
        for behaviour in self.behaviours:
            choice = behaviour(self, view, self.level)
            if choice is not None:
                self.doing = behaviour.__name__
                return choice
        return Choice("s")

    def _stumble(self) -> Choice:
        """Escape or press a random key, because no game time has passed for many keys."""
        if self._idle % 4 == 0:
            return Choice(ESCAPE)
        return Choice(self.rng.choice(["s", *DIRECTIONS.values()]))

    def _observe(self, view: View) -> None:
        self._idle = self._idle + 1 if view.turn == self._turn else 0
        self._turn = view.turn
        self._read_message(view)
        self.notes.read(view)
        before = self.level
        self.level = self.levels.setdefault(view.place, Level())
        blind = view.suffers(nethack.BL_MASK_BLIND)
        self.level.update(view.obs["glyphs"], view.row, view.column, view.turn, blind)
        if before is not self.level:
            if self._choice.keys in ("<", ">"):
                before.note_stairs(self._from, side=view.place[0] != 0)
            self._arrive(view)
        else:
            self._note_failure(view)
        if self._killed is not None:
            place, message = self._killed
            if food.is_meal(self.level.glyph_at(place), self.kin, message):
                self.corpses[place] = view.turn
        self._killed = None

    def _arrive(self, view: View) -> None:
        """Note the stairs under the player on a new level, because the player hides them."""
        self.corpses.clear()
        self._failures.clear()
        if view.turn <= 1 or self._choice.keys == ">":
            self.level.stairs_up |= 1 << self.level.here
        elif self._choice.keys == "<":
            self.level.stairs_down |= 1 << self.level.here

    def _note_failure(self, view: View) -> None:
        """Give up on a cell that could not be entered several times."""
        target = self._choice.target
        if target is None or self.level.here != self._from or target == self.level.here:
            return
        if 1 << target & self.level.monsters or _TRAPPED.search(view.message):
            return
        self._failures[target] = self._failures.get(target, 0) + 1
        if self._failures[target] >= 4:
            self.level.blocked |= 1 << target
            self._failures[target] = 0

    def _read_message(self, view: View) -> None:
        message, level, target = view.message, self.level, self._choice.target
        if not message:
            return
        if "elcome to NetHack" in message:
            self.kin += tuple(x for x in RACES if x in message)
            self.role = message.split(".")[0].split()[-1]
        if target is not None:
            self._read_move(message, level, target, view.turn)
        if _SHOP_GREETING.search(message) and "NetHack" not in message:
            self._keep_out(level, view)
        elif "Closed for inventory" in message:
            level.forbidden |= around(1 << level.here) & level.doors
        if "stairs are too hard to dig" in message:
            level.stairs_up |= 1 << level.here
        elif "too hard to dig" in message:
            level.no_digging = True

    def _read_move(self, message: str, level: Level, target: int, turn: int) -> None:
        if "Really attack" in message:
            level.peaceful[level.glyph_at(target)] = turn + FORGET_TURNS
        elif "door is locked" in message:
            level.locked |= 1 << target
        elif "diagonally into" in message:
            level.doors |= 1 << target
        elif "diagonally out" in message:
            level.doors |= 1 << level.here
        elif _IMPASSABLE.search(message):
            level.blocked |= 1 << target
        elif "You kill" in message or "You destroy" in message:
            self._killed = target, message

    def _keep_out(self, level: Level, view: View) -> None:
        """Keep out of shops: they cost time, and their goods are not free."""
        from_cell = 1 << self._from
        here = view.row * STRIDE + view.column
        level.forbidden |= around(1 << here) & ~(from_cell | 1 << here | level.walls)
