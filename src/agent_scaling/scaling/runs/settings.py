"""What the runs of a fit have in common, and where they differ, as MLflow has it."""

from __future__ import annotations

from dataclasses import dataclass

from agent_scaling.scaling.runs.table import Runs
from agent_scaling.tracking.store import open_store

ABSENT = "–"

TAGS = ("git_commit", "version.agent-scaling", "version.torch", "version.lightning", "version.nle")
"""Tags that say what the numbers depend on, beside the parameters."""

SHORT = 12
"""Characters of a hash that are written out."""

MOST = 6
"""Values of one parameter that are written out."""

HEADLINES = {
    "game": "tags.game",
    "data": "data.shards",
    "data's fingerprint": "data.fingerprint",
    "frames of an epoch": "data.train_frames",
    "learns by": "module._target_",
    "encoder": "policy.encoder._target_",
    "core": "policy.core._target_",
    "lanes": "data.lanes",
    "frames of a lane in a batch": "data.unroll_length",
    "optimiser": "optimizer.kind.path",
    "learning rate": "optimizer.lr",
    "schedule": "schedule.decay",
    "budgets count": "callbacks.flops.convention",
    "episodes of a rollout": "callbacks.rollouts.episodes",
    "seeds": "seed",
    "commit": "git_commit",
}
"""What a reader wants to know first, and the parameter or tag that tells."""


@dataclass(frozen=True)
class Settings:
    """Parameters and tags of runs.

    Attributes:
        same: Those with one value in all runs.
        varied: The others, with their values in the runs' order, each once.
    """

    same: dict[str, str]
    varied: dict[str, list[str]]

    @property
    def headlines(self) -> list[tuple[str, str]]:
        """Name and value of :data:`HEADLINES`, without what no run has."""
        found = [(title, self._text(name)) for title, name in HEADLINES.items()]
        return [(title, text) for title, text in found if text]

    def _text(self, name: str) -> str:
        given = [self.same[name]] if name in self.same else self.varied.get(name, [])
        if name.endswith(("._target_", ".path")):  # an import path: its last word is the part
            given = [value.rpartition(".")[2] for value in given]
        if name.endswith(("fingerprint", "commit")):
            given = [value[:SHORT] for value in given]
        if name.endswith("frames"):
            given = [f"{int(value):,}" if value.isdigit() else value for value in given]
        more = ", …" if len(given) > MOST else ""
        return ", ".join(given[:MOST]) + more


def settings_of(runs: Runs, tracking_uri: str) -> Settings:
    """What MLflow holds of the runs whose ids are known.

    Raises:
        InputError: No such store.
    """
    client = open_store(tracking_uri)
    found = [client.get_run(run_id).data for run_id in runs.stored()]
    names = sorted({name for data in found for name in data.params})
    values = {name: [data.params.get(name, ABSENT) for data in found] for name in names}
    for name in TAGS:
        values[name] = [data.tags.get(name, ABSENT) for data in found]
    values = {name: given for name, given in values.items() if set(given) != {ABSENT}}
    distinct = {name: list(dict.fromkeys(given)) for name, given in values.items()}
    return Settings(
        same={name: given[0] for name, given in distinct.items() if len(given) == 1},
        varied={name: given for name, given in distinct.items() if len(given) > 1},
    )
