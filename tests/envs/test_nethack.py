import warnings
from pathlib import Path

import numpy as np
import pytest
from nle import nethack
from nle.env.tasks import NetHackScore

from agent_scaling.envs.nethack import KEYS, NetHack
from agent_scaling.envs.nethack.progression import progression
from agent_scaling.envs.seeds import game_seeds
from agent_scaling.runtime.errors import InputError

MOVES = [1, 2, 3, 4, 5, 6, 7, 20, 62, 93]  # directions, kick-like commands, some menus


def blank_views():
    return {name: np.zeros(shape, dtype) for name, (shape, dtype) in NetHack.observations.items()}


@pytest.fixture
def game():
    made = []

    def make(**options):
        made.append(NetHack(blank_views(), **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def shown(game):
    return {name: array.copy() for name, array in game._buffers.items() if name != "internal"}


def play_through(game, seed, steps, rng_seed=0):
    """Frames before each action, and the record if the episode ended."""
    rng = np.random.default_rng(rng_seed)
    game.reset(seed)
    frames = []
    for _ in range(steps):
        frames.append(shown(game)["tty_chars"])
        record = game.step(int(rng.choice(MOVES)))
        if record is not None:
            return frames, record
    return frames, None


def test_same_as_nle_itself(game):
    """The reference: NLE's environment under the same settings and seeds."""
    seed, rng = 5, np.random.default_rng(1)
    seeds = game_seeds(seed)
    reference = NetHackScore(
        character="@",
        actions=nethack.ACTIONS,
        allow_all_yn_questions=True,
        allow_all_modes=True,
        penalty_step=0.0,
        max_episode_steps=100_000,
        observation_keys=tuple(KEYS.values()),
        fix_moon_phase=True,
    )
    ours = game()
    try:
        reference.unwrapped.seed(seeds.core, seeds.display, reseed=False, lgen=seeds.levels)
        frame, _ = reference.reset()
        ours.reset(seed)
        total = 0.0
        for _ in range(1500):
            for name in KEYS.values():
                np.testing.assert_array_equal(frame[name], ours._buffers[name], err_msg=name)
            action = int(rng.integers(0, 121))
            frame, reward, done, _, _ = reference.step(action)
            record = ours.step(action)
            total += reward
            assert done == (record is not None)
            if done:
                assert record["return"] == total
                break
    finally:
        reference.close()


def test_an_episode_is_a_function_of_its_seed(game):
    one, other = game(), game()
    play_through(other, 3, 50)  # what was played before does not matter
    frames, record = play_through(one, 8, 400)
    again, record_again = play_through(other, 8, 400)
    np.testing.assert_array_equal(frames, again)
    assert record == record_again
    different, _ = play_through(other, 9, 5)
    assert (different[0] != frames[0]).any()


def test_the_wall_clock_does_not_matter(game):
    """NetHack takes shopkeepers' names and gem prices from the player's birthday."""
    import ctypes
    import os
    from _ctypes import dlclose

    one = game()
    one.reset(8)
    library = ctypes.CDLL(one._nethack.dlpath, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    birthday = ctypes.c_long.in_dll(library, "ubirthday").value
    dlclose(library._handle)
    assert birthday == game_seeds(8).birthday


def test_the_step_cap_ends_an_episode_at_exactly_its_steps(game):
    _, record = play_through(game(max_episode_steps=37), 1, 100)
    assert (record["steps"], record["end"], record["death"]) == (37, "cap", "")


def test_steps_without_progress_are_counted_once(game):
    one = game(idle_steps=25)
    one.reset(2)
    escape = [int(key) for key in nethack.ACTIONS].index(27)
    steps = 1
    while (record := one.step(escape)) is None:
        steps += 1
    # The first step learns the clock; the 25 after it see it stand still.
    assert (record["steps"], record["end"]) == (steps, "aborted")
    assert steps == 26


def test_progression_counts_the_highest_level_of_experience_that_was_shown(game):
    one = game(max_episode_steps=30)
    one.reset(1)
    while (record := one.step(MOVES[0])) is None:
        one._highest = max(one._highest, 9)  # as after a drain from level 9
    assert record["level"] == 1
    assert record["progression"] == progression(record["max_depth"], 9) > progression(1, 1)


def test_quitting_is_told_from_dying(game):
    one = game()
    one.reset(2)
    keys = [int(key) for key in nethack.ACTIONS]
    assert one.step(keys.index(0x80 | ord("q"))) is None
    record = one.step(keys.index(ord("y")))
    assert record["end"] == "quit"
    assert record["turns"] == 1


def test_a_half_typed_line_at_the_cap_leaves_a_log_all_the_same(game):
    one = game(max_episode_steps=4)
    one.reset(2)
    keys = [int(key) for key in nethack.ACTIONS]
    for key in b"#de":
        assert one.step(keys.index(key)) is None
    record = one.step(keys.index(ord("e")))
    assert record["end"] == "cap"
    assert record["role"] != "unknown"


def test_the_record_agrees_with_the_screen(game):
    one = game(character="val-dwa-fem-law", max_episode_steps=20)
    _, record = play_through(one, 4, 50)
    assert [record[key] for key in ("role", "race", "gender", "alignment")] == [
        "Val",
        "Dwa",
        "Fem",
        "Law",
    ]
    assert record["level"] == 1
    assert record["max_depth"] == 1
    seeds = game_seeds(4)
    assert [record[f"{kind}_seed"] for kind in ("core", "display", "lgen")] == [
        seeds.core,
        seeds.display,
        seeds.levels,
    ]


def test_what_is_shown_changes_no_episode():
    records = []
    for names in (NetHack.observations, ("chars",)):
        views = {name: array for name, array in blank_views().items() if name in names}
        one = NetHack(views, max_episode_steps=60)
        records.append(play_through(one, 4, 100))
        one.close()
    (frames, record), (same_frames, same_record) = records
    assert record == same_record
    np.testing.assert_array_equal(frames, same_frames)


def test_a_level_seed_fixes_the_dungeon_but_not_the_play(game):
    def first_level(one, seed):
        one.reset(seed)
        return shown(one)["tty_chars"][1:22], one._seeds

    one = game(character="val-hum-fem-law", level_seed=7)
    (here, seeds), (there, others) = first_level(one, 1), first_level(one, 2)
    walls = [np.isin(level, [ord("|"), ord("-")]) for level in (here, there)]
    assert walls[0].sum() > 10
    np.testing.assert_array_equal(*walls)
    assert seeds.levels == others.levels == 7
    assert seeds.core != others.core
    free = game(character="val-hum-fem-law")
    assert (first_level(free, 1)[0] != here).any()


def test_games_share_the_pages_of_their_code(game):
    """The kernel's own count: the code of five games, each a copy of the library, is there once."""
    games = [game() for _ in range(5)]
    for one in games:
        one.reset(1)
    maps = Path("/proc/self/maps").read_text().splitlines()
    code = [line for line in maps if " r-xp " in line and line.endswith("/libnethack.so")]
    assert len(code) == 5
    assert not [line for line in maps if " r-xp " in line and "nle.so" in line]


@pytest.mark.parametrize("character", ["val-elf", "val-mal", "dwa-cha", "kni-neu", "arc-dwa-neu"])
def test_a_character_that_nethack_would_replace_is_refused(character):
    with pytest.raises(InputError, match="NetHack has no such character"):
        NetHack(blank_views(), character=character)


@pytest.mark.parametrize("character", ["xyz", "val-val", "val-dwa-hum", ""])
def test_unknown_characters_are_refused(character):
    with pytest.raises(InputError, match="character="):
        NetHack(blank_views(), character=character)


def test_recordings_are_read_by_nle(tmp_path):
    from nle.dataset import TtyrecDataset, add_nledata_directory, db

    steps = {}
    one = NetHack(blank_views(), max_episode_steps=60, record_dir=str(tmp_path))
    for seed in (1, 2):
        frames, record = play_through(one, seed, 100)
        steps[seed] = (frames, record)
    one.reset(3)  # never finished
    one.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nle_data"]
    assert sorted(p.name for p in (tmp_path / "nle_data").iterdir()) == ["seed-1", "seed-2"]

    path = str(tmp_path / "ttyrecs.db")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        db.create(path)
        add_nledata_directory(str(tmp_path / "nle_data"), "ours", path)
        data = TtyrecDataset("ours", batch_size=1, seq_length=50, dbfilename=path, shuffle=False)
        first = next(iter(data))
    frames = steps[1][0]
    # NLE presses keys of its own before the first decision: our first frame comes a little later.
    recorded = [bytes(frame.tobytes()) for frame in first["tty_chars"][0]]
    assert frames[0].tobytes() in recorded
    at = recorded.index(frames[0].tobytes())
    for ours, theirs in zip(frames, recorded[at:], strict=False):
        assert ours.tobytes() == theirs


def test_many_resets_leak_neither_memory_nor_files(tmp_path, monkeypatch):
    import psutil

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    one = NetHack(blank_views())
    process = psutil.Process()
    for seed in range(200):
        one.reset(seed)
    files, memory = len(list(tmp_path.rglob("*"))), process.memory_info().rss
    for seed in range(200, 1200):
        one.reset(seed)
    assert process.memory_info().rss - memory < 5e6
    assert len(list(tmp_path.rglob("*"))) <= files
    one.close()
    assert list(tmp_path.iterdir()) == []
