import sys

import numpy as np
import pytest

from agent_scaling.envs.pool.pool import Pool
from agent_scaling.envs.tasks import Task, action_keys, make_environment
from agent_scaling.runtime.errors import InputError

TASKS = ["NetHackScore-v0", "NetHackStaircase-v0", "MiniHack-Room-Random-5x5-v0"]


@pytest.fixture
def task():
    made = []

    def make(name, **options):
        views = {n: np.zeros(shape, dtype) for n, (shape, dtype) in Task.observations.items()}
        made.append(Task(views, task=name, **options))
        return made[-1], views

    yield make
    for one in made:
        one.close()


def played(game, views, seed, steps=80):
    """Screens, rewards and the record of an episode of random actions."""
    rng, screens, rewards = np.random.default_rng(seed), [], []
    game.reset(seed)
    for _ in range(steps):
        screens.append(views["chars"].copy())
        record = game.step(int(rng.integers(8)))
        rewards.append(views["reward"][0].item())
        if record is not None:
            return screens, rewards, record
    return screens, rewards, None


@pytest.mark.parametrize("name", TASKS)
def test_an_episode_is_a_function_of_its_seed(task, name):
    one, views = task(name, max_episode_steps=50)
    other, other_views = task(name, max_episode_steps=50)
    played(other, other_views, 3)
    (screens, rewards, record), again = played(one, views, 8), played(other, other_views, 8)
    np.testing.assert_array_equal(screens, again[0])
    assert (rewards, record) == again[1:]
    assert record["steps"] == len(rewards) <= 50
    assert record["return"] == pytest.approx(sum(rewards), abs=1e-5)
    different, _, _ = played(one, views, 9)
    assert (different[0] != screens[0]).any()


def test_it_is_what_gymnasium_plays():
    """The reference: the environment itself, under the same seeds."""
    from agent_scaling.envs.seeds import game_seeds

    views = {n: np.zeros(shape, dtype) for n, (shape, dtype) in Task.observations.items()}
    ours, theirs = Task(views, task="NetHackScore-v0"), make_environment("NetHackScore-v0")
    try:
        seeds, rng = game_seeds(4), np.random.default_rng(0)
        theirs.seed(seeds.core, seeds.display, reseed=False, lgen=seeds.levels)
        frame, _ = theirs.reset()
        ours.reset(4)
        for _ in range(300):
            np.testing.assert_array_equal(frame["tty_chars"], views["chars"])
            np.testing.assert_array_equal(frame["blstats"], views["blstats"])
            action = int(rng.integers(len(theirs.actions)))
            frame, reward, done, _, _ = theirs.step(action)
            record = ours.step(action)
            assert views["reward"][0] == np.float32(reward)
            assert done == (record is not None)
            if done:
                break
    finally:
        ours.close()
        theirs.close()


def test_a_solved_room_says_so_and_a_level_seed_keeps_the_room(task):
    game, views = task("MiniHack-Room-Random-5x5-v0", level_seed=7)
    records = [played(game, views, seed, 200) for seed in range(6)]
    assert {record["end"] for _, _, record in records} <= {"solved", "cap"}
    solved = [rewards for _, rewards, record in records if record["end"] == "solved"]
    assert solved
    assert all(rewards[-1] == 1 for rewards in solved)
    rooms = [screens[0][1:22] for screens, _, _ in records]
    assert all((room == rooms[0]).all() for room in rooms)


def test_new_cells_add_to_the_reward_and_not_to_the_return(task):
    """The same keys are pressed with and without the bonus; a cell pays once in an episode."""
    plain, views = task("NetHackScore-v0", max_episode_steps=60)
    rich, rich_views = task("NetHackScore-v0", max_episode_steps=60, new_cell=0.5)
    screens, rewards, record = played(plain, views, 5)
    seen = np.zeros((21, 80), bool)
    cells = []
    for screen in screens:  # keys that move open no menu, so that these rows show the map alone
        seen |= screen[1:22] != ord(" ")
        cells.append(int(seen.sum()))
    for _ in range(2):  # an episode forgets the cells of the one before
        _, with_bonus, rich_record = played(rich, rich_views, 5)
        assert rich_record == record
        bonus = np.subtract(with_bonus, rewards)
        np.testing.assert_allclose(bonus[:-1], 0.5 * np.diff(cells), atol=1e-5)
    assert cells[-1] > cells[0]


