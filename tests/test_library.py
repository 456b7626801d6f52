"""The package as a library: its names, what they do, and the notebook that shows them."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import gymnasium
import nbformat
import nle  # noqa: F401  (registers NetHack's environments)
import numpy as np
import pytest
import torch
from nbclient import NotebookClient

import agent_scaling
from agent_scaling import (
    Agent,
    InputError,
    Policy,
    fit_laws,
    flops_per_frame,
    load_agent,
    load_policy,
    make_policy,
    play_episodes,
    read_batches,
    save_policy,
)
from agent_scaling.envs.nethack import NetHack
from tests.conftest import ROOT
from tests.helpers.policies import small_policy
from tests.scaling.synthetic import known_law

NOTEBOOK = ROOT / "docs" / "library.ipynb"


def test_the_documented_names_are_the_public_ones() -> None:
    page = (ROOT / "docs" / "library.md").read_text()
    assert sorted(re.findall(r"^\| `(\w+)` \|", page, re.M)) == sorted(agent_scaling.__all__)
    assert set(agent_scaling.__all__) <= set(dir(agent_scaling))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = agent_scaling.nonsense


@pytest.mark.parametrize("name", agent_scaling.__all__)
def test_public_names_are_documented_and_typed(name: str) -> None:
    found = getattr(agent_scaling, name)
    assert inspect.getdoc(found)
    members = [found] if inspect.isfunction(found) else vars(found).values()
    for member in members:
        function = member.fget if isinstance(member, property) else member
        if inspect.isfunction(function) and not function.__name__.startswith("_"):
            assert inspect.getdoc(function)
            hints = set(inspect.get_annotations(function)) | {"self"}
            assert set(inspect.signature(function).parameters) | {"return"} <= hints
    assert (Path(agent_scaling.__file__).parent / "py.typed").is_file()


def test_the_import_itself_needs_nothing() -> None:
    code = "import agent_scaling, sys; print(*(m for m in ('torch', 'numpy') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_policy_is_described_as_on_the_command_line() -> None:
    policy = make_policy("policy/core=none", "policy.params=60_000")
    assert policy.num_params == pytest.approx(60_000, rel=0.05)
    assert flops_per_frame(policy) > 6 * 1_000
    with pytest.raises(InputError, match="parms"):
        make_policy("policy.parms=60_000")
    with pytest.raises(InputError, match="the nearest that these parts make"):
        make_policy("policy.params=1")


def test_a_saved_policy_comes_back(tmp_path: Path) -> None:
    policy = small_policy()
    save_policy(policy, tmp_path / "policy.ckpt")
    again = load_policy(tmp_path / "policy.ckpt")
    assert again.config == policy.config
    for name, value in policy.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    policy.config = {}
    with pytest.raises(InputError, match="no config"):
        save_policy(policy, tmp_path / "other.ckpt")
    assert not (tmp_path / "other.ckpt").exists()


def test_batches_are_those_of_training(tiny_shards: Path) -> None:
    from data_modules.shards import ShardsDataModule

    data = ShardsDataModule(str(tiny_shards), lanes=4, unroll_length=16, seed=3)
    mine = read_batches(tiny_shards, lanes=4, steps=16, seed=3, games=True)
    for ours, theirs in islice(zip(mine, data.train_dataloader(), strict=False), 5):
        assert torch.equal(ours.chars_TBHW, theirs.chars_TBHW)
        assert torch.equal(ours.action_TB, theirs.action_TB)
        assert ours.game_TB is not None
    held_out = list(read_batches(tiny_shards, "val", lanes=2, steps=50, max_frames=300))
    assert [(b.steps, b.lanes) for b in held_out] == [(50, 2)] * 3
    with pytest.raises(InputError, match="split='test'"):
        read_batches(tiny_shards, "test")


def played_by_hand(policy: Policy, seed: int, steps: int) -> tuple[float, int]:
    """Return and steps of an episode that an agent plays, frame by frame."""
    views = {name: np.zeros(*NetHack.observations[name]) for name in policy.observations}
    agent, game = Agent(policy), NetHack(views, max_episode_steps=steps)
    game.reset(seed)
    agent.reset(seed)
    try:
        while (record := game.step(agent.act(views))) is None:
            pass
    finally:
        game.close()
    return record["return"], record["turns"]


def test_an_agent_plays_as_episodes_are_played() -> None:
    policy = small_policy()
    table = play_episodes(policy, 2, workers=1, max_episode_steps=60, block=1)
    rows = list(zip(table["return"], table["turns"], strict=True))
    assert [played_by_hand(policy, seed, 60) for seed in (0, 1)] == rows


def test_an_agent_acts_in_nles_environment(tmp_path: Path) -> None:
    save_policy(small_policy(), tmp_path / "policy.ckpt")
    agent = load_agent(tmp_path / "policy.ckpt", sampling="argmax")
    env = gymnasium.make("NetHackChallenge-v0", disable_env_checker=True)
    try:
        frame, _ = env.reset()
        assert agent.probabilities.sum() == pytest.approx(1)
        action = agent.act(frame)
        assert agent.probabilities[action] == 1
        second = agent.act(env.step(action)[0])
        agent.reset()
        assert agent.act(frame) == action
        assert second in range(agent.num_actions)
    finally:
        env.close()


def test_an_agent_names_what_is_missing() -> None:
    agent = Agent(small_policy())
    with pytest.raises(InputError, match="reads 'chars', which the observation lacks; it has map"):
        agent.act({"map": np.zeros((21, 79))})
    with pytest.raises(InputError, match=r"'chars' has the shape \(21, 79\), needed: \(24, 80\)"):
        agent.act({"chars": np.zeros((21, 79)), "colors": 0, "cursor": 0})


def test_episodes_refuse_what_they_do_not_know() -> None:
    with pytest.raises(InputError, match="no option max_steps; there are seed, sampling"):
        play_episodes(small_policy(), 1, max_steps=5)


def test_laws_of_a_table_are_those_of_its_file(tmp_path: Path) -> None:
    runs = known_law(noise=0.02, seed=4, budgets=5, sizes=5).rows
    table = runs[["flops", "params", "samples", "loss"]]
    table.to_csv(tmp_path / "runs.csv", index=False)
    laws, filed = fit_laws(table), fit_laws(tmp_path / "runs.csv")
    assert laws.exponents.equals(filed.exponents)
    assert set(laws.exponents["quantity"]) == {"N_opt", "D_opt", "optimum"}
    assert (laws.exponents["low"] < laws.exponents["high"]).all()
    ahead = 10 * table["flops"].max()
    row = laws.forecast(ahead).iloc[0]
    assert row["loss"] == laws.fitted["forecast"][0]["loss"]
    assert row["loss_low"] < row["loss"] < row["loss_high"]
    assert len(laws.forecast([ahead, 2 * ahead])) == 2
    with pytest.raises(InputError, match="need 3 or more"):
        fit_laws(table[table["flops"] < 2 * table["flops"].min()])


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: Path) -> None:
    """In a folder of its own, as a user would; what is stored in it has been run, too."""
    monkeypatch.setenv("PATH", f"{forked.parent}:/usr/bin:/bin")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, resources=resources, coalesce_streams=True).execute()
    outputs = [output for cell in cells for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert "\x1b" not in "".join(output.get("text", "") for output in outputs)
    assert {"games", "shards", "clone.ckpt"} == {path.name for path in tmp_path.iterdir()}
