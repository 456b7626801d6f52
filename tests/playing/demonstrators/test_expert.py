"""The expert's tactics on small drawn maps, and its place among the players."""

from __future__ import annotations

import json

import pytest
from nle import nethack

from agent_scaling.envs.actions import action_to_key
from agent_scaling.playing.demonstrators.demonstrate import demonstrate
from agent_scaling.playing.demonstrators.games.nethack import PLAYERS
from agent_scaling.playing.demonstrators.nethack import NetHackDemonstrator, NetHackExpert
from agent_scaling.playing.demonstrators.nethack.expert import (
    arms,
    descent,
    dive,
    identity,
    mining,
    prayer,
    provisions,
    refuge,
)
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
    assert prayer.FIRST > 100  # then the timeout of 300 is still above 200
    assert key(NetHackExpert(), *ROOM, hp=2, turn=prayer.FIRST - 1) != PRAY
    assert key(NetHackExpert(), *ROOM, hp=2, turn=prayer.FIRST) == PRAY


def test_an_angry_god_is_left_alone():
    player = prayed(500)
    key(player, *ROOM, turn=505, message="You feel that Anu is displeased.")
    assert key(player, *ROOM, hp=2, turn=5000) != PRAY


def test_a_monk_that_feels_guilty_over_meat_still_prays():
    for message, prays in (("You feel guilty.", True), ("You feel guilty...", False)):
        player = NetHackExpert()
        key(player, *ROOM, turn=505, message=message)
        assert player.notes.forsaken is not prays
        assert prayer.may_pray(player, player.view) is prays


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
    assert key(player, *rows, hp=8, turn=601) == ":"  # to read it over takes no time
    assert key(player, *rows, hp=8, turn=601, message='You read: "Elbereth".') == "s"  # it holds
    assert key(player, *rows, hp=7, turn=602) == ":"  # or not?
    assert key(player, *rows, hp=7, turn=602, message='You read: "Elbcreth".') == "E"
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


def test_hits_a_floating_eye_by_hand_at_last():
    player, rows = NetHackExpert(), ("     ", " #e@ ", "     ")
    items = [("a", 2, "a long sword (weapon in hand)")]
    assert key(player, *rows, items=items) != "h"
    player = NetHackExpert()
    player.levels[0, 1] = Level(steps=arms.STRIKE_AFTER)
    assert key(player, *rows, items=items) == "h"


def test_a_wizard_s_force_bolt_clears_the_way():
    player = NetHackExpert()
    player.role = "Wizard"
    obs = screen("     ", " #e@ ", "     ")
    obs["blstats"][nethack.NLE_BL_ENE] = 5
    assert press(player, obs) == "Z"


@pytest.mark.parametrize(("hp", "hits"), [(arms.EXPLOSION, False), (arms.EXPLOSION + 1, True)])
def test_hits_a_gas_spore_only_where_its_explosion_can_be_borne(hp, hits):
    player, obs = NetHackExpert(), screen("     ", " #.@ ", "     ", hp=hp)
    obs["blstats"][nethack.NLE_BL_HPMAX] = hp
    obs["glyphs"][9, 32] = arms.GAS_SPORE
    assert obs["glyphs"][9, 33] != arms.GAS_SPORE
    player.act(obs)
    spore = player.level.creatures(arms.GAS_SPORE)
    player.level.here = spore.bit_length()  # one cell to its right
    player.level.walkable |= 1 << player.level.here
    choice = arms.clear_way(player, player.view, player.level)
    assert (choice is not None) is hits


def test_hits_whom_a_zap_may_have_put_to_sleep():
    player, rows = NetHackExpert(), ("-----", "|@d.|", "-----")
    items = [("w", 11, "a wand of sleep (0:5)")]
    assert key(player, *rows, items=items, hp=8, turn=300) == "z"
    assert key(player, *rows, items=items, hp=8, turn=301) == "l"
    assert key(player, *rows, items=items, hp=8, turn=300 + arms.ZAP_AGAIN) == "z"


