"""The player's decisions on small drawn maps, and its way through any prompt."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest
from nle import nethack

from agent_scaling.envs.actions import action_to_key
from agent_scaling.playing.demonstrators.games import GameSpec
from agent_scaling.playing.demonstrators.games.nethack import (
    SeededNetHack,
    play_unrecorded,
    play_with,
)
from agent_scaling.playing.demonstrators.nethack import KEYS, NetHackDemonstrator
from agent_scaling.playing.demonstrators.nethack.food import best_ration
from agent_scaling.playing.demonstrators.nethack.view import View

CMAP = nethack.GLYPH_CMAP_OFF
SYMBOLS = {
    " ": CMAP,
    "|": CMAP + 1,
    "-": CMAP + 2,
    "'": CMAP + 13,
    "+": CMAP + 15,
    ".": CMAP + 19,
    "#": CMAP + 21,
    "<": CMAP + 23,
    ">": CMAP + 24,
    "}": CMAP + 32,
    "^": CMAP + 42,
    "$": nethack.GLYPH_OBJ_OFF + 410,
    "@": 327,  # archeologist
    "d": 12,  # jackal
    "e": 28,  # floating eye
    "p": nethack.GLYPH_PET_OFF + 16,  # little dog
}


def screen(*rows, message="", hp=20, prompt=(0, 0, 0), hunger=1, turn=500, items=()):
    """An observation that shows the drawn rows at the map's middle."""
    shapes = nethack.OBSERVATION_DESC
    obs = {key: np.zeros(**shapes[key]) for key in KEYS}
    obs["glyphs"][:] = CMAP
    for r, line in enumerate(rows):
        for c, symbol in enumerate(line):
            obs["glyphs"][8 + r, 30 + c] = SYMBOLS[symbol]
            if symbol == "@":
                obs["blstats"][[nethack.NLE_BL_Y, nethack.NLE_BL_X]] = 8 + r, 30 + c
    bl = obs["blstats"]
    bl[nethack.NLE_BL_HP], bl[nethack.NLE_BL_HPMAX] = hp, 20
    bl[nethack.NLE_BL_HUNGER], bl[nethack.NLE_BL_TIME] = hunger, turn
    bl[nethack.NLE_BL_DEPTH] = bl[nethack.NLE_BL_DLEVEL] = bl[nethack.NLE_BL_XP] = 1
    obs["misc"][:] = prompt
    obs["message"][: len(message)] = np.frombuffer(message.encode(), np.uint8)
    obs["tty_chars"][:] = ord(" ")
    obs["tty_chars"][0, : len(message)] = obs["message"][:80][: len(message)]
    for i, (letter, oclass, text) in enumerate(items):
        obs["inv_letters"][i], obs["inv_oclasses"][i] = ord(letter), oclass
        obs["inv_strs"][i, : len(text)] = np.frombuffer(text.encode(), np.uint8)
    return obs


def key(player, *args, **kwargs):
    return chr(action_to_key()[player.act(screen(*args, **kwargs))])


ROOM = ("-----", "|...|", "|...|", "|...|", "-----")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (("-----", "|...|", "|@.$|", "-----"), "l"),  # gold
        (("-----", "|...|", "|@d.|", "-----"), "l"),  # an adjacent enemy
        (("-----", "|...|", "|d..|", "|.@$|", "-----"), "y"),  # diagonally too
        (("------", "|....|", "|@e.$|", "------"), "u"),  # round a floating eye
        (("------", "|....|", "|@^.$|", "------"), "u"),  # round a trap
        (("-----", "|.@.'", "|...|", "-----"), "l"),  # straight through a door
        (("-----", "|...'", "|..@|", "-----"), "k"),  # not diagonally into one
        (("-----", "|.@p>", "|...|", "-----"), "l"),  # a pet swaps places
    ],
)
def test_first_move(rows, expected):
    assert key(NetHackDemonstrator(), *rows) == expected


