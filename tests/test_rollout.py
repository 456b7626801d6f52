import json

import numpy as np
import pandas as pd
import pytest
import torch

from agent_scaling.actor import TRACE, RandomPolicy
from agent_scaling.errors import InputError
from agent_scaling.play import COLUMNS, play
from agent_scaling.replay import chosen_episodes, replayed, unpack
from agent_scaling.rollout import rollout
from tests.policies import small_policy

SETTINGS = {"episodes": 3, "max_episode_steps": 60, "device": "cpu", "workers": 2}


@pytest.fixture
def checkpoint(tmp_path):
    policy = small_policy()
    weights = {f"policy.{name}": value for name, value in policy.state_dict().items()}
    path = tmp_path / "some.ckpt"
    torch.save({"policy_config": policy.config, "state_dict": weights}, path)
    return str(path)


def page_content(path):
    text = path.read_text()
    begin = text.index('type="application/json">') + len('type="application/json">')
    return json.loads(text[begin : text.index("</script>", begin)])


def decode(arrays):
    """The page's decoding, in numpy: each frame's characters and colours."""
    chars, colors = np.full(1920, 32, np.uint8), np.zeros(1920, np.uint8)
    position = 0
    for count in unpack(arrays["counts"]):
        part = slice(position, position + int(count))
        cells = np.cumsum(unpack(arrays["gaps"])[part], dtype=np.int64)
        chars[cells] = unpack(arrays["chars"])[part]
        colors[cells] = unpack(arrays["colors"])[part]
        position += int(count)
        yield chars.reshape(24, 80).copy(), colors.reshape(24, 80).copy()


def test_a_checkpoint_is_played_and_written_down(checkpoint, tmp_path, capsys):
    rollout(ckpt=checkpoint, output=str(tmp_path / "out"), seed=5, ttyrecs=True, **SETTINGS)
    table = pd.read_parquet(tmp_path / "out" / "episodes.parquet")
    assert table.columns.tolist() == COLUMNS
    assert table["seed"].tolist() == [5, 6, 7]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["steps"]["mean"] == table["steps"].mean()
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["seed"] == 5
    recorded = sorted(p.name for p in (tmp_path / "out" / "nle_data").glob("*/*.ttyrec3.bz2"))
    assert len(recorded) == 3
    left = [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]
    assert left == []
    assert "3 episodes" in capsys.readouterr().out


def test_a_table_split_by_seeds_is_the_whole_one(checkpoint, tmp_path):
    for name, seed, episodes in (("all", 0, 4), ("head", 0, 2), ("tail", 2, 2)):
        options = SETTINGS | {"seed": seed, "episodes": episodes, "output": str(tmp_path / name)}
        rollout(ckpt=checkpoint, **options)
    whole, head, tail = (
        pd.read_parquet(tmp_path / name / "episodes.parquet") for name in ("all", "head", "tail")
    )
    pd.testing.assert_frame_equal(whole, pd.concat([head, tail], ignore_index=True))


def test_replays_hold_the_frames_and_what_the_policy_thought(tmp_path):
    traces = {}
    table = play(RandomPolicy(), range(3), max_episode_steps=60, traces=traces)
    rollout(ckpt="random", output=str(tmp_path), replay="best", **SETTINGS)
    assert [p.name for p in tmp_path.glob("*.html")] == ["replay_best.html"]
    seed = chosen_episodes(table, "best")["best"]
    content = page_content(tmp_path / "replay_best.html")
    assert content["facts"]["seed"] == seed

    arrays, trace = content["arrays"], traces[seed]
    options = {"character": "@", "max_episode_steps": 60}
    frames = 0
    for (chars, colors), shown in zip(
        decode(arrays), replayed(seed, trace["action"], options), strict=True
    ):
        np.testing.assert_array_equal(chars, shown["chars"])
        np.testing.assert_array_equal(colors, shown["colors"].view(np.uint8))
        frames += 1
    assert frames == len(trace) == table.set_index("seed").loc[seed, "steps"]
    assert unpack(arrays["action"]).tolist() == trace["action"].tolist()
    probability = unpack(arrays["probability"]) / 65535
    np.testing.assert_allclose(probability, 1 / 121, atol=1e-4)
    assert (unpack(arrays["entropy"]) == 65535).all()  # uniform: as high as it can be


def test_a_replay_needs_nothing_from_outside(tmp_path):
    rollout(ckpt="random", output=str(tmp_path), replay="worst", **SETTINGS)
    text = (tmp_path / "replay_worst.html").read_text()
    assert "http" not in text
    assert "src=" not in text
    assert "localStorage" not in text  # a sandboxed frame has none


def test_best_median_and_worst_are_by_return():
    table = pd.DataFrame(
        {
            "seed": [4, 5, 6, 7],
            "return": [1.0, 9.0, 3.0, np.nan],
            "end": ["death"] * 3 + ["crashed"],
        }
    )
    assert chosen_episodes(table, True) == {"best": 5, "median": 6, "worst": 4}
    assert chosen_episodes(table, False) == {}
    assert TRACE.itemsize == 18


@pytest.mark.parametrize(
    "change",
    [
        {"ckpt": "missing.ckpt"},
        {"episodes": 0},
        {"seed": -1},
        {"workers": 0},
        {"sampling": "beam"},
        {"temperature": 0.0},
        {"character": "gandalf"},
        {"device": "abacus"},
        {"replay": "funniest"},
        {"max_episode_steps": 0},
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(change, tmp_path):
    options = {"ckpt": "random", "output": str(tmp_path / "out"), **SETTINGS, **change}
    with pytest.raises(InputError) as error:
        rollout(**options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_torn_checkpoint_is_refused(checkpoint, tmp_path):
    torn = tmp_path / "torn.ckpt"
    whole = (tmp_path / "some.ckpt").read_bytes()
    torn.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"torn\.ckpt"):
        rollout(ckpt=str(torn), output=str(tmp_path / "out"), **SETTINGS)


def test_an_output_that_cannot_be_written_is_refused_before_playing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="output="):
        rollout(ckpt="random", output=str(tmp_path / "file" / "out"), **SETTINGS)