def test_goes_up_from_an_archer_instead_of_resting_under_fire():
    player = NetHackExpert()
    obs = screen("-----", "|<@.|", "-----", hp=9)
    assert press(player, obs) == "2"
    assert player.doing == "rest"
    obs = screen("-----", "|<@.|", "-----", hp=8, message="You are hit by an arrow.", turn=520)
    player = NetHackExpert()
    assert press(player, obs) == "h"


def test_goes_for_no_meal_while_hurt_unless_hungry():
    for hp, hunger, eats in ((20, 1, True), (9, 1, False), (9, 2, True)):
        player = NetHackExpert()
        player.act(screen(*ROOM, hp=hp, hunger=hunger))
        player.corpses = {player.level.here: 500}
        assert (provisions.eat(player, player.view, player.level) is not None) is eats


@pytest.mark.parametrize(
    ("slain", "eats"), [("kill the jackal", 1), ("destroy the jackal zombie", 0)]
)
def test_eats_no_zombie(slain, eats):
    player, rows = NetHackExpert(), ("-----", "|@d.|", "-----")
    assert key(player, *rows) == "l"
    obs = screen("-----", "|@..|", "-----", message=f"You {slain}!")
    obs["glyphs"][9, 32] = nethack.GLYPH_BODY_OFF + 12  # a jackal's corpse
    player.act(obs)
    assert len(player.corpses) == eats


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


PICK = ("a", 6, "a pick-axe (weapon in hand)")
LIST = " You are a Stripling, a level 1 dwarven Valkyrie."


def deep(player, *rows, depth=9, level=3, **kwargs):
    """The key that a player with a pick-axe presses in the main dungeon."""
    obs = screen(*rows, items=[PICK], **{"turn": 9000, **kwargs})
    bl = obs["blstats"]
    bl[[nethack.NLE_BL_DEPTH, nethack.NLE_BL_DLEVEL, nethack.NLE_BL_XP]] = depth, depth, level
    return press(player, obs)


def test_dives_once_strong_enough_or_late():
    begin = {"depth": 2, "turn": 600, "level": 2}
    assert deep(NetHackExpert(), *ROOM, **begin) != "a"
    late = NetHackExpert()
    assert deep(late, *ROOM, **begin | {"turn": dive.LATE}) == "a"
    asked = "In what direction do you want to dig? [hjkl>]"
    assert deep(late, *ROOM, message=asked, prompt=(1, 0, 0)) == ">"


def test_a_diver_hits_the_weak_and_writes_under_the_strong():
    assert deep(NetHackExpert(), "-----", "|..d|", "|.@.|", "-----", level=1) == "u"
    player = NetHackExpert()
    assert deep(player, "-----", "|ddd|", "|.@.|", "-----") == "E"
    assert player.doing == "dive"


def test_a_diver_writes_in_its_pit_and_digs_on():
    player = NetHackExpert()
    assert deep(player, *ROOM) == "a"
    assert deep(player, *ROOM, message="with what? [a]", prompt=(1, 0, 0)) == "\x1b"
    assert deep(player, *ROOM, message="You dig a pit in the floor.") == "E"
    assert deep(player, *ROOM, message="write with? [- a]", prompt=(1, 0, 0)) == "-"
    asked = "What do you want to write in the dust here?"
    typed = [deep(player, *ROOM, message=asked, prompt=(0, 1, 0)) for _ in range(9)]
    assert "".join(typed) == "Elbereth\r"
    assert deep(player, *ROOM) == ":"
    assert deep(player, *ROOM, message='You read: "Elbereth".') == "a"


def test_a_hurt_diver_rests_before_the_first_levels_and_not_in_the_depths():
    assert deep(NetHackExpert(), *ROOM, depth=3, hp=9) == "2"
    assert deep(NetHackExpert(), *ROOM, depth=9, hp=9) == "a"


def test_a_diver_digs_on_beside_those_who_fear_no_word():
    player, rows = NetHackExpert(), ("-----", "|@..|", "-----")
    assert deep(player, *rows) == "a"
    obs = {"message": "You dig a pit in the floor.", "items": [PICK]}
    shown = screen(*rows, turn=9001, **obs)
    shown["glyphs"][9, 32] = refuge.HUMAN
    shown["blstats"][[nethack.NLE_BL_DEPTH, nethack.NLE_BL_DLEVEL, nethack.NLE_BL_XP]] = 9, 9, 3
    assert press(player, shown) == "a"


