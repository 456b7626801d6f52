"""The ``bco`` verb: clones games without actions, and improves their labels turn by turn."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from omegaconf.errors import InterpolationResolutionError
from pydantic import Field, NonNegativeInt, PositiveInt

from agent_scaling.config.check import flatten
from agent_scaling.config.command import setting
from agent_scaling.config.kept import keep
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.evaluation.accuracy import interval
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import write_file, write_json
from agent_scaling.runtime.secrets import mask
from agent_scaling.runtime.terminal import say
from agent_scaling.scaling.runs.fit_file import Positive
from agent_scaling.studies.experiments import compose_train, experiment_file
from agent_scaling.studies.run_cell import be_a_child, executable, last_line
from agent_scaling.tracking.milestones import milestones
from agent_scaling.tracking.store import open_or_make_store

SETTINGS, RESULTS, DONE = "bco.json", "turns.json", "done"
CHECKPOINT = "checkpoints/last.ckpt"
MEASURED = 25_600
"""Held-out frames on which a model's labels are compared with the true actions."""


@dataclass(frozen=True)
class Learner:
    """A training run: settings of ``train``, parameters, and FLOPs."""

    settings: Mapping[str, Any]
    params: float
    budget: float

    def planned(self, output: Path, seed: int, data: Mapping[str, Any]) -> dict[str, Any]:
        """Keys of ``train`` that this verb sets."""
        return {
            "policy.params": int(self.params),
            "flops_budget": float(self.budget),
            "seed": seed,
            "output": str(output),
            **{key: value for key, value in data.items() if value is not None},
        }


def bco(
    *,
    input: str,
    output: str,
    inverse: dict[str, Any],
    clone: dict[str, Any],
    truth: str | None = None,
    recordings: str | None = None,
    turns: NonNegativeInt = 2,
    games: PositiveInt = 300,
    max_steps: PositiveInt = 500,
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    inverse_params: Positive = 6e4,
    inverse_budget: Positive = 1e11,
    clone_params: Positive = 6e4,
    clone_budget: Positive = 1e11,
    seed: NonNegativeInt = 0,
) -> None:
    """Clone games without actions in turns; a repeated call continues.

    A turn trains an inverse-dynamics model on all games played so far, whose actions are known;
    labels ``input`` with it; clones the labels; and plays games with the clone. Turn 0 learns from
    ``recordings``, or from games of uniformly random actions. This is BCO(α) of Torabi et al. 2018
    (arXiv 1805.01954), Algorithm 1, with a new model and a new clone in each turn.

    ``output`` then holds a folder per turn (``shards``, ``inverse``, ``labelled``, ``clone``,
    ``games``) and ``turns.json``, a row per turn.

    Args:
        input: Shards without actions: the games to imitate.
        output: Folder.
        inverse: Settings of ``train`` for the inverse-dynamics models.
        clone: Settings of ``train`` for the clones.
        truth: Shards of the same games with their actions. Labels and clones are measured on
            them, and one more clone learns from them; nothing else is learnt from them.
        recordings: Folder of recordings with actions that turn 0 learns from.
        turns: Turns after the first model.
        games: Games that each player plays.
        max_steps: Steps after which such a game is ended.
        val_fraction: Share of the games played that models do not learn from.
        inverse_params: Parameters of a model.
        inverse_budget: FLOPs of its training.
        clone_params: Parameters of a clone.
        clone_budget: FLOPs of its training.
        seed: Of the training runs, and of the first game.

    Raises:
        InputError: A step failed; ``output`` holds other turns; a setting that ``train`` refuses.
    """
    settings = {k: v for k, v in locals().items() if k not in ("output", "turns")}
    folder = Path(output).resolve()
    model = Learner(flatten(inverse), inverse_params, inverse_budget)
    cloner = Learner(flatten(clone), clone_params, clone_budget)
    for learner in (model, cloner):
        cfg = compose_train(learner.settings, learner.planned(folder, seed, {}))
        with suppress(InterpolationResolutionError):  # the default names Hydra's folder
            open_or_make_store(str(cfg.logger.tracking_uri))
    check_shards("input", input, acted=False)
    if truth is not None:
        check_shards("truth", truth, acted=True)
    if recordings is not None and not Path(recordings).is_dir():
        raise InputError(f"recordings={recordings}: no such folder")
    keep(settings, folder / SETTINGS, "turns")
    cap = [f"max_episode_steps={max_steps}", f"episodes={games}", "ttyrecs=true"]
    played = [Path(recordings or folder / "random").resolve()]
    if recordings is None:
        step("rollout", folder / "random", ["ckpt=random", f"seed={seed}", *cap])
    share = f"val_fraction={val_fraction}"
    rows: list[dict[str, Any]] = []
    for turn in range(turns + 1):
        here, first = folder / f"turn_{turn}", seed + (turn + 1) * games
        step("shard", here / "shards", [setting("input", seen(played, here / "seen")), share])
        train(model, here / "inverse", seed, {"data.shards": str(here / "shards")})
        labeller = setting("ckpt", here / "inverse" / CHECKPOINT)
        if truth is not None:
            against = [labeller, setting("input", truth), "evaluate=true"]
            step("label", here / "agreement", [*against, f"max_frames={MEASURED}"])
        step("label", here / "labelled", [labeller, setting("input", input)])
        labels = {"data.shards": str(here / "labelled"), "data.val_shards": truth}
        rows.append({"turn": turn, **clone_and_play(cloner, here, seed, labels, first, cap)})
        say(told(rows[-1]))
        played.append(here / "games")
    if truth is not None:
        found = clone_and_play(
            cloner, folder / "truth", seed, {"data.shards": truth}, seed + games, cap
        )
        rows.append({"turn": "true actions", **found})
        say(told(rows[-1]))
    write_json(folder / RESULTS, rows)
    say(f"record: {folder / RESULTS}")


