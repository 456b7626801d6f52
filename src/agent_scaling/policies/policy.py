"""The policy: encoder, core and heads, which answer a window of frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from agent_scaling.data.batch import Batch
from agent_scaling.envs.actions import NUM_ACTIONS
from agent_scaling.envs.families import NETHACK, Description
from agent_scaling.policies.cores.pieces import in_pieces
from agent_scaling.policies.costs import LayerCost, linear_cost
from agent_scaling.runtime.errors import InputError

FIXES = {
    "inv_glyphs": "set policy.encoder.inventory=false, or convert the games with "
    "source.inventory=true"
}
"""Observation that some data lack → what to do about it."""

Resets = Literal["games", "windows", "calls"]

State = tuple[Tensor, ...]
"""The tensors that cross windows; the second axis of each is the lane."""


class Part(Protocol):
    """Shares what encoders and cores offer: a width, a state per lane and its costs."""

    width: int
    """Features per frame of the output."""

    def initial_state(self, lanes: int) -> State:
        """Return the state of ``lanes`` lanes before their first frame."""

    def costs(self) -> list[LayerCost]:
        """Return the forward cost per frame by layer, in execution order."""


class Encoder(Part, Protocol):
    """Turns a window of observations into features [T, B, width].

    One with ``checkpoint = True`` keeps few activations, and computes the others again.
    """

    @property
    def observations(self) -> Sequence[str]:
        """Names of the observations that it reads."""

    def __call__(self, batch: Batch, state: State) -> tuple[Tensor, State]:
        """Encode a window; also return the state after it."""


class Core(Part, Protocol):
    """Carries memory over the frames of a window and from window to window.

    One that needs later frames has ``causal = False``. One whose window is the same in pieces, at
    little cost, has ``recurrent = True``.
    One that is a kernel of its own, which
    ``torch.compile`` cannot better, has ``eager = True``.
    """

    def __call__(self, features_TBD: Tensor, batch: Batch, state: State) -> tuple[Tensor, State]:
        """Turn features [T, B, D] into [T, B, width]; also return the state after the window."""


class Policy(nn.Module):
    """Logits and a baseline for every frame of a window.

    Args:
        encoder: Turns observations into features.
        core: Makes the core, given the encoder's width.
        num_actions: Width A of the policy's head.
        baseline: Add a baseline, which imitation does not need; without one it is 0.
        path: Feed the heads the sum of the encoder's features and the core's output, so that an
            untrained narrow core does not hide the features.
        resets: Where the core's state is zeroed. ``games``: where a game opens. ``windows`` and
            ``calls`` are the ways of the second release of the paper's authors: a window of several
            frames begins from zero and runs on over the ends of games; a single frame (in a
            rollout) carries its game's state with ``windows``, and is seen alone with ``calls``.
        recompute: Frames of each lane whose activations exist at once: a longer window is run in
            pieces, each of which the backward pass computes again. Encoders with BatchNorm then
            take the statistics of a piece. None: a window is run as a whole. Not with the
            encoder's ``checkpoint``.
    """

    encoder: Encoder
    core: Core

    def __init__(
        self,
        encoder: Encoder,
        core: Callable[[int], Core],
        num_actions: int = NUM_ACTIONS,
        baseline: bool = True,
        path: bool = False,
        resets: Resets = "games",
        recompute: int | None = None,
    ) -> None:
        super().__init__()
        if recompute is not None and recompute < 1:
            raise InputError(f"policy.recompute={recompute}: must be at least 1, or null")
        self.recompute = recompute
        if resets not in get_args(Resets):
            raise InputError(f"policy.resets={resets!r}: use one of {', '.join(get_args(Resets))}")
        self.resets = resets
        self.encoder = encoder
        if recompute is not None and getattr(encoder, "checkpoint", False):
            raise InputError(
                f"policy.encoder.checkpoint=true and policy.recompute={recompute}: both compute "
                "the encoder again; set the first to false, or the second to null"
            )
        self.core = core(encoder.width)
        self.path = around(encoder.width, self.core.width) if path else None
        self.core_parts = len(self.core.initial_state(0))
        self.config: dict[str, Any] = {}
        """Config that builds this policy again; checkpoints save it."""
        self.game: Description = NETHACK
        """Game that the policy was trained on; checkpoints save it."""
        self.num_actions = num_actions
        self.policy = nn.Linear(self.core.width, num_actions)
        initialise = getattr(encoder, "initialise_head", None)
        if initialise is not None:
            initialise(self.policy)
        self.baseline = nn.Linear(self.core.width, 1) if baseline else None

    def add_baseline(self) -> None:
        """Add a baseline that answers 0, to a policy that has none."""
        if self.baseline is None:
            self.baseline = nn.Linear(self.core.width, 1)
            nn.init.zeros_(self.baseline.weight)
            nn.init.zeros_(self.baseline.bias)
            self.config = {**self.config, "baseline": True}

    def initial_state(self, lanes: int) -> State:
        """The state of ``lanes`` lanes before their first frame: the core's, then the encoder's."""
        return (*self.core.initial_state(lanes), *self.encoder.initial_state(lanes))

    def forward(self, batch: Batch, state: State) -> tuple[Tensor, Tensor, State]:
        """Window and state → logits [T, B, A], baseline [T, B], state after the window."""
        before, reset = state[: self.core_parts], self._reset(batch)
        cuts = self._cuts(batch)
        if cuts:
            windows = [(batch.between(*cut),) for cut in cuts]
            features_TBD, seen = in_pieces(self.encoder, windows, state[self.core_parts :])
        else:
            features_TBD, seen = self.encoder(batch, state[self.core_parts :])
        if cuts and getattr(self.core, "recurrent", False):
            pieces = ((features_TBD[slice(*cut)], reset.between(*cut)) for cut in cuts)
            core_TBD, after = in_pieces(self.core, pieces, before)
        else:
            core_TBD, after = self.core(features_TBD, reset, before)
        if self.path is not None:
            core_TBD = core_TBD + self.path(features_TBD)
        logits_TBA = self.policy(core_TBD)
        baseline_TB = logits_TBA.new_zeros(logits_TBA.shape[:2])
        if self.baseline is not None:
            baseline_TB = self.baseline(core_TBD).squeeze(-1)
        return logits_TBA, baseline_TB, (*after, *seen)

    def _cuts(self, batch: Batch) -> list[tuple[int, int]]:
        """The pieces in which a window is run; none where it is run as a whole."""
        length, steps = self.recompute, batch.steps
        if length is None or steps <= length or batch.ahead:
            return []
        return [(begin, min(steps, begin + length)) for begin in range(0, steps, length)]

    def _reset(self, batch: Batch) -> Batch:
        """The batch with the openings at which the core's state is zeroed."""
        if self.resets == "games" or (self.resets == "windows" and batch.steps == 1):
            return batch
        first_TB = torch.zeros_like(batch.first_TB)
        first_TB[0] = True
        return replace(batch, first_TB=first_TB, openings=(0,))

    @property
    def observations(self) -> tuple[str, ...]:
        """Names of the observations that the policy reads; games and data must have them."""
        return tuple(self.encoder.observations)

    @property
    def causal(self) -> bool:
        """True where the policy answers a frame without seeing later ones.

        Otherwise it is an inverse-dynamics model, which labels games and cannot play them.
        """
        return bool(getattr(self.core, "causal", True))

    def check_causal(self, what: str) -> None:
        """Refuse an inverse-dynamics model where ``what`` needs a player.

        Raises:
            InputError: The policy is an inverse-dynamics model.
        """
        if not self.causal:
            raise InputError(
                f"{what}: an inverse-dynamics model needs the frames after an action, and cannot "
                "play; it labels games (agent-scaling label) and trains with module=inverse"
            )

    def costs(self) -> list[LayerCost]:
        """Forward cost per frame by layer, in execution order."""
        heads = [linear_cost("policy", self.core.width, self.num_actions)]
        if self.baseline is not None:
            heads.append(linear_cost("baseline", self.core.width, 1))
        if isinstance(self.path, nn.Linear):
            heads.insert(0, linear_cost("path", self.encoder.width, self.core.width))
        return [*self.encoder.costs(), *self.core.costs(), *heads]

    def check_data(self, observations: Sequence[str], num_actions: int | None = None) -> None:
        """Refuse data that lack an observation of the policy's, before training starts.

        Raises:
            InputError: ``observations``, the names that the data have, lack one; or the data have
                another number of actions.
        """
        if num_actions not in (None, self.num_actions):
            raise InputError(
                f"policy.num_actions={self.num_actions}: the data have {num_actions} actions; set "
                f"policy.num_actions={num_actions}"
            )
        for name in self.observations:
            if name not in observations:
                fix = FIXES.get(name, "give other data")
                raise InputError(
                    f"the policy reads {name}, and the data have only {', '.join(observations)}: "
                    f"{fix}"
                )

    @property
    def num_params(self) -> int:
        """Number N of trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def around(features: int, width: int) -> nn.Module:
    """Make a linear path from ``features`` to ``width``, or the identity if they are equal."""
    return nn.Identity() if features == width else nn.Linear(features, width, bias=False)
