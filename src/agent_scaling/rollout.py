"""The ``rollout`` verb: play a checkpoint's policy and tabulate its episodes."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import nn

from agent_scaling.actor import RandomPolicy, default_block
from agent_scaling.checkpoint import load_policy
from agent_scaling.envs.game import FAMILIES, find_game
from agent_scaling.envs.nethack import character_options
from agent_scaling.episodes import MEASURES, summarise, write_json, write_table
from agent_scaling.errors import InputError
from agent_scaling.parts import check_same_division, find_part, merge_parts, parts_in, write_part
from agent_scaling.play import MAX_EPISODE_STEPS, Traces, play
from agent_scaling.replay import check_kinds, write_replays
from agent_scaling.sampling import Sampling

if TYPE_CHECKING:
    from agent_scaling.tracking import StoredRun

__all__ = ["play", "rollout", "summarise"]


def rollout(
    *,
    ckpt: str,
    output: str,
    episodes: int = 100,
    seed: int = 0,
    sampling: str = "softmax",
    temperature: float = 1.0,
    top_k: int = 10,
    top_p: float = 0.95,
    sampling_seed: int = 0,
    character: str = "@",
    max_episode_steps: int = MAX_EPISODE_STEPS,
    level_seed: int | None = None,
    env: str | None = None,
    options: Mapping[str, Any] | None = None,
    workers: int | None = None,
    lanes: int | None = None,
    block: int | None = None,
    device: str = "auto",
    shard: str | None = None,
    merge: bool = False,
    ttyrecs: bool = False,
    replay: bool | str = False,
    mlflow_run_id: str | None = None,
    tracking_uri: str = "sqlite:///mlflow.db",
) -> None:
    """Play the episodes ``seed`` … ``seed + episodes − 1`` and write what came of them.

    Writes ``episodes.parquet`` (a row per episode) and ``summary.json``; prints the summary. The
    table is the same for any number of workers and lanes, and of jobs that share it (``shard``).

    Args:
        ckpt: A checkpoint of ``train`` or ``import``; ``random`` for uniformly random keys.
        output: Folder for the results.
        episodes: Episodes to play.
        seed: Seed of the first one.
        sampling: ``softmax``, ``argmax``, ``top_k`` or ``top_p``.
        temperature: Divides the logits.
        top_k: Actions that ``top_k`` keeps.
        top_p: Probability mass that ``top_p`` keeps.
        sampling_seed: Seed of the sampling noise.
        character: ``role-race-gender-alignment``, parts of it, or ``@``.
        max_episode_steps: Step cap of an episode.
        level_seed: Seed of level generation for all episodes; null: each has its own.
        env: An Atari game for ``ckpt=random``; a checkpoint knows its own.
        options: Of the Atari game, where they are others than those of the recordings.
        workers: Game processes; null: one per core.
        lanes: Games at the same time; null: a block per core, on a GPU two blocks.
        block: Lanes per call of the policy; null: 16 on a CPU, 128 on a GPU.
        device: ``auto``, or what torch calls it.
        shard: ``3/8``: play the third of eight parts only; ``slurm``: the part that a job of an
            array is. The job that completes the parts in ``output`` merges them.
        merge: Play nothing: merge the parts in ``output``.
        ttyrecs: Record the games in ``output``, as ttyrec3 in NLD-AA's layout.
        replay: Write replays of the ``best``, the ``median`` or the ``worst`` episode, as HTML and
            as casts; true for all three.
        mlflow_run_id: Copy table, summary and replays to this MLflow run too, named after
            ``output``; ``ckpt`` is the run that the checkpoint is of.
        tracking_uri: The MLflow store of that run.

    Raises:
        InputError: A value is out of its range, the checkpoint cannot be used, or parts do not
            make a whole.
    """
    drawing = Sampling(sampling, temperature, top_k, top_p)
    check(episodes, seed, sampling_seed, level_seed, max_episode_steps, workers, lanes, block)
    character_options(character)
    check_kinds(replay)
    part = find_part(shard)
    if replay and (part or merge):
        raise InputError("replay= goes without shard= and merge=; play one episode again with it")
    run = find_run(mlflow_run_id, ckpt, tracking_uri)
    where = find_device(device)
    changed = {name: value for name, value in (options or {}).items() if value is not None}
    policy, game = find_policy(ckpt, env, changed)
    if game and (replay or ttyrecs):
        raise InputError("replay= and ttyrecs= are of NetHack; the policy plays another game")
    folder, seeds = Path(output), range(seed, seed + episodes)
    if part and (there := parts_in(folder)):
        check_same_division(folder, there[0], part)
    settings = {
        "ckpt": ckpt, "ckpt_sha256": digest(ckpt), "episodes": episodes, "seed": seed,
        "sampling": sampling, "temperature": temperature, "top_k": top_k, "top_p": top_p,
        "sampling_seed": sampling_seed, "character": character,
        "max_episode_steps": max_episode_steps, "level_seed": level_seed,
        "game": game, "block": block or default_block(where), "device": str(where),
    }  # fmt: skip
    write_json(settings, folder / "settings.json")  # an output that cannot be written shows now
    began = time.monotonic()
    traces: Traces | None = {} if replay else None
    if merge:
        table = merge_parts(folder, settings, seeds)
    else:
        mine = part.share(seeds) if part else seeds
        with EpisodeProgress(len(mine)) as progress:
            table = play(
                policy,
                mine,
                sampling=drawing,
                sampling_seed=sampling_seed,
                character=character,
                max_episode_steps=max_episode_steps,
                level_seed=level_seed,
                workers=workers,
                lanes=lanes,
                block=block,
                device=where,
                record_dir=folder if ttyrecs else None,
                traces=traces,
                progress=progress.update,
            )
    seconds = time.monotonic() - began
    if part and not merge:
        write_part(part, table, settings, folder)
        Console().print(f"part {part}: {part.table(folder)}", soft_wrap=True, highlight=False)
        if len(parts_in(folder)) < part.count:
            return  # the job that is last merges
        table = merge_parts(folder, settings, seeds)
    write_table(table, folder / "episodes.parquet")
    summary = summarise(table)
    write_json(summary, folder / "summary.json")
    print_summary(summary, table, None if part or merge else seconds, folder)
    rules = {
        "character": character, "max_episode_steps": max_episode_steps, "level_seed": level_seed
    }  # fmt: skip
    replays = write_replays(table, traces or {}, folder / "replays", replay, **rules)
    for path in replays:
        Console().print(f"replay: {path}", soft_wrap=True, highlight=False)
    if run is not None:
        name = folder.resolve().name
        for file in ("episodes.parquet", "summary.json", "settings.json"):
            run.log_file(folder / file, f"rollouts/{name}")
        for path in replays:
            run.log_file(path, f"replays/{name}")


def find_policy(
    ckpt: str, env: str | None, options: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    """The policy, and the game that it plays where that is not NetHack (``Policy.game``)."""
    if ckpt != "random":
        policy = load_policy(ckpt)
        given = {**options, **({"env": env} if env else {})}
        if given and not policy.game:
            raise InputError(f"{next(iter(given))}=: {ckpt} was trained on NetHack")
        if given:
            policy.game = {**policy.game, "options": {**policy.game["options"], **given}}
            count = count_actions(policy.game)
            policy.check_data(policy.observations, count)
        return policy, policy.game
    if env is None:
        return RandomPolicy(), {}
    game = {"family": "atari", "options": {"env": env, **options}}
    return RandomPolicy(count_actions(game), game), game


def count_actions(game: Mapping[str, Any]) -> int:
    """Actions of the game; raises :class:`InputError` for options that it does not have."""
    family: Any = find_game(FAMILIES[game["family"]])
    try:
        family({}, **game["options"])
    except TypeError as error:
        raise InputError(f"options: {error}") from None
    count: int = family.count_actions(**game["options"])
    return count


def digest(ckpt: str) -> str | None:
    """SHA-256 of the checkpoint's file: ``last.ckpt`` is another one after an hour of training."""
    if ckpt == "random":
        return None
    with Path(ckpt).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_run(mlflow_run_id: str | None, ckpt: str, tracking_uri: str) -> StoredRun | None:
    """The MLflow run that ``mlflow_run_id`` means; raises :class:`InputError` where there is none.

    ``train`` leaves its run's id beside the folder of its checkpoints.
    """
    if mlflow_run_id is None:
        return None
    from agent_scaling.tracking import RUN_ID_FILE, StoredRun  # MLflow takes a second to import

    if mlflow_run_id == "ckpt":
        remembered = Path(ckpt).resolve().parent.parent / RUN_ID_FILE
        if not remembered.is_file():
            raise InputError(f"mlflow_run_id=ckpt: no {remembered}; give the run's id")
        mlflow_run_id = remembered.read_text().strip()
    return StoredRun(tracking_uri, mlflow_run_id)