def check_shards(key: str, location: str, *, acted: bool) -> None:
    """Look at shards before anything is played or trained.

    Raises:
        InputError: They cannot be read, or do not hold what they are given for.
    """
    totals = ShardReader(location, "train").manifest.totals
    if any(total.actions for total in totals.values()) is acted:
        return
    if acted:
        raise InputError(f"{key}={location}: has no actions to compare with")
    raise InputError(
        f"{key}={location}: has actions already; give shards of recordings without actions, or of "
        "shard actions=false"
    )


def clone_and_play(
    cloner: Learner,
    folder: Path,
    seed: int,
    data: Mapping[str, Any],
    first: int,
    cap: Sequence[str],
) -> dict[str, Any]:
    """Train a clone, let it play games from the seed ``first`` on, and return what was measured."""
    train(cloner, folder / "clone", seed, data)
    player = setting("ckpt", folder / "clone" / CHECKPOINT)
    step("rollout", folder / "games", [player, f"seed={first}", *cap])
    return measured(folder)


def seen(played: Sequence[Path], folder: Path) -> Path:
    """Make a folder of links to all folders of games, which ``shard`` reads as one."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, games in enumerate(played):
        link = folder / f"games_{number}"
        if not link.is_symlink():
            link.symlink_to(games)
    return folder


def train(learner: Learner, output: Path, seed: int, data: Mapping[str, Any]) -> None:
    """Train ``learner`` to its budget in ``output``, from where it stands."""
    planned = learner.planned(output, seed, data)
    text = experiment_file(learner.settings, planned, [])
    name = f"{output.parent.name}_{output.name}"
    configs = output.parent.parent / "configs"
    write_file(configs / "experiment" / f"{name}.yaml", mask(text))  # a child knows whole URLs
    words = ["--config-dir", str(configs), f"experiment={name}", "ckpt_path=last"]
    step("train", output, words, placed=False)


def step(verb: str, output: Path, words: Sequence[str], placed: bool = True) -> None:
    """Run a verb in its own process, unless it has finished before.

    Raises:
        InputError: It fails.
    """
    log = output.parent / f"{output.name}.log"
    done = output.parent / f".{output.name}.{DONE}"
    if done.exists():
        return
    say(f"{output.parent.name}: {verb} → {output.name}")
    output.parent.mkdir(parents=True, exist_ok=True)
    where = [setting("output", output)] if placed else []
    with log.open("ab") as file:
        ended = subprocess.run(
            [executable(), verb, *words, *where],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=be_a_child,
            check=False,
        )
    if ended.returncode:
        raise InputError(f"{verb} failed: {last_line(log)} ({log}); the same command goes on")
    done.touch()


def measured(folder: Path) -> dict[str, Any]:
    """Return what a turn's folder says of its labels, its clone, and the clone's games."""
    row: dict[str, Any] = {}
    if (path := folder / "agreement" / "agreement.json").exists():
        found = json.loads(path.read_text())
        row["keys_right"] = found["top1"]
        games = found["margin_games"]
        row["keys_right_interval"] = interval(found["top1"], found["top1_se"], games)
    last = milestones(folder / "clone")[-1]
    row |= {"nats": last["val/nats"], "nats_se": last["val/nats_se"], "top1": last["val/top1"]}
    summary = json.loads((folder / "games" / "summary.json").read_text())
    score = summary["return"]
    return {**row, "return": score["mean"], "return_interval": score["interval"]}


def told(row: Mapping[str, Any]) -> str:
    """Say a row of ``turns.json`` in one line."""
    name = row["turn"] if isinstance(row["turn"], str) else f"turn {row['turn']}"
    parts = [f"clone {row['nats']:.3f} ± {row['nats_se']:.3f} held-out nats"]
    if "keys_right" in row:
        low, high = row["keys_right_interval"]
        right = row["keys_right"]
        parts.insert(0, f"labels {100 * right:.1f} % right [{100 * low:.1f}, {100 * high:.1f}]")
    parts.append(f"return {row['return']:.1f}")
    if row["return_interval"] is not None:
        parts[-1] += " [{:.1f}, {:.1f}]".format(*row["return_interval"])
    return f"{name}: {', '.join(parts)}"
