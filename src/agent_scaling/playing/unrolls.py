"""Unrolls: lanes of endless games that a policy plays, cut into batches of T+1 frames."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._pytree import tree_map

from agent_scaling.data.batch import Batch, Played, shown_fields
from agent_scaling.envs.actions import NO_ACTION
from agent_scaling.envs.families import CUT, Record
from agent_scaling.envs.pool.pool import Pool, Report
from agent_scaling.playing.actor import Actor

REWARD = "reward"
"""Name of the observation that holds the reward of the latest action, one number."""


def episode_seeds(seed: int, rank: int, begun: int, lane: int) -> Iterator[int]:
    """Yield the seeds of a lane's episodes.

    Args:
        seed: Seed of the run.
        rank: Rank of the process; each has its own games.
        begun: Frames of the run when these games began, so that a resumed run plays new ones.
        lane: Number of the lane in the rank.
    """
    source = np.random.default_rng([seed, rank, begun, lane])
    while True:
        yield int(source.integers(2**62))


class Columns:
    """The arrays of one unroll while it is played."""

    def __init__(self, steps: int, lanes: int, actions: int, pool: Pool) -> None:
        shown = pool.observations
        frames = (steps + 1, lanes)
        self.observations = {
            name: np.empty((*frames, *array.shape[1:]), array.dtype)
            for name, array in shown.items()
            if name != REWARD
        }
        self.prev_action = np.empty(frames, np.int64)
        self.first = np.empty(frames, np.bool_)
        self.action = np.full(frames, NO_ACTION, np.int64)
        self.reward = np.zeros(frames, np.float32)
        self.logits = np.zeros((*frames, actions), np.float32)

    def batch(self, played: Played) -> Batch:
        """Return a batch that shares the arrays' memory."""
        seen = {name: torch.from_numpy(array) for name, array in self.observations.items()}
        return Batch(
            **shown_fields(seen),
            prev_action_TB=torch.from_numpy(self.prev_action),
            action_TB=torch.from_numpy(self.action),
            first_TB=torch.from_numpy(self.first),
            reward_TB=torch.from_numpy(self.reward),
            behaviour_logits_TBA=torch.from_numpy(self.logits),
            played=played,
            openings=tuple(np.flatnonzero(self.first.any(axis=1)).tolist()),
        )


