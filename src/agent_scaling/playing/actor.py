"""Batched inference over many lanes, whose results do not depend on the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from agent_scaling.data.batch import FIELDS, Batch, shown_fields
from agent_scaling.envs.actions import NO_ACTION, NUM_ACTIONS, action_to_key, key_to_action
from agent_scaling.playing.sampling import Floats, Noise, Sampling
from agent_scaling.policies.inference import for_inference
from agent_scaling.policies.policy import State

SCREEN = ("chars", "colors", "cursor")
"""Observations assumed when a policy declares none."""
TOP = 5  # actions kept in a trace
TRACE = np.dtype([("action", "u1"), ("top", "u1", TOP), ("probability", "f2", TOP), ("nats", "f2")])
"""A step of a trace: the action taken, the most probable ones with the probabilities that it was
drawn from, and the entropy of that distribution."""


def default_block(device: torch.device) -> int:
    """Return the number of lanes per call of the policy."""
    return 16 if device.type == "cpu" else 128


class Actor:
    """Answers frames with actions, and keeps each lane's state, previous action and step.

    The policy always runs on exactly ``block`` lanes, padded with copies. On a given machine, a
    matrix product of one shape gives a row the same bits at any place and beside any other rows;
    a product with another number of rows does not. So an episode depends on ``block``, but not on
    the number of lanes nor on which episodes are played beside it.

    Args:
        policy: ``policy(batch, state) → (logits, baseline, state)``; it is copied, not changed.
        lanes: Lanes to keep.
        sampling: The rule by which actions are drawn.
        sampling_seed: Seed of the noise, ≥ 0.
        block: Lanes per call; episodes depend on it.
        device: Where the policy runs.
        trace: Keep each step's most probable actions (see :meth:`take_trace`).
    """

    def __init__(
        self,
        policy: nn.Module,
        lanes: int,
        *,
        sampling: Sampling,
        sampling_seed: int = 0,
        block: int | None = None,
        device: torch.device | str = "cpu",
        trace: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.block = block or default_block(self.device)
        self.policy = for_inference(policy, self.device)
        self.sampling, self.noise = sampling, Noise(lanes, sampling_seed)
        self.state: State = self.policy.initial_state(lanes)  # type: ignore[operator]
        self.step = np.zeros(lanes, np.int64)
        self.episode = np.zeros(lanes, np.int64)
        self.prev_action = np.zeros(lanes, np.int64)
        self.logits: npt.NDArray[np.float32] | None = None
        """[lanes, A]: logits of each lane's latest step, kept if a caller has set the array."""
        # Rows of TRACE by lane, as bytes: a row has 18, while an array of it would take 120.
        self._traces: dict[int, bytearray] | None = {} if trace else None
        # Recordings hold keys, and three keys have two actions each: as a previous action, the
        # policy has seen only the first. Only NetHack's whole action set has such keys.
        actions = getattr(policy, "num_actions", NUM_ACTIONS)
        whole = key_to_action()[action_to_key()]
        self._canonical = whole if actions == NUM_ACTIONS else np.arange(actions)

    def restart(self, lane: int, episode: int) -> None:
        """Take the lane's next frame for the first of ``episode``."""
        self.step[lane], self.prev_action[lane], self.episode[lane] = 0, 0, episode
        if self._traces is not None:
            self._traces[lane] = bytearray()

    def act(
        self, observations: Mapping[str, npt.NDArray[Any]], lanes: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Return actions for the frames of ``lanes``, in their order."""
        blocks = [lanes[i : i + self.block] for i in range(0, len(lanes), self.block)]
        with torch.inference_mode():
            actions = [self._act_block(observations, block) for block in blocks]
        chosen: npt.NDArray[np.int64] = np.concatenate(actions)
        self.prev_action[lanes] = self._canonical[chosen]
        self.step[lanes] += 1
        return chosen

    def latest_thought(self, lane: int) -> np.void:
        """Return the action and its odds at the lane's latest step, a row of :data:`TRACE`."""
        assert self._traces is not None
        row: np.void = np.frombuffer(self._traces[lane][-TRACE.itemsize :], TRACE)[0]
        return row

    def take_trace(self, lane: int) -> npt.NDArray[Any] | None:
        """Return the actions and odds of the lane's episode: [steps] of :data:`TRACE`."""
        if self._traces is None:
            return None
        return np.frombuffer(self._traces.pop(lane), TRACE)

    def _act_block(
        self, observations: Mapping[str, npt.NDArray[Any]], lanes: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        count = len(lanes)
        padded = np.concatenate([lanes, np.full(self.block - count, lanes[0])])
        uniform = self.noise.take(lanes, self.episode[lanes], self.step[lanes])
        index, real = self._tensor(padded), self._tensor(lanes)
        before = tree_map(lambda part: part.index_select(1, index), self.state)
        logits_TBA, _, after = self.policy(self._batch(observations, padded), before)
        for kept, new in zip(_leaves(self.state), _leaves(after), strict=True):
            kept.index_copy_(1, real, new[:, :count])
        logits_NA = logits_TBA[0, :count].float().cpu().numpy()
        if self.logits is not None:
            self.logits[lanes] = logits_NA
        probs_NA = self.sampling.probabilities(logits_NA)
        action_N = self.sampling.draw(probs_NA, uniform)
        if self._traces is not None:
            self._trace(lanes, probs_NA, action_N)
        return action_N

    def _batch(
        self, observations: Mapping[str, npt.NDArray[Any]], lanes: npt.NDArray[np.int64]
    ) -> Batch:
        first = self.step[lanes] == 0
        shown = {
            name: self._tensor(array[lanes][None])
            for name, array in observations.items()
            if name in FIELDS
        }
        return Batch(
            **shown_fields(shown),
            prev_action_TB=self._tensor(self.prev_action[lanes][None]),
            action_TB=torch.full((1, len(lanes)), NO_ACTION, device=self.device),
            first_TB=self._tensor(first[None]),
            openings=(0,) if first.any() else (),
        )

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def _trace(
        self, lanes: npt.NDArray[np.int64], probs_NA: Floats, action_N: npt.NDArray[np.int64]
    ) -> None:
        assert self._traces is not None
        rows = np.zeros(len(lanes), TRACE)
        rows["action"] = action_N
        likely = np.argsort(-probs_NA, axis=1, kind="stable")[:, :TOP]
        shown = likely.shape[1]  # a game may have fewer than TOP actions
        rows["top"][:, :shown] = likely
        rows["probability"][:, :shown] = np.take_along_axis(probs_NA, likely, axis=1)
        logs_NA = np.log(probs_NA, out=np.zeros_like(probs_NA), where=probs_NA > 0)
        rows["nats"] = -(probs_NA * logs_NA).sum(axis=1)
        for index, lane in enumerate(lanes.tolist()):
            self._traces[lane] += rows[index].tobytes()


def _leaves(state: State) -> list[Tensor]:
    found: list[Tensor] = torch.utils._pytree.tree_leaves(state)
    return found
