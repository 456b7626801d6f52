"""What callbacks and the trainer ask of each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lightning import Callback, Trainer

if TYPE_CHECKING:
    from lightning import Trainer


def measurements(trainer: Trainer) -> dict[str, Any]:
    """What callbacks measured at the latest milestone, by metric."""
    found: dict[str, Any] = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        found |= getattr(callback, "at_milestone", dict)()
    return found


def milestone_name(flops: float) -> str:
    """``flops_1e+12.ckpt``."""
    return f"flops_{flops:.4g}.ckpt"


def checkpoint_folder(trainer: Trainer) -> Path:
    """Where a run keeps its checkpoints."""
    return Path(trainer.default_root_dir) / "checkpoints"


def crossed(module: Any, every: int) -> bool:
    """Whether the last step took the module's frames past a multiple of ``every``."""
    return bool(module.frames // every > (module.frames - module.step_frames) // every)


T = TypeVar("T", bound=Callback)


def find(trainer: Trainer, kind: type[T]) -> T | None:
    """The trainer's callback of a class."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((c for c in callbacks if isinstance(c, kind)), None)
