"""The verb ``compare``: paired differences, their intervals, and what is said of them."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from agent_scaling.envs.families import Description
from agent_scaling.playing.rollouts.compare import compare
from agent_scaling.playing.rollouts.pairs import difference, differences, notes, pair, verdict
from agent_scaling.playing.rollouts.rollout import rollout
from agent_scaling.runtime.errors import InputError
from tests.cli.test_cli import agent_scaling, one_line
from tests.helpers.policies import small_policy

NAMES = {"first": "A", "second": "B"}


def episodes(seeds, gain=0.0, spread=50.0):
    """A table whose seeds differ far more than its players do."""
    rng = np.random.default_rng(0)
    luck = {seed: 1000 * rng.random() for seed in range(1000)}
    noise = np.random.default_rng(int(10 * gain) + 1).normal(0, spread, len(seeds))
    scores = [luck[seed] + gain + one for seed, one in zip(seeds, noise, strict=True)]
    return pd.DataFrame({"seed": seeds, "return": scores, "end": "death", "core_seed": seeds})


def test_intervals_hold_the_true_difference_as_often_as_they_say():
    rng = np.random.default_rng(3)
    tries, held = 2000, 0
    for _ in range(tries):
        luck = rng.normal(0, 300, 12)
        low, high = difference(luck, luck + 20 + rng.normal(0, 40, 12)).interval
        held += low <= 20 <= high
    assert held / tries == pytest.approx(0.90, abs=0.02)


def test_pairs_show_what_two_means_would_not():
    first, second = episodes(range(40)), episodes(range(40), gain=60)
    found = differences(pair(first, second))["return"]
    assert found.sign == 1
    assert found.higher > found.lower
    apart = np.hypot(*(table["return"].std() / 40**0.5 for table in (first, second)))
    assert found.se < apart / 3
    assert verdict(found, "return", 40, NAMES).startswith("B is better: its return is ")
    turned = differences(pair(second, first))["return"]
    text = verdict(turned, "return", 40, {"first": "B", "second": "A"})
    assert text == verdict(found, "return", 40, NAMES)


def test_what_is_not_shown_is_not_said():
    found = differences(pair(episodes(range(8)), episodes(range(8), gain=5)))["return"]
    assert found.sign == 0
    text = verdict(found, "return", 8, NAMES)
    assert text.startswith("No difference in return is shown")
    assert "seeds would show it" in text
    one = differences(pair(episodes([3]), episodes([3], gain=5)))["return"]
    assert one.interval is None
    assert verdict(one, "return", 1, NAMES) == "One seed shows no difference: play more."
    same = differences(pair(episodes(range(8)), episodes(range(8))))["return"]
    assert verdict(same, "return", 8, NAMES).startswith("No difference in return: the mean is the")


def test_what_has_no_pair_is_left_out_and_said():
    first, second = episodes(range(6)), episodes(range(4, 12))
    second.loc[second["seed"] == 5, "end"] = "crashed"
    pairs = pair(first, second)
    assert pairs["seed"].tolist() == [4]
    assert notes(first, second, pairs) == [
        "5 of the 6 episodes of first have no pair; left out",
        "7 of the 8 episodes of second have no pair; left out",
    ]
    other = pair(first, first.assign(core_seed=7))
    assert notes(first, first, other) == ["the same seeds were other games: core_seed differ"]
    older, newer = (first.assign(versions=f"nle {n}") for n in (1, 2))
    assert notes(older, newer, pair(older, newer)) == [
        "the same seeds may be other games, since versions differ: nle 1 (6); nle 2 (6)"
    ]
    (line,) = notes(older, first, pair(older, first))
    assert line.endswith("since versions differ: nle 1 (6); unknown versions (6)")
    with pytest.raises(InputError, match="share no seed"):
        pair(first, episodes(range(100, 104)))
    with pytest.raises(InputError, match="first=: no table of episodes with each seed once"):
        pair(pd.concat([first, first]), first)


def save_policy(path):
    """A checkpoint of a policy that has learnt nothing, for episodes of 30 steps."""
    policy = small_policy()
    weights = {f"policy.{name}": value for name, value in policy.state_dict().items()}
    game = Description("nethack", {"max_episode_steps": 30}).to_dict()
    torch.save({"policy_config": policy.config, "state_dict": weights, "game": game}, path)
    return path


def test_two_checkpoints_and_their_tables_give_the_same(tmp_path, capsys):
    path = save_policy(tmp_path / "some.ckpt")
    how = {"device": "cpu", "workers": 1, "by": "steps"}
    played = compare(
        first="random", second=str(path), episodes=3, seed=4, output=str(tmp_path / "a"), **how
    )
    assert played["seeds"] == 3
    settings = json.loads((tmp_path / "a/first/settings.json").read_text())
    assert settings["options"] == {"max_episode_steps": 30}  # random plays the checkpoint's game
    folders = {side: str(tmp_path / "a" / side) for side in ("first", "second")}
    stored = compare(**folders, output=str(tmp_path / "b"), by="steps")
    assert stored["measures"] == played["measures"]
    assert stored["notes"] == []
    assert json.loads((tmp_path / "b/comparison.json").read_text()) == stored
    assert len(pd.read_csv(tmp_path / "b/pairs.csv")) == 3
    assert stored["verdict"] in capsys.readouterr().out
    rollout(
        ckpt=str(path), episodes=3, seed=4, temperature=0.5, output=str(tmp_path / "c"),
        device="cpu", workers=1,
    )  # fmt: skip
    noted = compare(
        first=str(tmp_path / "c"), second=folders["second"], output=str(tmp_path / "d")
    )["notes"]
    assert noted == ["played with temperature=0.5 and temperature=1.0"]


def test_the_command_takes_two_bare_paths(tmp_path, forked):
    episodes(range(40)).to_csv(tmp_path / "weak one.csv", index=False)
    episodes(range(40), gain=60).to_csv(tmp_path / "frames=2.csv", index=False)
    tables = [tmp_path / "weak one.csv", tmp_path / "frames=2.csv"]
    done = agent_scaling("compare", *tables, f"output={tmp_path}/out", program=forked)
    assert done.returncode == 0, done.stderr
    said = json.loads((tmp_path / "out/comparison.json").read_text())
    assert [said["first"], said["second"]] == [str(path) for path in tables]
    assert said["verdict"].startswith(f"{tables[1]} is better: its return is ")
    assert said["verdict"] in " ".join(done.stdout.split())
    again = agent_scaling("compare", tables[1], *tables, f"output={tmp_path}/no", program=forked)
    assert "one word too many; compare takes first and second" in one_line(again)
    assert not (tmp_path / "no").exists()


def test_the_command_plays_two_bare_checkpoints(tmp_path, forked):
    path = save_policy(tmp_path / "some.ckpt")
    done = agent_scaling(
        "compare", "random", path, "episodes=2", "workers=1", f"output={tmp_path}/out",
        program=forked,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads((tmp_path / "out/comparison.json").read_text())
    assert (said["first"], said["second"], said["seeds"]) == ("random", str(path), 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"second": "table.csv"}, "two tables, or two checkpoints"),
        ({"first": "missing.ckpt"}, "missing.ckpt"),
        ({"first": "."}, "no episodes.parquet in it"),
        ({"first": "table.csv", "second": "missing.parquet"}, "missing.parquet: cannot be read"),
        ({"first": "table.csv", "second": "table.csv", "by": "gold"}, "by=gold: not in both"),
        ({"episodes": 0}, "episodes=0"),
        ({"temperature": 0.0}, "temperature"),
    ],
)
def test_bad_input_is_one_line(change, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    episodes(range(3)).to_csv("table.csv", index=False)
    with pytest.raises(InputError, match=message) as error:
        compare(**{"first": "random", "second": "random", "output": "out"} | change)
    assert "\n" not in str(error.value)
