"""Checkpoints of other programs, read without importing or calling anything of theirs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent_scaling.policies.checkpoints.files import read_checkpoint

PLAIN: dict[str, Any] = {
    "argparse.Namespace": Namespace,
    "numpy.dtype": np.dtype,
    # numpy's public way to name the function that makes scalars, at its old and new address
    "numpy.core.multiarray.scalar": np.float64().__reduce__()[0],
    "numpy._core.multiarray.scalar": np.float64().__reduce__()[0],
}
"""Classes of plain values that the weights-only reader does not know by itself."""

DTYPES = [getattr(np.dtypes, name) for name in np.dtypes.__all__]


class Inert:
    """Stands in for an object of an unknown class: keeps its attributes, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        """Ignore the arguments that the class was called with."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        """Keep the attributes of the original object."""
        if isinstance(state, dict):
            self.__dict__.update(state)


def read_foreign(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of another program; objects of unknown classes become inert.

    (Optimisers and loggers leave such objects behind;
    :func:`~agent_scaling.policies.checkpoints.files.read_checkpoint` refuses them.)

    Raises:
        InputError: The file is missing, torn, or more than unknown classes is wrong with it.
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # missing or torn: the reader says which
        names = list(PLAIN)
    stand_ins = [(PLAIN.get(name) or type("Unknown", (Inert,), {}), name) for name in names]
    with torch.serialization.safe_globals([*stand_ins, *DTYPES]):
        return read_checkpoint(path, foreign=True)
