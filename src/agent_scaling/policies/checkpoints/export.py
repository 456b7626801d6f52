"""A policy as an MLflow model: one step of it as a graph, which loads without anybody's code."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from agent_scaling.data.batch import FIELDS, Batch, blank_batch, shown_fields
from agent_scaling.envs.actions import NO_ACTION
from agent_scaling.policies.policy import Policy

LANES = 2  # of the example: torch.export would take an axis of 1 for a constant
EXAMPLE = "input_example.json"
COMPARES = "warn_dependency_requirement_mismatches"
"""MLflow's function that compares a model's requirements with what is installed here; another
MLflow may have none. It reads the lists of files of all packages, in 0.7 s, and the requirements
are written from the versions installed here."""
HARMLESS = ("The tensor attributes .* were assigned during export", "No complete tensor found")
"""Warnings of torch.export about each LSTM, and about weights that share a storage."""


class Step(nn.Module):
    """A policy's answer to one frame of B lanes, tensors in and tensors out.

    ``step(*shown, prev_action, first, *state) → (logits [B, A], baseline [B], *state)``: ``shown``
    is what the policy reads, in the order of its ``observations``, each [B, …]; ``prev_action``
    int64 [B]; ``first`` bool [B], true at an episode's first frame, where the state is ignored and
    may be zeros; ``state`` as :meth:`~agent_scaling.policies.policy.Policy.initial_state` has it,
    the lane its second axis.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy
        self.shown = policy.observations
        states = [f"state_{index}" for index in range(len(policy.initial_state(0)))]
        self.inputs = [*self.shown, "prev_action", "first", *states]
        self.outputs = ["logits", "baseline", *states]
        forward: Any = partial(self._step)
        # torch.export asks the signature how many inputs there are.
        kind = Parameter.POSITIONAL_OR_KEYWORD
        forward.__signature__ = Signature([Parameter(name, kind) for name in self.inputs])
        self.forward = forward

    def _step(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        frames = [tensor[None] for tensor in inputs[: len(self.shown) + 2]]
        *shown, prev_action_TB, first_TB = frames
        batch = Batch(
            **shown_fields(dict(zip(self.shown, shown, strict=True))),
            prev_action_TB=prev_action_TB,
            action_TB=torch.full_like(prev_action_TB, NO_ACTION),
            first_TB=first_TB,
            openings=(0,),
        )
        logits_TBA, baseline_TB, after = self.policy(batch, tuple(inputs[len(frames) :]))
        return (logits_TBA[0], baseline_TB[0], *after)

    def example(self) -> list[Tensor]:
        """Inputs: blank screens, the first of their episodes."""
        batch = blank_batch(1, LANES)
        shown = [getattr(batch, FIELDS[name])[0] for name in self.shown]
        first_B = torch.ones(LANES, dtype=torch.bool)
        return [*shown, batch.prev_action_TB[0], first_B, *self.policy.initial_state(LANES)]


def save_model(policy: Policy, folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write ``policy`` as a model that :func:`mlflow.pytorch.load_model` takes.

    It holds tensors and a graph of torch's own operators (torch.export's ``pt2``), and MLflow
    refuses to load it if there is more in it: no pickled code is run, and this package need not be
    there. A model of an earlier call is replaced.

    Args:
        policy: On the CPU, in evaluation mode.
        folder: The model's; made.
        metadata: Plain values to keep with it.
    """
    import mlflow.pytorch
    from mlflow.models import Model
    from mlflow.utils import environment

    unchecked = patch.object(environment, COMPARES, lambda *_: None, create=True)
    step, about = Step(policy).eval(), Model()
    example = step.example()
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    with warnings.catch_warnings(), torch.no_grad(), unchecked:
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message)
        mlflow.pytorch.save_model(
            step,
            str(beside),
            mlflow_model=about,
            signature=signature_of(step, example, step(*example)),
            input_example=[tensor.numpy() for tensor in example],
            pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}", "numpy"],
            serialization_format="pt2",
            metadata=dict(metadata),
        )
    # Of several tensors MLflow keeps no example, but reads one.
    arrays = {name: tensor.tolist() for name, tensor in zip(step.inputs, example, strict=True)}
    (beside / EXAMPLE).write_text(json.dumps(arrays))
    about.saved_input_example_info = {"artifact_path": EXAMPLE, "type": "ndarray"}
    about.save(str(beside / "MLmodel"))
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def signature_of(step: Step, given: Sequence[Tensor], answered: Sequence[Tensor]) -> Any:
    """Names, types and shapes of inputs and outputs; −1 is the number of lanes."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(names: Sequence[str], tensors: Sequence[Tensor]) -> Any:
        specs: list[Any] = []
        for name, tensor in zip(names, tensors, strict=True):
            array, shape = tensor.numpy(), list(tensor.shape)
            shape[1 if name.startswith("state_") else 0] = -1
            specs.append(TensorSpec(np.dtype(array.dtype), tuple(shape), name))
        return Schema(specs)

    return ModelSignature(schema(step.inputs, given), schema(step.outputs, answered))
