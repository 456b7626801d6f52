"""The record of a run in MLflow: its name, tags, description and data."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer
from mlflow.entities import Dataset, DatasetInput, InputTag
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from agent_scaling.config.check import flatten
from agent_scaling.config.command import command, setting, typed_words
from agent_scaling.data.run_data import RunData
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError, error_line
from agent_scaling.runtime.files import is_url, write_file
from agent_scaling.runtime.formats import compact, short
from agent_scaling.runtime.secrets import mask, masked
from agent_scaling.runtime.terminal import say
from agent_scaling.tracking.logger import OUTBOX_FILE, BufferedMLFlowLogger
from agent_scaling.tracking.run import STORE_ERRORS
from agent_scaling.tracking.store import RUN_ID_FILE
from agent_scaling.training.build import plain
from agent_scaling.training.hooks import run_module
from agent_scaling.training.modules.base import PolicyModule

DIGEST_LENGTH = 36  # MLflow's limit
UNKNOWN = "unknown"
CONFIG = "config.yaml"
UNRECORDED = ("ckpt_path", "output", "threads", "logger.", "tags.mlflow.")
"""Beginnings of keys whose change on a resume is not kept: where a run is and what it is called."""
STAYS = "logger.experiment_name"
"""A key of the run's beginning, which MLflow cannot change."""
ABSENT = "absent"
NOTE = "mlflow.note.content"
TAGS = "tags."
OWN = ("ckpt_path=", "output=", "+tags.mlflow.parentRunId=")
"""Words of the typed command that the command to resume sets itself, or that a sweep has added."""


def run_name(study: str, policy: Policy, budget: float | None, seed: int) -> str:
    """Name a run by study, core, parameters, FLOPs and seed: ``demo lstm 98.31k 1e12 s0``."""
    bought = [compact(budget)] if budget else []
    return " ".join([study, core_of(policy), short(policy.num_params), *bought, f"s{seed}"])


def core_of(policy: Policy) -> str:
    """Name the policy's core by its module, such as ``lstm``."""
    return type(policy.core).__module__.rpartition(".")[2]


def run_tags(policy: Policy, budget: float | None, seed: int) -> dict[str, str]:
    """The tags that runs are grouped and searched by, with package versions and the commit."""
    commit = git_commit()
    found = {"core": core_of(policy), "size": short(policy.num_params), "seed": str(seed)}
    if budget:
        found["budget"] = compact(budget)
    if commit != UNKNOWN:
        found["mlflow.source.git.commit"] = commit.removesuffix("-dirty")  # the column Version
    return found | environment() | {"git_commit": commit}


def description(
    module: PolicyModule, data: RunData, budget: float | None, output: Path, home: Path
) -> str:
    """Markdown for the run's page: data, policy, budget, and the commands to resume and to play.

    A branch goes on by the command of its trunk, whose folder ``home`` is.
    """
    policy, cost = module.policy, module.flops_per_frame
    goal = "no budget"
    if budget:
        goal = f"{compact(budget)} FLOPs = {budget / cost:,.0f} frames at {cost:,.0f} FLOPs each"
    lines = [
        f"- data: {data.description}",
        f"- policy: {policy.num_params:,} parameters, core {core_of(policy)}",
        f"- budget: {goal}",
    ]
    if (words := typed_words()) is not None:
        given = [word for word in words if not word.startswith(OWN)]
        again = command(*given, "ckpt_path=last", setting("output", home))
        lines.append(f"- go on: `{again}`")
    if policy.causal:  # a policy that looks ahead cannot play
        checkpoint = output / "checkpoints" / "last.ckpt"
        lines.append(f"- play: `{command('rollout', setting('ckpt', checkpoint), 'episodes=100')}`")
    return "\n".join(lines)


def data_inputs(shards: str | None, facts: Mapping[str, Any]) -> list[DatasetInput]:
    """MLflow's entry for the recordings, by their fingerprint; empty for a run without any."""
    if shards is None or "fingerprint" not in facts:
        return []
    dataset = Dataset(
        name=Path(mask(shards)).name,
        digest=str(facts["fingerprint"])[:DIGEST_LENGTH],
        source_type="url" if is_url(shards) else "local",
        source=json.dumps({"uri": mask(shards)}),
        profile=json.dumps({k: v for k, v in facts.items() if k != "fingerprint"}),
    )
    return [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]


def environment() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""
    packages = ("agent-scaling", "torch", "lightning", "nle", "numpy", "mlflow")
    found = {f"version.{name}": version(name) for name in packages}
    return found | {"version.python": platform.python_version()}