def check(
    episodes: int,
    seed: int,
    sampling_seed: int,
    level_seed: int | None,
    max_episode_steps: int,
    *sizes: int | None,
) -> None:
    """Ranges of the verb's numbers; raises :class:`InputError`."""
    if episodes < 1 or max_episode_steps < 1:
        raise InputError("episodes= and max_episode_steps= must be at least 1")
    if min(seed, sampling_seed, level_seed or 0) < 0:
        raise InputError("seed=, sampling_seed= and level_seed= must not be negative")
    if any(size is not None and size < 1 for size in sizes):
        raise InputError("workers=, lanes= and block= must be at least 1, or null")


def find_device(name: str) -> torch.device:
    """``auto`` is the GPU where there is one; raises :class:`InputError` for an unusable name."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device={name!r} cannot be used ({str(error).splitlines()[0]})") from None
    return device


class EpisodeProgress:
    """A line that counts episodes and steps per second, on a terminal only."""

    def __init__(self, episodes: int) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.completed}/{task.total} episodes · {task.fields[speed]} steps/s"),
            TimeElapsedColumn(),
            console=Console(file=sys.stderr),
            transient=True,
        )
        self._task = self._bar.add_task("play", total=episodes, speed="–")
        self._began = time.monotonic()

    def update(self, done: int, steps: int) -> None:
        """Show where the evaluation is."""
        speed = f"{steps / (time.monotonic() - self._began):,.0f}"
        self._bar.update(self._task, completed=done, speed=speed)

    def __enter__(self) -> EpisodeProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def print_summary(
    summary: dict[str, Any], table: pd.DataFrame, seconds: float | None, folder: Path
) -> None:
    """The measures, returns by role, how the episodes ended, how long it took."""
    console = Console()
    shown = Table("", "mean", "± se", "90 % interval", "median", title="episodes")
    for name in MEASURES:
        if name in summary:
            shown.add_row(name, *_cells(summary[name]))
    shown.add_section()
    for role, entry in summary["roles"].items():
        shown.add_row(f"return, {role} ×{entry['episodes']}", *_cells(entry["return"]))
    console.print(shown)
    ends = ", ".join(f"{end} {count}" for end, count in summary["ends"].items())
    steps = int(table["steps"].sum())
    took = f" in {seconds:.0f} s ({steps / seconds:,.0f}/s)" if seconds else ""
    console.print(
        f"{summary['episodes']} episodes ({ends}), {steps:,} steps{took}", highlight=False
    )
    console.print(f"table: {folder / 'episodes.parquet'}", soft_wrap=True, highlight=False)


def _cells(entry: dict[str, Any]) -> list[str]:
    interval = "–" if entry["interval"] is None else "{:,.1f} … {:,.1f}".format(*entry["interval"])
    error = "–" if entry["se"] is None else f"{entry['se']:,.1f}"
    return [f"{entry['mean']:,.1f}", error, interval, f"{entry['median']:,.1f}"]