def test_prays_once_when_dying():
    player = NetHackDemonstrator()
    rows = ("-----", "|.@.|", "-----")
    assert key(player, *rows, hp=2) == chr(nethack.Command.PRAY)
    question = "Are you sure you want to pray? [yn] (n)"
    assert key(player, *rows, hp=2, message=question, prompt=(1, 0, 0)) == "y"
    assert key(player, *rows, hp=2, turn=510) != chr(nethack.Command.PRAY)


def test_does_not_attack_the_peaceful():
    player = NetHackDemonstrator()
    rows = ("-----", "|.@d|", "|...|", "-----")
    assert key(player, *rows) == "l"
    question = "Really attack the jackal?"
    assert key(player, *rows, message=question, prompt=(1, 0, 0)) == "\x1b"
    assert key(player, *rows, turn=501) != "l"


def test_eats_the_most_filling_food_when_hungry():
    items = [("a", 7, "an apple"), ("b", 7, "2 food rations"), ("c", 7, "a newt corpse")]
    assert best_ration(View(screen(items=items))) == "b"
    player = NetHackDemonstrator()
    rows = ("-----", "|.@.|", "-----")
    assert key(player, *rows, items=items, hunger=2) == "e"
    question = "What do you want to eat? [ab or ?*]"
    assert key(player, *rows, items=items, message=question, prompt=(1, 0, 0)) == "b"


def test_kicks_a_locked_door():
    player = NetHackDemonstrator()
    rows = ("-----", "|..@+", "-----")
    assert key(player, *rows) == "l"
    assert key(player, *rows, message="This door is locked.") == "\x04"
    assert key(player, *rows, message="In what direction?", prompt=(1, 0, 0)) == "l"


def test_every_prompt_is_left_in_the_end():
    """A prompt that never closes meets escape, enter, space and letters in turn."""
    player = NetHackDemonstrator()
    pressed = {key(player, message="Eh? [abc]", prompt=(1, 0, 0)) for _ in range(20)}
    assert {"\x1b", "\r", " ", "n", "q", "y"} <= pressed


def test_plays_better_than_chance():
    demonstrator = [play_unrecorded("demonstrator", seed, max_steps=800) for seed in range(8)]
    walkers = [play_unrecorded("random walker", seed, max_steps=800) for seed in range(8)]
    assert sum(r.score for r in demonstrator) > 2 * sum(r.score for r in walkers)


def test_a_half_typed_command_does_not_stop_the_quit(tmp_path):
    force_fight = list(nethack.ACTIONS).index(nethack.Command.FIGHT)
    for steps in (1, 2):
        folder = tmp_path / str(steps)
        folder.mkdir()
        spec = GameSpec(0, {"character": "@"}, steps, folder)
        assert play_with(lambda obs: force_fight, spec, record=True).end == "quit"


def test_nle_records_below_a_folder_with_a_percent_sign(tmp_path, monkeypatch):
    folder = tmp_path / "50%s" / "20%d"
    folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder.parent))  # as in a worker
    spec = GameSpec(0, {"character": "@"}, 1, folder)
    assert play_with(lambda obs: 0, spec, record=True).frames > 0
    assert list(folder.glob("*.ttyrec3.bz2"))


@pytest.mark.parametrize("typed", ["#pr", "#force", "E-Elb", "/", "n20"])
def test_no_prompt_swallows_the_quit(typed, tmp_path, recwarn):
    """NLE's own way leaves the line that follows # with what was typed in it, and warns."""
    keys = [list(nethack.ACTIONS).index(ord(letter)) for letter in typed]
    left = iter(keys)
    spec = GameSpec(3, {"character": "@"}, len(keys), tmp_path)
    assert play_with(lambda obs: next(left), spec, record=True).end == "quit"
    assert not [warning for warning in recwarn if "quitting" in str(warning.message)]


def test_a_game_in_which_no_time_passes_is_quit(monkeypatch):
    monkeypatch.setattr("agent_scaling.playing.demonstrators.games.nethack.IDLE_STEPS", 50)
    env = SeededNetHack(observation_keys=KEYS, max_episode_steps=1000, character="@")
    env.seed(0, 1, reseed=False)
    env.reset()
    steps = 1
    while not env.step(list(nethack.ACTIONS).index(nethack.Command.ESC))[2]:
        steps += 1
    env.close()
    assert 50 <= steps <= 52
