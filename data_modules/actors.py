"""The LightningDataModule of actors: unrolls of games that the policy in training plays."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import lightning
import numpy as np
import torch

from agent_scaling.data.batch import Batch
from agent_scaling.data.run_data import RunData
from agent_scaling.envs.families import Description, describe, find_game
from agent_scaling.envs.pool.pool import Pool
from agent_scaling.envs.versions import installed_versions
from agent_scaling.playing.actor import Actor
from agent_scaling.playing.sampling import Sampling
from agent_scaling.playing.unrolls import REWARD, UnrollPlayer, episode_seeds
from agent_scaling.policies.inference import for_inference
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.stopwatch import Waiting
from agent_scaling.training.hooks import run_module

POLL_S = 0.5


class ActorsDataModule(RunData):
    """Endless unrolls of ``lanes`` games; each continues where the one before has ended.

    Every rank plays games of its own. The actors get the policy's weights after every update,
    before the next unroll.
    """

    gives = frozenset({"unrolls"})

    def __init__(
        self,
        game: str,
        options: dict[str, Any] | None = None,
        lanes: int = 32,
        unroll_length: int = 80,
        workers: int | None = None,
        groups: int = 2,
        asynchronous: bool = True,
        seed: int = 0,
        sampling_seed: int = 0,
        practice: dict[str, Any] | None = None,
    ) -> None:
        """Raise :class:`InputError` for a game without rewards, or for impossible sizes.

        Args:
            game: A family of ``envs.families``, or a game's import path (``module:Class``); it
                shows ``reward``.
            options: The game's keyword arguments.
            lanes: B, games of each rank, all of them in every unroll.
            unroll_length: T, steps of an unroll.
            workers: Game processes per rank; None: one per core that the ranks of a node share.
            groups: Parts of the lanes that take turns: the policy answers one, the others move.
            asynchronous: Play the next unroll while the learner learns from this one. False plays
                on request with the newest weights, which is reproducible.
            seed: Seed of the episodes.
            sampling_seed: Seed of the actions' noise.
            practice: Keyword arguments of the training games alone; evaluation plays without them.
        """
        super().__init__()
        family = find_game(game)
        if REWARD not in family.observations:
            raise InputError(
                f"data.game={game}: shows no {REWARD!r}, so that nothing can be learnt"
            )
        if unroll_length < 1 or groups < 1 or lanes < groups:
            raise InputError(
                f"data.lanes={lanes}, data.unroll_length={unroll_length}, data.groups={groups}: "
                "each at least 1, and a lane or more for each group"
            )
        if workers is not None and workers < 1:
            raise InputError(f"data.workers={workers}: must be at least 1, or null")
        self.path, self.options, self.practice = game, dict(options or {}), dict(practice or {})
        self.lanes, self.unroll_length, self.workers = lanes, unroll_length, workers
        self.groups, self.asynchronous = groups, asynchronous
        self.seed, self.sampling_seed = seed, sampling_seed
        self.observations = tuple(name for name in family.observations if name != REWARD)
        self._loader: ActorLoader | None = None

    @property
    def num_actions(self) -> int | None:
        """Actions of the task; None where the game only limits the policy's number."""
        count = getattr(find_game(self.path), "count_actions", None)
        # The training games' own options are tried here, too: a worker cannot say what is wrong.
        return int(count(**self.options | self.practice)) if count else None

    @property
    def game(self) -> Description:
        """The game that the policy learns; checkpoints name it, and rollouts play it."""
        found = describe(self.path, self.options)
        return replace(found, versions=installed_versions(found.family))

    @property
    def game_name(self) -> str:
        """The task's name, or the name of the game's class."""
        return str(self.options.get("task", self.path.rpartition(":")[2]))

    @property
    def description(self) -> str:
        """One line about the games, for the terminal."""
        how = "while learning" if self.asynchronous else "in turn with learning"
        return f"{self.lanes} games of {self.game_name} per rank, played {how}"

    def progress(self, frames: int) -> dict[str, float]:
        """Metrics of the actors since the last call."""
        return self._loader.measured() if self._loader else {}

    def train_dataloader(self) -> ActorLoader:
        """Unrolls played by the policy of the trainer's module."""
        assert self.trainer is not None
        self._loader = ActorLoader(self, self.trainer)
        return self._loader

    def teardown(self, stage: str) -> None:
        """End the games and their processes."""
        if self._loader is not None:
            self._loader.close()

    def on_exception(self, exception: BaseException) -> None:
        """End the games, because Lightning calls no teardown after an exception."""
        self.teardown("fit")

    def _check_actions(self, given: int) -> None:
        own = self.num_actions  # a game is played to find it
        wanted = own or find_game(self.path).num_actions
        if given > wanted or (own and given < wanted):
            raise InputError(
                f"policy.num_actions={given}: {self.game_name} has {wanted}; "
                f"set policy.num_actions={wanted}, or give a policy that was trained on it"
            )

    def pool(self, policy: Policy, ranks: int) -> Pool:
        """Start the games, with a worker per core of this rank's share.

        Raises:
            InputError: The policy has another number of actions than the game.
        """
        self._check_actions(policy.num_actions)
        cores = max(1, len(os.sched_getaffinity(0)) // ranks)
        return Pool(
            self.path,
            lanes=self.lanes,
            workers=self.workers or min(cores, self.lanes),
            groups=self.groups,
            options=self.options | self.practice,
            observations=[*policy.observations, REWARD],
        )


class ActorLoader:
    """Iterates over unrolls, and gives the actors the new weights between two of them.

    Args:
        data: The games to play.
        trainer: The trainer, whose module holds the policy.
    """

    def __init__(self, data: ActorsDataModule, trainer: lightning.Trainer) -> None:
        self.data, self.trainer = data, trainer
        self._stack = ExitStack()
        self._resumed = False
        self._learner, self._actors = Waiting(), Waiting()

    def __len__(self) -> int:
        """A length that no run reaches; without one, Lightning prefetches an unroll."""
        return sys.maxsize

    def __iter__(self) -> Iterator[Batch]:
        module = run_module(self.trainer.lightning_module)
        data, rank = self.data, self.trainer.global_rank
        pool = self._stack.enter_context(data.pool(module.policy, self.trainer.world_size))
        group = max(len(lanes) for lanes in pool.groups)
        sampling_seed = np.random.SeedSequence([data.sampling_seed, rank]).generate_state(1)
        actor = Actor(
            module.policy,
            data.lanes,
            sampling=Sampling(),
            sampling_seed=int(sampling_seed[0]),
            block=group,
            device=module.device,
        )
        lanes = range(data.lanes)
        seeds = [episode_seeds(data.seed, rank, module.frames, lane) for lane in lanes]
        player = UnrollPlayer(pool, actor, module.policy.num_actions, data.unroll_length, seeds)
        play = self._asynchronous(player) if data.asynchronous else self._in_turn(player)
        for unroll in play:
            assert unroll.played is not None
            if self._resumed:
                unroll.played.restarted += data.lanes
                self._resumed = False
            yield unroll
            actor.policy = for_inference(module.policy, module.device)

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state, because games cannot be saved."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume with new episodes, because those under way are lost."""
        self._resumed = True

    def measured(self) -> dict[str, float]:
        """Shares of the time since the last call that each side waited for the other."""
        return {
            "waiting/learner_for_actors": self._learner.share(),
            "waiting/actors_for_learner": self._actors.share(),
        }

    def close(self) -> None:
        """End the thread, then the games."""
        self._stack.close()

    def _in_turn(self, player: UnrollPlayer) -> Iterator[Batch]:
        while True:
            with self._learner:
                unroll = player.play(self.trainer.global_step)
            with self._actors:
                yield unroll

    def _asynchronous(self, player: UnrollPlayer) -> Iterator[Batch]:
        thread = PlayerThread(player, lambda: self.trainer.global_step, self._actors)
        self._stack.callback(thread.stop)
        thread.start()
        while True:
            with self._learner:
                unroll = thread.take()
            yield unroll


class PlayerThread(threading.Thread):
    """Plays ahead of the learner: at most one unroll waits while the next is played.

    Args:
        player: The player of the unrolls.
        updates: Returns the number of updates that the learner has made.
        waiting: Measures the time that this thread waits for the learner.
    """

    def __init__(self, player: UnrollPlayer, updates: Callable[[], int], waiting: Waiting) -> None:
        super().__init__(name="actors", daemon=True)
        self.player, self.updates, self.waiting = player, updates, waiting
        self._ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=1)
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Play until told to stop; :meth:`take` raises any exception of this thread."""
        if self.player.actor.device.type == "cpu":
            torch.set_num_threads(1)  # for this thread alone: the learner uses the other cores
        try:
            while not self._stop_asked.is_set():
                unroll = self.player.play(self.updates())
                with self.waiting:
                    self._hand_over(unroll)
        except Exception as error:
            self._hand_over(error)

    def take(self) -> Batch:
        """Return the oldest unroll that was played."""
        found = self._ready.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def stop(self) -> None:
        """Stop the thread, and return when the unroll under way has ended."""
        self._stop_asked.set()
        self.join()

    def _hand_over(self, item: Batch | BaseException) -> None:
        while not self._stop_asked.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put(item, timeout=POLL_S)
                return