def test_near_medusa_a_diver_writes_before_there_is_a_pit():
    assert deep(NetHackExpert(), *ROOM, depth=dive.MEDUSA - 1) == "a"
    assert deep(NetHackExpert(), *ROOM, depth=dive.MEDUSA) == "E"


@pytest.mark.parametrize("why", ["You can't reach the floor.", "You have no free hand to write"])
def test_a_diver_that_cannot_write_digs(why):
    player = NetHackExpert()
    assert deep(player, *ROOM, depth=dive.MEDUSA) == "E"
    assert deep(player, *ROOM, depth=dive.MEDUSA, message=why) in "Ea"
    assert player.doing == "dive"
    assert deep(player, *ROOM, depth=dive.MEDUSA, message=why) != ":"


def test_steps_from_under_a_boulder_to_dig():
    under = "There isn't enough room to dig in here."
    assert deep(NetHackExpert(), *ROOM, message=under) in "hl"


@pytest.mark.parametrize("below", [0, 11])  # the second in the map's last row
def test_hits_what_has_swallowed_it(below):
    player, obs = NetHackExpert(), screen(*ROOM)
    obs["blstats"][nethack.NLE_BL_Y] += below
    row, column = obs["blstats"][nethack.NLE_BL_Y], obs["blstats"][nethack.NLE_BL_X]
    obs["glyphs"][row, column + 1] = nethack.GLYPH_SWALLOW_OFF + 4
    assert press(player, obs) == "F"


def test_takes_its_shield_off_for_a_mattock_once():
    mattock = ("m", 2, "a dwarvish mattock")
    items = [mattock, ("b", 3, "an uncursed +3 small shield (being worn)")]
    player = NetHackExpert()
    assert key(player, *ROOM, items=items) == "T"
    assert key(player, *ROOM, items=items, message="take off? [b]", prompt=(1, 0, 0)) == "\x1b"
    assert key(player, *ROOM, items=items) != "T"


def test_prays_over_a_cursed_weapon_that_keeps_it_from_digging():
    player = NetHackExpert()
    welded = "Since your weapon is welded to your hand, you cannot swing that pick-axe."
    assert deep(player, *ROOM) == "a"
    assert deep(player, *ROOM, message=welded) == PRAY
    other = prayed(8_500)
    assert deep(other, *ROOM, message=welded) != PRAY
    assert not dive.dives(other, other.view)


def test_no_hole_is_dug_into_goods_for_sale_nor_beside_water():
    player, rows = NetHackExpert(), ("-----", "|.@.|", "|...|", "-----")
    player.level.shop = True
    player.levels[0, 9] = player.level
    assert deep(player, *rows, message="You see here a plate mail (for sale).") in "hlbjn"
    wet = ("------", "|}@..|", "|}...|", "------")
    assert deep(NetHackExpert(), *wet) in "ln"


def test_stands_beside_an_altar_to_dig():
    player = NetHackExpert()
    assert deep(player, *ROOM, message="The altar is too hard to break apart!") != "a"


def test_a_dwarf_s_corpse_hides_what_it_carried():
    player, rows = NetHackExpert(), ("-----", "|@d.|", "-----")
    assert key(player, *rows) == "l"
    assert key(player, "-----", "|@..|", "-----", message="You kill the dwarf!") == "l"
    assert player.doing == "fetch"
    assert key(player, "-----", "|.@.|", "-----") == ","
    assert player.doing == "fetch"


def test_lifts_a_pick_axe_with_trouble_and_nothing_else():
    player = NetHackExpert()
    player.level.loot = 1
    choice = provisions.fetch(player, View(screen(*ROOM)), player.level)
    assert choice is not None
    lift = choice.answers["trouble lifting"]
    for thing, answer in (("a pick-axe", "y"), ("a dwarf corpse", "n")):
        asked = f"You have a little trouble lifting {thing}. Continue?"
        assert lift(View(screen(*ROOM, message=asked))) == answer


