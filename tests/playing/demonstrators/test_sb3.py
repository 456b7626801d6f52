"""Agents that Stable-Baselines3 saved: they play as it plays them, and run no code of the file."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO

from agent_scaling.envs.atari import Atari
from agent_scaling.playing.demonstrators.demonstrate import demonstrate
from agent_scaling.playing.demonstrators.games.atari import make_options
from agent_scaling.playing.demonstrators.sb3 import is_agent, load_agent
from agent_scaling.runtime.errors import InputError


class Screens(gymnasium.Env[Any, Any]):
    """Noise, in the spaces of a wrapped Atari game."""

    def __init__(self, channels: int = 4, side: int = 84, actions: int = 4) -> None:
        self.observation_space = spaces.Box(0, 255, (channels, side, side), np.uint8)
        self.action_space = spaces.Discrete(actions)

    def reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        super().reset(**given)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), float(action), False, False, {}


def ppo(**policy: Any) -> PPO:
    model = PPO("CnnPolicy", Screens(), n_steps=8, batch_size=8, n_epochs=1, policy_kwargs=policy)
    return model.learn(8)


def dqn() -> DQN:
    return DQN("CnnPolicy", Screens(), buffer_size=8, learning_starts=4, batch_size=4).learn(8)


def a2c() -> A2C:
    return A2C("CnnPolicy", Screens(), policy_kwargs={"share_features_extractor": False})


def deep() -> PPO:
    return ppo(net_arch={"pi": [24, 16], "vf": [8]}, activation_fn=torch.nn.ELU)


@pytest.fixture(scope="module")
def stacks() -> Any:
    """Forty moments of a game of Breakout as an agent sees them, uint8 [40, 4, 84, 84]."""
    frame, seen = np.empty((84, 84), np.uint8), []
    console = Atari({"frame": frame}, env="Breakout")
    console.reset(1)
    for step in range(43):
        seen.append(frame.copy())
        console.step(1 if step == 0 else step % 4)
    return np.stack([np.stack(seen[t : t + 4]) for t in range(40)])


def decided(model: Any, stacks: Any) -> Any:
    """A new network answers every frame alike: draw it, and make its answers equally frequent."""
    generator = torch.Generator().manual_seed(3)
    policy = model.policy
    with torch.no_grad():
        for weight in policy.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * weight[0].numel() ** -0.5)
        seen = torch.from_numpy(stacks)
        if isinstance(model, DQN):
            policy.q_net.q_net[-1].bias -= policy.q_net(seen).mean(0)
        else:
            logits = policy.get_distribution(seen).distribution.logits
            policy.action_net.bias -= logits.mean(0)
    return model


@pytest.mark.parametrize("make", [ppo, dqn, a2c, deep])
def test_an_agent_answers_as_its_own_library_does(
    make: Callable[[], Any], stacks: Any, tmp_path: Path
) -> None:
    model = decided(make(), stacks)
    model.save(tmp_path / "agent")
    with torch.no_grad():
        ours = load_agent(tmp_path / "agent.zip")(torch.from_numpy(stacks)).argmax(1)
    theirs, _ = model.predict(stacks, deterministic=True)
    assert len(set(theirs.tolist())) > 1
    assert np.array_equal(ours, theirs)


def test_an_agent_records_what_it_would_play(stacks: Any, tmp_path: Path) -> None:
    model = decided(ppo(), stacks)
    model.save(tmp_path / "agent")
    demonstrate(
        game="atari", env="Breakout", player=str(tmp_path / "agent.zip"), games=1, processes=1,
        max_steps=60, output=str(tmp_path / "games"),
    )  # fmt: skip
    codes = np.load(tmp_path / "games" / "games" / "000000" / "actions.npy")
    frame, stack, lives = np.empty((84, 84), np.uint8), np.zeros((4, 84, 84), np.uint8), 0
    console = Atari({"frame": frame}, env="Breakout")
    console.reset(0)
    answers, begins = set(), 0
    for code in codes.tolist():
        stack = np.concatenate([stack[1:], frame[None]])
        action = console.actions.index(code)
        if not begins or console.ale.lives() < lives:
            assert action == 1  # FIRE
            begins += 1
        else:
            assert action == model.predict(stack, deterministic=True)[0]
            answers.add(action)
        lives = console.ale.lives()
        console.step(action)
    assert len(answers) > 1
    assert begins > 1


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def altered(path: Path, name: str, content: bytes) -> Path:
    """A copy of a zip in which one file is another."""
    copy = path.with_name("altered.zip")
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(copy, "w") as after:
        for member in before.namelist():
            after.writestr(member, content if member == name else before.read(member))
    return copy


def test_nothing_in_the_file_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    model = ppo()
    model.tensorboard_log = Payload(mark)  # type: ignore[assignment]  # pickled into the zip
    model.save(tmp_path / "agent.zip")
    assert (
        ":serialized:"
        in json.loads(zipfile.ZipFile(tmp_path / "agent.zip").read("data"))["tensorboard_log"]
    )
    load_agent(tmp_path / "agent.zip")
    stored = io.BytesIO()
    torch.save({"action_net.weight": Payload(mark)}, stored)
    worse = altered(tmp_path / "agent.zip", "policy.pth", stored.getvalue())
    with pytest.raises(InputError, match="no agent of Stable-Baselines3"):
        load_agent(worse)
    assert not mark.exists()


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_scaling.playing.demonstrators.sb3.MOST_BYTES", 10_000_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("policy.pth", b"")
        file.writestr("data", bytes(20_000_000))
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("data/0", bytes(5_000_000))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("policy.pth", inner.getvalue())
        file.writestr("data", "{}")
    for name in ("a.zip", "b.zip"):
        with pytest.raises(InputError, match="it would unpack to"):
            load_agent(tmp_path / name)


def saved(model: Any, path: Path) -> Path:
    model.save(path)
    assert is_agent(path)
    return path


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: PPO("CnnPolicy", Screens(channels=1)), "sees 1 channels, the game shows 4"),
        (lambda: PPO("CnnPolicy", Screens(side=96)), "its screen is not 84×84"),
        (lambda: PPO("CnnPolicy", Screens(actions=18)), "full_actions=true"),
        (lambda: DQN("CnnPolicy", Screens(actions=3), buffer_size=2), "3 actions, Breakout has 4"),
        (lambda: PPO("MlpPolicy", Screens()), "cnn"),
        (lambda: ppo(activation_fn=torch.nn.Softsign), "Softsign"),
    ],
)
def test_agents_that_do_not_fit_are_refused(
    make: Callable[[], Any], fault: str, tmp_path: Path
) -> None:
    path = saved(make(), tmp_path / "agent.zip")
    with pytest.raises(InputError, match=fault):
        make_options(env="Breakout", player=str(path))
