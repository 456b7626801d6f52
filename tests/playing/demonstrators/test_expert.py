"""The expert's tactics on small drawn maps, and its place among the players."""

from __future__ import annotations

import json

import pytest
from nle import nethack

from agent_scaling.envs.actions import action_to_key
from agent_scaling.playing.demonstrators.demonstrate import demonstrate
from agent_scaling.playing.demonstrators.games.nethack import PLAYERS
from agent_scaling.playing.demonstrators.nethack import NetHackDemonstrator, NetHackExpert
from agent_scaling.playing.demonstrators.nethack.expert import descent, prayer, provisions, refuge
from agent_scaling.playing.demonstrators.nethack.level import Level
from agent_scaling.playing.demonstrators.nethack.view import View
from tests.playing.demonstrators.test_player import key, screen

PRAY = chr(nethack.Command.PRAY)
ROOM = ("-----", "|.@.|", "-----")
QUESTION = "Are you sure you want to pray? [yn] (n)"


def press(player, obs):
    return chr(action_to_key()[player.act(obs)])


def prayed(turn):
    """A player that has just prayed."""
    player = NetHackExpert()
    assert key(player, *ROOM, hp=2, turn=turn) == PRAY
    assert key(player, *ROOM, hp=2, turn=turn, message=QUESTION, prompt=(1, 0, 0)) == "y"
    return player


@pytest.mark.parametrize(
    ("need", "turns"),
    [({"hp": 2}, prayer.DYING), ({"hunger": 3}, prayer.WEAK_FROM_HUNGER)],
)
def test_prays_again_once_the_god_has_probably_calmed_down(need, turns):
    assert key(prayed(500), *ROOM, turn=500 + turns - 1, **need) != PRAY
    assert key(prayed(500), *ROOM, turn=500 + turns, **need) == PRAY


def test_is_not_heard_in_the_first_turns():
    assert key(NetHackExpert(), *ROOM, hp=2, turn=prayer.FIRST - 1) != PRAY
    assert key(NetHackExpert(), *ROOM, hp=2, turn=prayer.FIRST) == PRAY


def test_an_angry_god_is_left_alone():
    player = prayed(500)
    key(player, *ROOM, turn=505, message="You feel that Anu is displeased.")
    assert key(player, *ROOM, hp=2, turn=5000) != PRAY


def test_writes_elbereth_in_a_fight_that_is_being_lost_and_stays_on_it():
    player = prayed(500)
    hurt = {"hp": 8, "turn": 600}
    assert key(prayed(500), "-----", "|@d.|", "-----", **hurt) == "l"  # one jackal can be beaten
    rows = ("-----", "|@d.|", "|dd.|", "-----")
    assert key(player, *rows, **hurt) == "E"
    with_what = "What do you want to write with? [- abc or ?*]"
    assert key(player, *rows, message=with_what, prompt=(1, 0, 0), **hurt) == "-"
    into = "You write in the dust with your fingertip."
    assert key(player, *rows, message=into, prompt=(0, 0, 1), **hurt) == "\r"
    text = "What do you want to write in the dust here?"
    typed = [key(player, *rows, message=text, prompt=(0, 1, 0), **hurt) for _ in range(9)]
    assert "".join(typed) == "Elbereth\r"
    assert key(player, *rows, hp=8, turn=601) == "s"  # it holds
    assert key(player, *rows, hp=18, turn=640) == "l"  # well again


def test_fights_on_where_a_prayer_would_be_heard():
    assert key(NetHackExpert(), "-----", "|@d.|", "-----", hp=8) == "l"


def test_flees_up_the_stairs_that_it_stands_on():
    player, obs = prayed(500), screen("-----", "|@d.|", "-----", hp=8, turn=600)
    obs["blstats"][nethack.NLE_BL_DEPTH] = 2
    player.level.stairs_up |= 1 << player.level.here
    view = View(obs)
    player.view = view
    player.level.update(obs["glyphs"], view.row, view.column, view.turn, blind=False)
    player.level.stairs_up |= 1 << player.level.here
    choice = refuge.flee(player, view, player.level)
    assert choice is not None
    assert choice.keys == "<"
    assert player.notes.resting


def test_rests_until_well_not_only_until_no_longer_hurt():
    player = NetHackExpert()
    assert [key(player, *ROOM, hp=hp, turn=500 + i) for i, hp in enumerate((9, 9, 9))] == [*"20s"]
    assert key(player, *ROOM, hp=16, turn=520) == "2"
    assert player.doing == "rest"
    rested = NetHackExpert()
    key(rested, *ROOM, hp=16)
    assert rested.doing != "rest"


