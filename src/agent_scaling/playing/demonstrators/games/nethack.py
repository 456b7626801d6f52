"""One seeded game of NetHack under NetHackChallenge's settings, played and recorded by NLE."""

from __future__ import annotations

import bz2
import contextlib
import os
import random
import re
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
from nle import nethack
from nle.env.tasks import NetHackScore

from agent_scaling.envs.actions import NUM_ACTIONS, key_to_action
from agent_scaling.envs.nethack import character_options
from agent_scaling.envs.nethack.inventories import InventoryLog
from agent_scaling.playing.demonstrators.games import GameRecord, GameSpec
from agent_scaling.playing.demonstrators.nethack import (
    KEYS,
    NetHackDemonstrator,
    NetHackExpert,
    Observation,
)
from agent_scaling.playing.demonstrators.own_player import (
    GameOver,
    PlayerError,
    drive,
    find_player,
    is_own,
    observations_of,
)
from agent_scaling.runtime.errors import InputError

FOLDER = "nle_data"
"""One folder per game lies directly under it, as in NLD-AA."""

IDLE_STEPS = 2_000
"""Steps without a turn of game time after which a game is quit."""

ROLES = ["arc", "bar", "cav", "hea", "kni", "mon", "pri", "ran", "rog", "sam", "tou", "val", "wiz"]

_HEADER = struct.Struct("<IIIB")  # seconds, microseconds, payload bytes, channel
_KEY_CHANNEL = 1
_ESCAPE = "\x1b"
_QUIT = (0x80 | ord("q"), ord("y"))
QUITS = 5
"""Times that the command to quit is tried, each with one more escape before it."""

SCRIPTED, EXPERT = "demonstrator", "expert"
PROGRAMS: dict[str, type[NetHackDemonstrator]] = {
    SCRIPTED: NetHackDemonstrator,
    EXPERT: NetHackExpert,
}
"""Name → scripted player."""
Policy = Callable[[Observation], int]


class SeededNetHack(NetHackScore):  # type: ignore[misc]
    """NetHackChallenge that can be seeded, which Challenge forbids.

    The game is quit properly, so that its xlogfile line is written, after ``max_episode_steps`` or
    when no game time passes for :data:`IDLE_STEPS` steps.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            actions=nethack.ACTIONS,
            allow_all_yn_questions=True,
            allow_all_modes=True,
            penalty_step=0.0,
            render_mode=None,
            **kwargs,
        )
        buffers = self.nethack._obs_buffers
        self.inventories = InventoryLog(buffers)
        """Inventories of all frames that the recording has."""
        self._press = self.nethack.step
        self.nethack._pynethack.set_buffers(**buffers | self.inventories.views)
        self.nethack.step = self._see_and_press

    def _see_and_press(self, key: int) -> Any:
        self.inventories.see()
        return self._press(key)

    def reset(self, **kwargs: Any) -> Any:
        """Start a game; ``seed`` must have been called before."""
        self._turn, self._turn_step = -1, 0
        return super().reset(**kwargs)

    def leave(self) -> None:
        """Quit the game properly at the next step."""
        self._max_episode_steps = self._steps

    def _check_abort(self, observation: Sequence[npt.NDArray[Any]]) -> bool:
        # Called twice per step, so it compares step numbers instead of counting calls.
        turn = int(observation[self._blstats_index][nethack.NLE_BL_TIME])
        if turn != self._turn:
            self._turn, self._turn_step = turn, self._steps
        idle = self._steps - self._turn_step
        return bool(self._steps >= self._max_episode_steps or idle >= IDLE_STEPS)

    def _quit_game(self, observation: Sequence[npt.NDArray[Any]], done: bool) -> None:
        """Quit by the command, out of whatever the game is asking.

        NLE's own method tries once, and warns where a prompt swallowed the command. An escape only
        empties a line of text; another one leaves it, and NLE has no flag for that of ``#``.
        """
        for escapes in range(1, QUITS + 1):
            for key in (_ESCAPE,) * escapes:
                if not done:
                    observation, done = self.nethack.step(ord(key))
            observation, done = self._perform_known_steps(observation, done, exceptions=False)
            for code in _QUIT:
                if not done:
                    observation, done = self.nethack.step(code)
            observation, done = self._perform_known_steps(observation, done, exceptions=False)
            if done:
                return


def check_character(character: str) -> None:
    """``@`` (random), or NLE's ``role[-race[-alignment[-gender]]]`` by three-letter names."""
    if character != "@" and not re.fullmatch(
        rf"({'|'.join(ROLES)})(-[a-z]{{3}}){{0,3}}", character
    ):
        raise InputError(
            f"character={character}: use @ for a random one, or role-race-alignment-gender such as "
            f"val-dwa-law-fem; roles: {' '.join(ROLES)}"
        )
    character_options(character)


