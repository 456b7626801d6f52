"""The parameters and tags of a fit's runs in MLflow, split into common and varied ones."""

from __future__ import annotations

from dataclasses import dataclass

from agent_scaling.runtime.secrets import mask
from agent_scaling.scaling.runs.table import Runs
from agent_scaling.tracking.store import open_store

ABSENT = "absent"

TAGS = ("git_commit", "version.agent-scaling", "version.torch", "version.lightning", "version.nle")
"""Tags of code and library versions, on which the numbers depend beside the parameters."""

SHORT = 12
"""Characters of a hash that are shown."""

MOST = 6
"""Values of one parameter that are shown."""

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
"""Titles at the head of the report, each with the parameter or tag that it shows."""


@dataclass(frozen=True)
class Settings:
    """Parameters and tags of a fit's runs.

    Attributes:
        same: Parameters and tags with one value in all runs.
        varied: The others, with their distinct values in the runs' order.
    """

    same: dict[str, str]
    varied: dict[str, list[str]]

    @property
    def headlines(self) -> list[tuple[str, str]]:
        """The titles of :data:`HEADLINES` that some run has, with their values."""
        found = [(title, self._text(name)) for title, name in HEADLINES.items()]
        return [(title, text) for title, text in found if text]

    def _text(self, name: str) -> str:
        given = [self.same[name]] if name in self.same else self.varied.get(name, [])
        if name.endswith(("._target_", ".path")):  # an import path: show its last component
            given = [value.rpartition(".")[2] for value in given]
        if name.endswith(("fingerprint", "commit")):
            given = [value[:SHORT] for value in given]
        if name.endswith("frames"):
            given = [f"{int(value):,}" if value.isdigit() else value for value in given]
        more = ", …" if len(given) > MOST else ""
        return ", ".join(given[:MOST]) + more


def settings_of(runs: Runs, tracking_uri: str) -> Settings:
    """Read the parameters and tags of the runs whose MLflow ids are known.

    Raises:
        InputError: There is no such store.
    """
    client = open_store(tracking_uri)
    found = [client.get_run(run_id).data for run_id in runs.stored()]
    names = sorted({name for data in found for name in data.params})
    values = {n: [mask(data.params.get(n, ABSENT)) for data in found] for n in names}
    for name in TAGS:
        values[name] = [data.tags.get(name, ABSENT) for data in found]
    values = {name: given for name, given in values.items() if set(given) != {ABSENT}}
    distinct = {name: list(dict.fromkeys(given)) for name, given in values.items()}
    return Settings(
        same={name: given[0] for name, given in distinct.items() if len(given) == 1},
        varied={name: given for name, given in distinct.items() if len(given) > 1},
    )