def git_commit() -> str:
    """The checkout's commit, with ``-dirty`` if it has changes; ``unknown`` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40"]
    try:
        done = subprocess.run(
            [*command, "--dirty", "--exclude=*"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
    return done.stdout.strip()


def reach_logger(
    cfg: DictConfig,
    output: Path,
    home: Path,
    module: PolicyModule,
    data: RunData,
) -> BufferedMLFlowLogger:
    """Call :func:`make_logger`, and turn an error of MLflow that would recur into one line.

    Raises:
        InputError: MLflow can neither begin nor find the run.
    """
    try:
        return make_logger(cfg, output, home, module, data)
    except STORE_ERRORS as error:
        raise InputError(
            f"logger.tracking_uri={cfg.logger.tracking_uri}: MLflow cannot begin or find the run "
            f"({error_line(error)}); start its server, or give another store"
        ) from error


class Resumed(Callback):
    """Says which settings a resumed run changes, and keeps them on its record.

    MLflow's parameters stay those of the beginning; each change gets a tag ``resumed.<key>``, and a
    tag of the run is given anew. This happens once all parts have taken the checkpoint: a resume
    that one of them refuses changes no record.

    Args:
        cfg: The config of the run.
        output: Its folder.
        home: The folder to name in the command that goes on.
        data: Its data.
        logger: Its logger.
        frames: Frames before the resume.
    """

    def __init__(
        self,
        cfg: DictConfig,
        output: Path,
        home: Path,
        data: RunData,
        logger: BufferedMLFlowLogger,
        frames: int,
    ) -> None:
        self.cfg, self.output, self.home, self.data = cfg, output, home, data
        self.logger, self.frames = logger, frames

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the config with the one that the folder keeps, and write it."""
        cfg, changed = self.cfg, changes(self.output / CONFIG, self.cfg)
        if STAYS in changed:
            began, asked = changed.pop(STAYS)
            say(f"{STAYS}={asked}: the run stays in the experiment that it began in, {began}")
        lines = {
            key: f"{old} -> {new} from frame {self.frames}" for key, (old, new) in changed.items()
        }
        for key, line in lines.items():
            say(f"{key} {line}")
        if lines:
            module = run_module(pl_module)
            budget = cfg.flops_budget
            note = description(module, self.data, budget, self.output, self.home)
            tags = {**run_tags(module.policy, budget, cfg.seed), NOTE: note}
            given = {key: str(new) for key, (_, new) in changed.items() if key.startswith(TAGS)}
            tags |= {key.removeprefix(TAGS): value for key, value in given.items()}
            tags |= {f"resumed.{key}": line for key, line in lines.items()}
            self.logger.describe(tags)
        write_config(self.output, cfg)


def write_config(output: Path, cfg: DictConfig) -> None:
    """Write a run's config into its folder, without secrets."""
    write_file(output / CONFIG, OmegaConf.to_yaml(masked(plain(cfg))))


def changes(file: Path, cfg: DictConfig) -> dict[str, tuple[object, object]]:
    """Return the settings that differ from those in the run's config file: (old, new) by key.

    One that only one side has is :data:`ABSENT` on the other; a null there counts as absent.
    """
    try:
        saved = OmegaConf.create(file.read_text())
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):
        return {}  # a run whose config was lost resumes all the same
    old = flatten(plain(saved)) if isinstance(saved, DictConfig) else {}
    new = flatten(masked(plain(cfg)))
    if not old:
        return {}
    found = {key: (old.get(key, ABSENT), new.get(key, ABSENT)) for key in {**new, **old}}
    return {
        key: (before, after)
        for key, (before, after) in found.items()
        if before != after
        and (key == STAYS or not key.startswith(UNRECORDED))
        and not (ABSENT in (before, after) and None in (before, after))
    }


def make_logger(
    cfg: DictConfig,
    output: Path,
    home: Path,
    module: PolicyModule,
    data: RunData,
) -> BufferedMLFlowLogger:
    """Make the logger; it continues the MLflow run that this output folder began, if any.

    The record of a run that is continued changes when it goes on (:class:`Resumed`).
    """
    remembered = output / RUN_ID_FILE
    about = (module.policy, cfg.flops_budget, cfg.seed)
    logger: BufferedMLFlowLogger = instantiate(
        cfg.logger,
        run_id=remembered.read_text().strip() if remembered.exists() else None,
        run_name=cfg.logger.run_name or run_name(cfg.tags.study, *about),
        outbox=output / OUTBOX_FILE,
        remember=remembered,
    )
    if logger.begun:
        logger.take_up()
        return logger
    note = description(module, data, cfg.flops_budget, output, home)
    facts = flatten(masked(plain(cfg)))
    facts["policy.num_params"] = module.policy.num_params
    facts["policy.flops_per_frame"] = module.flops_per_frame
    facts |= {f"data.{name}": value for name, value in data.facts.items()}
    tags = flatten(plain(cfg.tags))  # first on the run's page, and they win
    tags = {**tags, **run_tags(*about), NOTE: note, **tags}
    keys = ("data.shards", "data.demonstrations.shards")
    shards = next(filter(None, (OmegaConf.select(cfg, key) for key in keys)), None)
    logger.begin(facts, tags, data_inputs(shards, data.facts))
    return logger