def test_asks_for_role_and_race_in_the_first_turn():
    player = NetHackExpert()
    assert key(player, *ROOM, turn=1) == identity.ATTRIBUTES
    obs = screen(*ROOM, turn=1, prompt=(0, 0, 1))
    obs["tty_chars"][5, : len(LIST)] = list(LIST.encode())
    player.act(obs)
    assert player.role == "Valkyrie"
    assert "dwar" in player.kin
    assert key(player, *ROOM, turn=1) != identity.ATTRIBUTES


def test_only_kin_in_need_of_a_pick_axe_rob_peaceful_dwarves():
    asked = "Really attack the peaceful dwarf?"
    for kin, answer in ((("dwar",), "y"), ((), "\x1b")):
        player = NetHackExpert()
        player.kin += kin
        obs = screen("-----", "|@d.|", "-----", hp=20)
        obs["blstats"][nethack.NLE_BL_XP] = 3
        assert press(player, obs) == "l"
        obs = screen("-----", "|@d.|", "-----", message=asked, prompt=(1, 0, 0))
        obs["blstats"][nethack.NLE_BL_XP] = 3
        assert press(player, obs) == answer
        assert player.notes.forsaken is bool(kin)


def test_goes_back_to_the_mines_twice_and_no_more():
    player, obs = NetHackExpert(), screen("-----", "|.@.|", "-----", turn=700)
    bl = obs["blstats"]
    bl[[nethack.NLE_BL_DLEVEL, nethack.NLE_BL_DEPTH, nethack.NLE_BL_XP]] = 3, 3, 3
    bl[[nethack.NLE_BL_HP, nethack.NLE_BL_HPMAX]] = 30, 30
    player.levels[0, 2] = Level(stairs_down=0b1010, side_stairs=0b10)
    player.act(obs)
    level, view = player.level, player.view
    level.stairs_up = 1 << level.here
    taken = [mining.seek_mines(player, view, level) for _ in range(3)]
    assert [choice and choice.keys for choice in taken] == ["<", "<", None]


def test_digs_a_way_to_stairs_that_no_gap_leads_to():
    player = NetHackExpert()
    obs = screen("----------", "|@.--...<|", "----------", items=[PICK])
    obs["blstats"][nethack.NLE_BL_DNUM] = mining.MINES
    player.act(obs)
    level, view = player.level, player.view
    walk = mining.tunnel(player, view, level, level.stairs_up)
    assert walk is not None
    assert walk.keys == "l"
    level.here += 1
    dig = mining.tunnel(player, view, level, level.stairs_up)
    assert dig is not None
    assert (dig.keys, dig.answers["direction"]) == ("a", "l")


def test_takes_a_pick_axe_in_hand_instead_of_a_whip():
    items = [("a", 2, "a +2 bullwhip (weapon in hand)"), ("e", 6, "a pick-axe (alternate weapon)")]
    player = NetHackExpert()
    assert key(player, *ROOM, items=items) == "w"
    asked = "What do you want to wield? [- ae or ?*]"
    assert key(player, *ROOM, items=items, message=asked, prompt=(1, 0, 0)) == "e"


def test_the_stairs_beside_the_main_ones_lead_to_the_mines():
    level = Level(stairs_down=0b1010)
    assert mining.side_down(level) == 0
    level.note_stairs(1, side=False)
    assert mining.side_down(level) == 0b1000
    level.note_stairs(3, side=True)
    assert mining.side_down(level) == 0b1000


def test_the_demonstrator_has_none_of_these_tactics():
    player = NetHackDemonstrator()
    key(player, *ROOM, hp=2)
    assert key(player, "-----", "|@d.|", "|...|", "-----", hp=8, turn=600) == "l"


def test_is_recorded_by_name(tmp_path):
    demonstrate(player="expert", games=1, max_steps=60, processes=1, output=str(tmp_path / "out"))
    (line,) = (tmp_path / "out" / "games.jsonl").read_text().splitlines()
    assert json.loads(line)["options"] == {"character": "@", "player": "expert"}
    assert "expert" in PLAYERS