class UnrollPlayer:
    """Plays lanes in endless unrolls; each begins with the last frame of the one before.

    A lane's episodes follow one another. A game that was cut off, for instance by a step cap, first
    shows its last frame: no action answers it, and the learner bootstraps from its value. An action
    whose outcome was lost with a worker counts as no action. While the policy answers one of the
    pool's groups, the workers move the next.

    Args:
        pool: Games that show :data:`REWARD`; all its lanes are taken.
        actor: Answers frames; its policy may be replaced at any time.
        actions: Number A of the policy's actions.
        steps: T, steps of an unroll.
        seeds: Seeds of each lane's episodes.
    """

    def __init__(
        self, pool: Pool, actor: Actor, actions: int, steps: int, seeds: list[Iterator[int]]
    ) -> None:
        self.pool, self.actor, self.actions, self.steps = pool, actor, actions, steps
        self.actor.logits = np.zeros((pool.lanes, actions), np.float32)
        self._seeds = seeds
        self._episode = np.zeros(pool.lanes, np.int64)
        self._groups = [np.arange(lanes.start, lanes.stop) for lanes in pool.groups]
        self._restarted = 0
        self._waiting: set[int] = set()  # lanes without a frame of their episode yet
        self._cut: set[int] = set()  # lanes that show the last frame of a game that was cut off
        self._lost: set[int] = set()  # lanes whose latest action led to a frame that is lost
        for lane in range(pool.lanes):
            self._next_episode(lane)
            self._waiting.add(lane)

    def play(self, updates: int) -> Batch:
        """Play the next T steps of every lane.

        Args:
            updates: Updates that the learner has made so far, for the batch.
        """
        columns = Columns(self.steps, self.pool.lanes, self.actions, self.pool)
        state = tree_map(lambda part: part.clone(), self.actor.state)
        episodes: list[Record] = []
        for step in range(self.steps + 1):
            for group, lanes in enumerate(self._groups):
                if step > 0:
                    columns.reward[step - 1, lanes] = self._advance(group, episodes)
                self._open(group)
                if self._lost:
                    self._forget(columns, step, lanes)
                self._show(columns, step, lanes)
                if step < self.steps:
                    self._act(columns, step, group, lanes)
        restarted, self._restarted = self._restarted, 0
        return columns.batch(Played(state, updates, episodes, restarted))

    def _show(self, columns: Columns, step: int, lanes: npt.NDArray[np.int64]) -> None:
        for name, array in columns.observations.items():
            array[step, lanes] = self.pool.observations[name][lanes]
        columns.first[step, lanes] = self.actor.step[lanes] == 0
        columns.prev_action[step, lanes] = self.actor.prev_action[lanes]

    def _forget(self, columns: Columns, step: int, lanes: npt.NDArray[np.int64]) -> None:
        """Count the lost lanes' latest actions as none, because their outcome is unknown."""
        lost = sorted(self._lost.intersection(lanes.tolist()))
        self._lost.difference_update(lost)
        if step > 0:
            columns.reward[step - 1, lost] = 0
            columns.action[step - 1, lost] = NO_ACTION
            columns.logits[step - 1, lost] = 0

    def _act(self, columns: Columns, step: int, group: int, lanes: npt.NDArray[np.int64]) -> None:
        """Move the group: by the policy's actions, or to a new episode where a game was cut off."""
        cut = self._cut and self._cut.intersection(lanes.tolist())
        for lane in cut:  # its last frame has no action; the next episode opens the frame after it
            self._next_episode(lane)
        self._cut -= cut
        acting = lanes[~np.isin(lanes, sorted(cut))] if cut else lanes
        if len(acting):
            chosen = self.actor.act(self.pool.observations, acting)
            assert self.actor.logits is not None
            columns.action[step, acting] = chosen
            columns.logits[step, acting] = self.actor.logits[acting]
            self.pool.actions[acting] = chosen
        self.pool.send(group)

    def _advance(self, group: int, episodes: list[Record]) -> npt.NDArray[np.float32]:
        """Wait for a group's move, and return its rewards."""
        report, lanes = self.pool.receive(group), self._groups[group]
        shown = self.pool.observations[REWARD][lanes].astype(np.float32)
        rewards: npt.NDArray[np.float32] = shown.reshape(len(lanes))
        self._take(report)
        episodes += [record for _, record in report.ended]
        return rewards

    def _open(self, group: int) -> None:
        """Wait until every lane of the group shows a frame."""
        lanes = self._groups[group].tolist()
        while self._waiting.intersection(lanes):
            self._waiting.difference_update(lanes)
            self._take(self.pool.begin(group))

    def _take(self, report: Report) -> None:
        """Begin the next episode where one has ended, and restart lost ones.

        An episode that was cut off first shows its last frame, for its value.
        """
        for lane, record in report.ended:
            if record["end"] in CUT:
                self._cut.add(lane)
                continue
            self._next_episode(lane)
            self._waiting.add(lane)
            if record["end"] == "crashed":
                self._lost.add(lane)
        for lane in report.restarted:  # in any group, because a worker's games are lost together
            self.actor.restart(lane, int(self._episode[lane]))
            self._waiting.add(lane)
            self._lost.add(lane)
        self._restarted += len(report.restarted)

    def _next_episode(self, lane: int) -> None:
        self._episode[lane] = next(self._seeds[lane])
        self.pool.assign(lane, int(self._episode[lane]))
        self.actor.restart(lane, int(self._episode[lane]))
