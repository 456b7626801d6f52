"""Atari games, recorded as the options, seed and actions that determine them."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agent_scaling.envs.atari import Atari, action_codes, action_names, rom_name
from agent_scaling.playing.demonstrators.atari import EXPERTS, Expert
from agent_scaling.playing.demonstrators.games import GameRecord, GameSpec
from agent_scaling.runtime.errors import InputError

FOLDER = "games"
PLAYERS = ("demonstrator", "random")
"""Players beside checkpoints: the game's scripted expert, and random actions."""

ACTIONS = "actions.npy"
"""File of uint8 [steps], ALE's code of each action; replaying them gives the frames."""

Player = Callable[[Atari, Any], int]
"""(game, its frame uint8 [84, 84]) → the action's index."""


def make_options(
    env: str | None = None, player: str = "demonstrator", **given: Any
) -> dict[str, Any]:
    """Return the game's complete options, with the player.

    Args:
        env: The game.
        player: One of :data:`PLAYERS`, a checkpoint of ``train``, or an agent that
            Stable-Baselines3 saved.
        given: Options of :class:`~agent_scaling.envs.atari.Atari`.

    Raises:
        InputError: There is no such game, player or option.
    """
    if env is None:
        raise InputError("env=: which Atari game? For instance env=Breakout")
    known = inspect.signature(Atari).parameters
    defaults = {k: p.default for k, p in known.items() if p.default is not p.empty}
    del defaults["max_episode_steps"]  # the verb's max_steps
    for name in given:
        if name not in defaults:
            raise InputError(f"options.{name}: unknown; known: {', '.join(defaults)}")
    options = {"env": env, **defaults, **given}
    Atari({}, **options)
    if player == "demonstrator":
        _find_expert(env)
    elif player != "random":
        if not Path(player).is_file():
            known_players = ", ".join(PLAYERS)
            raise InputError(f"player={player}: none of {known_players}, nor a file")
        _check_file(player, env, action_codes(env, options["full_actions"]))
    return {**options, "player": player}


def play(spec: GameSpec) -> GameRecord:
    """Play one game and record it into ``spec.folder``."""
    return _play(spec, record=True)


def play_unrecorded(player: str, seed: int, *, max_steps: int, **options: Any) -> GameRecord:
    """Play one game and write nothing."""
    return _play(GameSpec(seed, {**options, "player": player}, max_steps, Path()), record=False)


def _play(spec: GameSpec, *, record: bool) -> GameRecord:
    started = time.monotonic()
    options = dict(spec.options)
    name = options.pop("player")
    frame = np.empty((84, 84), np.uint8)
    game = Atari({"frame": frame}, max_episode_steps=spec.max_steps, **options)
    player = make_player(name, game, spec.seed)
    game.reset(spec.seed)
    codes, ended = bytearray(), None
    while ended is None:
        action = player(game, frame)
        codes.append(game.actions[action])
        ended = game.step(action)
    if record:
        np.save(spec.folder / ACTIONS, np.frombuffer(codes, np.uint8))
    return GameRecord(
        seed=spec.seed,
        options=spec.options,
        max_steps=spec.max_steps,
        pid=os.getpid(),
        env_steps=len(codes),
        frames=len(codes),
        score=ended["return"],
        end=ended["end"],
        seconds=round(time.monotonic() - started, 2),
        details={"lives left": ended["lives"]},
    )


def make_player(name: str, game: Atari, seed: int) -> Player:
    """Make a player for the one episode of ``seed``."""
    names = action_names(game.actions)
    if name == "random":
        rng = np.random.default_rng(seed)
        return lambda game, frame: int(rng.integers(len(names)))
    if name == "demonstrator":
        expert = _find_expert(game.env)()
        return lambda game, frame: names.index(expert.act(game.memory()))
    return _file_player(name, game, seed)


def _find_expert(env: str) -> Callable[[], Expert]:
    rom = rom_name(env)
    if rom not in EXPERTS:
        raise InputError(f"env={env}: has no scripted expert; {', '.join(EXPERTS)} have")
    return EXPERTS[rom]


def _check_file(path: str, env: str, codes: tuple[int, ...]) -> None:
    from agent_scaling.playing.demonstrators.sb3 import check_agent, is_agent

    if is_agent(path):
        check_agent(path, env, codes)


def _file_player(path: str, game: Atari, seed: int) -> Player:
    # Imported here: torch takes seconds, and the scripted players' processes do without it.
    import torch

    from agent_scaling.playing.demonstrators.sb3 import AgentPlayer, is_agent, load_agent

    torch.set_num_threads(1)
    if is_agent(path):
        return AgentPlayer(load_agent(path), game.actions)

    from agent_scaling.playing.actor import Actor
    from agent_scaling.playing.sampling import Sampling
    from agent_scaling.policies.checkpoints.load import load_policy

    policy = load_policy(path)
    policy.check_causal(str(path))
    actor = Actor(policy, 1, sampling=Sampling(), block=1)
    actor.restart(0, seed)
    lane = np.zeros(1, np.int64)
    return lambda game, frame: int(actor.act({"frame": frame[None]}, lane)[0])