def test_tasks_have_actions_of_their_own():
    assert len(action_keys("NetHackScore-v0")) == 23
    assert len(action_keys("MiniHack-Room-5x5-v0")) == 8


def test_a_pool_plays_tasks():
    options = {"task": "MiniHack-Room-5x5-v0", "max_episode_steps": 5}
    with Pool(
        "agent_scaling.envs.tasks:Task", lanes=2, workers=1, groups=1, options=options
    ) as pool:
        for lane in range(2):
            pool.assign(lane, lane)
        ended = []
        while len(ended) < 2:
            pool.send(0)
            ended += pool.receive(0).ended
            pool.actions[:] = 0
    assert {(record["end"], record["steps"]) for _, record in ended} == {("cap", 5)}


@pytest.mark.parametrize("name", ["NetHackChess-v0", "MiniHack-Nowhere-v0", "NetHackChallenge-v0"])
def test_unknown_tasks_are_refused(name):
    with pytest.raises(InputError, match="task="):
        make_environment(name)


def test_minihack_is_imported_without_what_takes_seconds_and_is_of_no_use_alone():
    make_environment("MiniHack-Room-5x5-v0").close()
    from minihack import wiki

    assert wiki.import_error.name == "inflect"  # not stanza, which comes after it
    assert "inflect" not in sys.modules


def test_a_missing_minihack_is_said_with_its_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "minihack", None)
    with pytest.raises(InputError, match=r"agent-scaling\[minihack\]"):
        make_environment("MiniHack-Room-5x5-v0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('MAZE:"mylevel",\' \'\nMONSTER:"dust vortex"\n', r"does not compile: line.*syntax error"),
        ("MAZE:\"other\",' '\nGEOMETRY:center,center\nMAP\n...\nENDMAP\n", "no level 'mylevel'"),
        (None, "no such file"),
    ],
)
def test_a_level_that_is_not_there_is_refused_and_no_other_is_played(tmp_path, text, said):
    """MiniHack prints what is wrong, and plays another level."""
    path = tmp_path / "mine.des"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=said):
        make_environment("MiniHack-Skill-Custom-v0", des_file=str(path))
    if text is not None:
        with pytest.raises(InputError, match=said):
            make_environment("MiniHack-Skill-Custom-v0", des_file=text)


def test_levels_of_minihack_and_of_ones_own_are_played(tmp_path):
    path = tmp_path / "mine.des"
    path.write_text("MAZE:\"mylevel\",' '\nGEOMETRY:center,center\nMAP\n...\nENDMAP\n")
    for file in (str(path), "corridor2.des"):
        make_environment("MiniHack-Skill-Custom-v0", des_file=file).close()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("MiniHack-Boxoban-Unfiltered-v0", "download_boxoban_levels"),
        ("MiniHack-Navigation-Custom-v0", "options.des_file="),
        ("MiniHack-Skill-Custom-v0", "options.des_file="),
    ],
)
def test_a_task_that_lacks_its_level_is_one_line(name, said):
    with pytest.raises(InputError, match=said) as raised:
        make_environment(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"penalty_mode": "foo"}, "cannot be played: Unknown penalty_mode"),
        ({"character": "zzz"}, "character='zzz' is not"),
        ({"actions": []}, r"options\.actions=\[\]: must be a list of key codes"),
        ({"actions": [107, 9999]}, "must be a list of key codes"),
        ({"actions": "abc"}, "must be a list of key codes"),
    ],
)
def test_options_that_the_game_would_take_later_or_not_at_all(options, said):
    with pytest.raises(InputError, match=said):
        Task.count_actions(task="NetHackScore-v0", **options)


def test_a_task_that_is_not_there_is_told_from_its_own_family():
    with pytest.raises(InputError, match=r"MiniHack-Boxoban.* did you mean MiniHack-Room-5x5-v0"):
        make_environment("MiniHack-Room-5x5")