def make_options(character: str = "@", player: str = SCRIPTED, **given: Any) -> dict[str, Any]:
    """Return the character and, unless it is the scripted one, the player.

    Raises:
        InputError: There is no such character or player, or the options are Atari's.
    """
    if given:
        raise InputError(f"{next(iter(given))}=: NetHack has no such option; it is for game=atari")
    check_character(character)
    if player == SCRIPTED:
        return {"character": character}
    if is_own(player):
        find_player(player)
    elif player not in PROGRAMS:
        raise InputError(
            f"player={player}: NetHack has {' and '.join(PROGRAMS)}, or your own as "
            "package.module:Class"
        )
    return {"character": character, "player": player}


def play(spec: GameSpec) -> GameRecord:
    """Play one game and record it into ``spec.folder``; the options say who plays."""
    name = spec.options.get("player", SCRIPTED)
    if is_own(name):
        return play_own(name, spec)
    return play_with(PROGRAMS[name](spec.seed).act, spec, record=True)


def play_own(path: str, spec: GameSpec) -> GameRecord:
    """Play one game with a user's player; where it fails, the record has the fault and no end."""
    keys = observations_of(path)
    return _played(lambda env: _driven(env, path, spec.seed), spec, True, keys)


def random_policy(seed: int) -> Policy:
    """Draw uniformly from the 121 actions, whatever the screen shows."""
    rng = random.Random(seed)
    return lambda obs: rng.randrange(NUM_ACTIONS)


def random_walker(seed: int) -> Policy:
    """Draw uniformly from the 16 moves and ``>``; close every prompt, where uniform keys hang."""
    rng = random.Random(seed)
    moves = [*range(16), int(key_to_action()[ord(">")])]
    close = int(key_to_action()[ord(_ESCAPE)])
    return lambda obs: close if obs["misc"].any() else rng.choice(moves)


PLAYERS: dict[str, Callable[[int], Policy]] = {
    SCRIPTED: lambda seed: NetHackDemonstrator(seed).act,
    EXPERT: lambda seed: NetHackExpert(seed).act,
    "random": random_policy,
    "random walker": random_walker,
}
"""Name → seed → policy."""


def play_unrecorded(
    player: str, seed: int, *, character: str = "@", max_steps: int = 5_000
) -> GameRecord:
    """Play one game with one of :data:`PLAYERS` and write nothing."""
    spec = GameSpec(seed, {"character": character}, max_steps, Path())
    return play_with(PLAYERS[player](seed), spec, record=False)


def play_with(policy: Policy, spec: GameSpec, *, record: bool) -> GameRecord:
    """Play one game with any policy; the seeds make it repeatable.

    NetHack reads the clock for a few things (moon phase, shopkeepers' names); the moon is fixed.
    """
    return _played(lambda env: _episode(env, policy), spec, record, KEYS)


def _played(
    episode: Callable[[SeededNetHack], dict[str, Any]],
    spec: GameSpec,
    record: bool,
    keys: tuple[str, ...],
) -> GameRecord:
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        env = SeededNetHack(
            character=spec.options["character"],
            max_episode_steps=spec.max_steps,
            observation_keys=tuple({**dict.fromkeys(keys), "blstats": None}),
            save_ttyrec_every=int(record),
            savedir=stack.enter_context(_for_nle(spec.folder)) if record else None,
            fix_moon_phase=True,
        )
        stack.callback(env.close)
        env.seed(2 * spec.seed, 2 * spec.seed + 1, reseed=False)
        totals = episode(env)
    end, frames = "", 0
    if record and not totals.get("fault"):
        _name_after(spec.seed, spec.folder)
        (ttyrec,) = spec.folder.glob("*.ttyrec3.bz2")
        env.inventories.write(ttyrec)
        end, frames = _read_back(spec.folder)
    return GameRecord(
        seed=spec.seed,
        options=spec.options,
        max_steps=spec.max_steps,
        pid=os.getpid(),
        frames=frames,
        end=end,
        seconds=round(time.monotonic() - started, 2),
        **totals,
    )


