import json

import pandas as pd
import pytest

from agent_scaling.playing.rollouts.rollout import rollout
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.jobs import SLURM, Part, find_part

SETTINGS = {"ckpt": "random", "max_episode_steps": 20, "device": "cpu", "workers": 1, "lanes": 4}


def run(folder, **changes):
    rollout(**{**SETTINGS, "episodes": 7, "seed": 3, "output": str(folder), **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    for number in (3, 1):
        run(folder, shard=f"{number}/3")
    assert not (folder / "episodes.parquet").exists()
    run(folder, shard="2/3")
    return folder


@pytest.fixture
def copied(parts, tmp_path):
    """The parts, without what was merged."""
    for path in (parts / "parts").iterdir():
        target = tmp_path / "parts" / path.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    return tmp_path


def same(folder, whole):
    tables = [pd.read_parquet(where / "episodes.parquet") for where in (folder, whole)]
    pd.testing.assert_frame_equal(*tables)
    texts = [(where / "summary.json").read_text() for where in (folder, whole)]
    assert texts[0] == texts[1]


def test_the_last_part_makes_the_undivided_table(parts, whole):
    same(parts, whole)


def test_parts_are_merged_when_asked_to(copied, whole):
    run(copied, merge=True)
    same(copied, whole)


def test_more_parts_than_episodes(tmp_path, whole):
    for number in range(1, 10):
        run(tmp_path, shard=f"{number}/9")
    same(tmp_path, whole)


def refused(folder, match, **changes):
    with pytest.raises(InputError, match=match) as error:
        run(folder, merge=True, **changes)
    assert "\n" not in str(error.value)
    assert not (folder / "episodes.parquet").exists()


def test_a_missing_part_is_named(copied):
    (copied / "parts" / "2-of-3.parquet").unlink()
    refused(copied, "missing 2/3")


def test_parts_of_two_divisions_are_refused(copied):
    with pytest.raises(InputError, match="1/3 and 1/2 overlap"):
        run(copied, shard="1/2")  # before it is played
    path = copied / "parts" / "1-of-3.parquet"
    path.with_name("1-of-2.parquet").write_bytes(path.read_bytes())
    refused(copied, "1/2 and 1/3 overlap")


def test_a_part_with_other_seeds_is_refused(copied):
    path = copied / "parts" / "2-of-3.parquet"
    path.write_bytes((copied / "parts" / "1-of-3.parquet").read_bytes())
    refused(copied, "2-of-3.parquet: holds other seeds")


@pytest.mark.parametrize(
    ("key", "value"), [("temperature", 0.5), ("seed", 4), ("level_seed", 1), ("episodes", 8)]
)
def test_a_part_with_other_settings_is_refused_by_name(copied, key, value):
    refused(copied, f"1-of-3.json: was played with {key}=", **{key: value})


def test_a_checkpoint_that_has_changed_is_noticed(copied):
    path = copied / "parts" / "3-of-3.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"ckpt_sha256": "0"}))
    refused(copied, "3-of-3.json: was played with ckpt_sha256=")


def test_nothing_to_merge(tmp_path):
    refused(tmp_path, "no parts")


def test_replays_are_refused_for_parts(tmp_path):
    with pytest.raises(InputError, match="replay="):
        run(tmp_path / "out", shard="1/2", replay=True)
    assert not (tmp_path / "out").exists()


def test_a_slurm_array_says_which_part():
    def part(task, first, count):
        return find_part("slurm", dict(zip(SLURM, (task, first, count), strict=True)))

    assert part("0", "0", "8") == Part(1, 8)
    assert part("8", "1", "8") == Part(8, 8)
    with pytest.raises(InputError, match="gaps"):
        part("9", "1", "5")
    with pytest.raises(InputError, match="SLURM_ARRAY_TASK_ID"):
        find_part("slurm", {})


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3"])
def test_parts_that_cannot_be_are_refused(shard):
    with pytest.raises(InputError, match="shard="):
        find_part(shard)