def test_throws_what_it_can_spare_at_a_floating_eye_in_the_way():
    rows = ("     ", " #e@ ", "     ")
    items = [("a", 2, "a long sword (weapon in hand)"), ("b", 2, "a club"), ("c", 7, "an apple")]
    player = NetHackExpert()
    assert key(player, *rows, items=items) == "t"
    asked = "What do you want to throw? [bc or ?*]"
    assert key(player, *rows, items=items, message=asked, prompt=(1, 0, 0)) == "b"
    assert key(player, *rows, items=items, message="In what direction?", prompt=(1, 0, 0)) == "h"


@pytest.mark.parametrize(("level", "goes"), [(1, False), (4, True)])
def test_goes_down_when_the_experience_suits_the_next_depth(level, goes):
    player, obs = NetHackExpert(), screen("-----", "|.@>|", "-----", turn=700)
    bl = obs["blstats"]
    bl[nethack.NLE_BL_DEPTH] = bl[nethack.NLE_BL_DLEVEL] = 3
    bl[nethack.NLE_BL_XP] = level
    player.act(obs)
    view = player.view
    assert descent.may_descend(player, view) is goes
    assert (descent.descend(player, view, player.level) is not None) is goes


def test_goes_down_after_long_enough_all_the_same():
    player, obs = NetHackExpert(), screen(*ROOM, turn=700)
    obs["blstats"][nethack.NLE_BL_DEPTH] = 5
    player.act(obs)
    assert not descent.may_descend(player, player.view)
    obs["blstats"][nethack.NLE_BL_TIME] = 700 + descent.PATIENCE + 1
    player.act(obs)
    assert descent.may_descend(player, player.view)


def test_chooses_from_a_pile_what_is_worth_carrying():
    obs = screen(*ROOM)
    lines = ("Pick up what?", "a - a pick-axe", "b - a boulder", "c - 2 food rations", "(end)")
    for row, line in enumerate(lines):
        obs["tty_chars"][row, 40 : 40 + len(line)] = list(line.encode())
    assert provisions.chosen(View(obs)) == "ac\r"


def test_no_corpse_where_an_older_one_lay():
    player, obs = NetHackExpert(), screen("-----", "|.@d|", "-----")
    obs["glyphs"][9, 33] = nethack.GLYPH_BODY_OFF + 12  # a jackal's corpse
    player.act(obs)
    place = player.level.here + 1
    player.corpses[place] = 500
    provisions.note_corpses(player, player.view)
    assert place not in player.corpses
    player.corpses[place + 1] = 500
    provisions.note_corpses(player, player.view)
    assert place + 1 in player.corpses  # a fresh one elsewhere


def test_gives_a_name_that_guards_of_vaults_respect():
    player = NetHackExpert()
    asked = "Hello stranger, who are you?"
    typed = [key(player, *ROOM, message=asked, prompt=(0, 1, 0)) for _ in range(8)]
    assert "".join(typed) == "Croesus\r"


def test_starving_with_an_angry_god_goes_down():
    player = NetHackExpert()
    obs = screen(*ROOM, hunger=2, turn=700)
    obs["blstats"][nethack.NLE_BL_DEPTH] = 5
    player.act(obs)
    assert not descent.may_descend(player, player.view)
    player.notes.forsaken = True
    assert descent.may_descend(player, player.view)


def test_digs_on_while_the_stronger_bite_and_hits_the_weaker():
    items = [("a", 6, "a pick-axe (weapon in hand)")]
    player, obs = (
        NetHackExpert(),
        screen("-----", "|ddd|", "|.@.|", "-----", items=items, turn=9000),
    )
    obs["blstats"][[nethack.NLE_BL_DEPTH, nethack.NLE_BL_DLEVEL]] = 9
    assert press(player, obs) == "a"
    assert player.doing == "dig_on"
    alone = screen("-----", "|..d|", "|.@.|", "-----", items=items, turn=9000)
    alone["blstats"][[nethack.NLE_BL_DEPTH, nethack.NLE_BL_DLEVEL]] = 9
    assert press(NetHackExpert(), alone) == "u"


def test_the_stairs_beside_the_main_ones_lead_to_the_mines():
    level = Level(stairs_down=0b1010)
    assert descent.side_down(level) == 0
    level.note_stairs(1, side=False)
    assert descent.side_down(level) == 0b1000
    level.note_stairs(3, side=True)
    assert descent.side_down(level) == 0b1000


def test_the_demonstrator_has_none_of_these_tactics():
    player = NetHackDemonstrator()
    key(player, *ROOM, hp=2)
    assert key(player, "-----", "|@d.|", "|...|", "-----", hp=8, turn=600) == "l"


def test_is_recorded_by_name(tmp_path):
    demonstrate(player="expert", games=1, max_steps=60, processes=1, output=str(tmp_path / "out"))
    (line,) = (tmp_path / "out" / "games.jsonl").read_text().splitlines()
    assert json.loads(line)["options"] == {"character": "@", "player": "expert"}
    assert "expert" in PLAYERS