@contextlib.contextmanager
def _for_nle(folder: Path) -> Iterator[str]:
    """Return the path by which NLE records into a folder: it takes ``%`` for a number's place."""
    if "%" not in str(folder.absolute()):
        yield str(folder)
        return
    # A worker's own temporary folder lies in the output, whose name may hold the sign, too.
    places = (tempfile.gettempdir(), os.environ.get("TMPDIR", "/tmp"), "/tmp", "/var/tmp")
    usable = (place for place in places if "%" not in place and os.access(place, os.W_OK))
    with tempfile.TemporaryDirectory(dir=next(usable, None)) as elsewhere:
        folder.mkdir(parents=True, exist_ok=True)
        link = Path(elsewhere, "games")
        link.symlink_to(folder.absolute())
        yield str(link)


class _Counted:
    """Steps an environment, and keeps the totals of a game as of the last frame before its end."""

    def __init__(self, env: SeededNetHack) -> None:
        self.env, self.done = env, False
        self.steps = self.depth = self.score = self.turns = 0
        self.obs: Observation = env.reset()[0]

    def press(self, action: int) -> Observation:
        """Take an action; return the next observation."""
        self._look()
        self.obs, _, self.done, _, _ = self.env.step(action)
        self.steps += 1
        return self.obs

    def press_on(self, action: int) -> Observation:
        """Take an action; raise :class:`GameOver` if the game has ended."""
        if not self.done:
            self.press(action)
        if self.done:
            raise GameOver
        return self.obs

    def totals(self) -> dict[str, Any]:
        """Return the fields of a record that the game has told."""
        details = {"deepest level": self.depth, "turns": self.turns}
        return {"env_steps": self.steps, "score": self.score, "details": details}

    def _look(self) -> None:
        # The status line is blank once the game is over: keep the last one before.
        stats = self.obs["blstats"]
        self.score = int(stats[nethack.NLE_BL_SCORE])
        self.turns = int(stats[nethack.NLE_BL_TIME])
        self.depth = max(self.depth, int(stats[nethack.NLE_BL_DEPTH]))


def _episode(env: SeededNetHack, policy: Policy) -> dict[str, Any]:
    game = _Counted(env)
    while not game.done:
        game.press(policy(game.obs))
    return game.totals()


def _driven(env: SeededNetHack, path: str, seed: int) -> dict[str, Any]:
    """Play a game with a user's player; one that returns before the end quits the game."""
    game = _Counted(env)
    fault = ""
    try:
        drive(path, seed, game.obs, game.press_on)
        env.leave()
        game.press(int(key_to_action()[ord(_ESCAPE)]))
    except GameOver:
        pass
    except PlayerError as error:
        fault = str(error)
    return {**game.totals(), "fault": fault}


def _name_after(seed: int, folder: Path) -> None:
    """Name the recording by the game's seed; NLE has named it by the process.

    A game's name decides whether it is held out, so the same games, recorded again, have the same
    split.
    """
    (xlogfile,) = folder.glob("*.xlogfile")
    before, after = xlogfile.stem, f"nle.{seed}"
    text = xlogfile.read_text(errors="surrogateescape")
    text = text.replace(f"ttyrecname={before}.", f"ttyrecname={after}.")
    xlogfile.write_text(text, errors="surrogateescape")
    for file in folder.glob(f"{before}.*"):
        file.rename(folder / f"{after}.{file.name.removeprefix(f'{before}.')}")


def _read_back(folder: Path) -> tuple[str, int]:
    """Return a recorded game's cause of death (empty if the files are not whole) and frames."""
    (xlogfile,) = folder.glob("*.xlogfile")
    (ttyrec,) = folder.glob("*.ttyrec3.bz2")
    fields = [part.split("=", 1) for part in xlogfile.read_text(errors="replace").split("\t")]
    ends = [field[1].strip() for field in fields if field[0] == "death"]
    try:
        return (ends[0] if ends else ""), count_frames(ttyrec)
    except (EOFError, OSError, ValueError, struct.error):
        return "", 0


def count_frames(ttyrec: Path) -> int:
    """Count the frames of a ttyrec3: its key records, each of which answers one screen."""
    raw = bz2.decompress(ttyrec.read_bytes())
    frames = offset = 0
    while offset < len(raw):
        _, _, length, channel = _HEADER.unpack_from(raw, offset)
        frames += channel == _KEY_CHANNEL
        offset += _HEADER.size + length
    return frames
