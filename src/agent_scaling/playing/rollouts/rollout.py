"""The ``rollout`` verb: play a checkpoint's policy and tabulate its episodes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from agent_scaling.envs.families import Description, find_family
from agent_scaling.playing.actor import default_block
from agent_scaling.playing.options import PlayOptions, check_sizes
from agent_scaling.playing.play import Traces, play
from agent_scaling.playing.players import find_policy
from agent_scaling.playing.replays import check_kinds, write_replays
from agent_scaling.playing.rollouts.scoreboard import EpisodeProgress, print_summary
from agent_scaling.playing.rollouts.shares import (
    check_same_division,
    merge_parts,
    parts_in,
    write_part,
)
from agent_scaling.playing.rollouts.tables import summarise, write_tables
from agent_scaling.policies.inference import find_device
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import digest, write_json
from agent_scaling.runtime.jobs import Part, find_part
from agent_scaling.runtime.terminal import say

if TYPE_CHECKING:
    from agent_scaling.tracking.stored_run import StoredRun

__all__ = ["play", "rollout", "summarise"]


def rollout(
    *,
    ckpt: str,
    output: str,
    episodes: int = 100,
    game: str | None = None,
    env: str | None = None,
    options: Mapping[str, Any] | None = None,
    workers: int | None = None,
    lanes: int | None = None,
    device: str = "auto",
    shard: str | None = None,
    merge: bool = False,
    ttyrecs: bool = False,
    replay: bool | str = False,
    mlflow_run_id: str | None = None,
    tracking_uri: str = "sqlite:///mlflow.db",
    **how: Any,
) -> None:
    """Play the episodes ``seed`` … ``seed + episodes − 1``, and write their table.

    Writes ``episodes.parquet`` (a row per episode), the same as ``episodes.csv``, and
    ``summary.json``; prints the summary. The table is the same for any number of workers, of lanes,
    and of jobs that share the episodes (``shard``).

    Args:
        ckpt: A checkpoint of ``train`` or ``import``; ``random`` for uniformly random actions.
        output: Folder for the results.
        episodes: Episodes to play.
        game: A family of :mod:`agent_scaling.envs.families`; by default the checkpoint's.
        env: A game of the family; by default the checkpoint's.
        options: Options of the game that replace those of the checkpoint.
        workers: Game processes; null starts one per core.
        lanes: Games at the same time; null takes a block per core, on a GPU two blocks.
        device: ``auto``, or torch's name of a device.
        shard: ``3/8`` plays the third of eight parts only; ``slurm`` takes the part from the job
            array. The job that completes the parts in ``output`` merges them.
        merge: Merge the parts in ``output``, and play nothing.
        ttyrecs: Record the games in ``output``, as ttyrec3 in NLD-AA's layout.
        replay: Write replays of the ``best``, the ``median`` or the ``worst`` episode; true for all
            three.
        mlflow_run_id: Copy table, summary and replays to this MLflow run too, named after
            ``output``; ``ckpt`` is the run that the checkpoint is of.
        tracking_uri: The MLflow store of that run.
        how: The options of :class:`~agent_scaling.playing.options.PlayOptions`.

    Raises:
        InputError: A value is out of its range, the checkpoint cannot be used, or parts do not
            make a whole.
    """
    chosen = PlayOptions(**how)
    check_sizes(episodes=episodes, workers=workers, lanes=lanes)
    check_kinds(replay)
    part = find_part(shard)
    if replay and (part or merge):
        raise InputError("replay= goes without shard= and merge=; play one episode again with it")
    run = find_run(mlflow_run_id, ckpt, tracking_uri)
    where, folder = find_device(device), Path(output)
    policy = find_policy(ckpt, game, env, {**(options or {}), **chosen.rules})
    family = policy.game.family
    if ttyrecs and not find_family(family).records:
        raise InputError(f"ttyrecs=true: {family} cannot be recorded; NetHack can")
    if part and (there := parts_in(folder)):
        check_same_division(folder, there[0], part)
    settings = make_settings(ckpt, episodes, chosen, policy.game, where)
    write_json(folder / "settings.json", settings)  # fails here if the output cannot be written
    seeds, seconds = range(chosen.seed, chosen.seed + episodes), None
    traces: Traces | None = {} if replay else None
    if not merge:
        began = time.monotonic()
        mine = part.share(seeds) if part else seeds
        with EpisodeProgress(len(mine)) as progress:
            table = play(
                policy, mine, chosen, workers=workers, lanes=lanes, device=where,
                record_dir=folder if ttyrecs else None, traces=traces, progress=progress.update,
            )  # fmt: skip
        seconds = time.monotonic() - began
        if part and not keep_part(part, table, settings, folder):
            return  # the last job merges
    if part or merge:
        table, seconds = merge_parts(folder, settings, seeds), None
    files = write_results(table, folder, seconds)
    replays = write_replays(table, traces or {}, folder / "replays", replay, policy.game)
    for path in replays:
        say(f"replay: {path}")
    if run is not None:
        copy_results(run, files, replays, folder.resolve().name)


def make_settings(
    ckpt: str, episodes: int, chosen: PlayOptions, game: Description, device: torch.device
) -> dict[str, Any]:
    """Return the settings that determine the table; the parts of an evaluation share them."""
    kept = {name: v for name, v in game.options.items() if name not in chosen.rules}
    return {
        "ckpt": ckpt, "ckpt_sha256": digest(ckpt), "episodes": episodes, **asdict(chosen),
        "game": game.family, "options": kept,
        "block": chosen.block or default_block(device), "device": str(device),
    }  # fmt: skip


def copy_results(run: StoredRun, files: list[Path], replays: list[Path], name: str) -> None:
    """Copy the files of the named evaluation to an MLflow run."""
    for path in files:
        run.log_file(path, f"rollouts/{name}")
    for path in replays:
        run.log_file(path, f"replays/{name}")


def keep_part(part: Part, table: pd.DataFrame, settings: dict[str, Any], folder: Path) -> bool:
    """Write a part; return True if it was the last one missing."""
    write_part(part, table, settings, folder)
    say(f"part {part}: {part.table(folder)}")
    return len(parts_in(folder)) == part.count


def write_results(table: pd.DataFrame, folder: Path, seconds: float | None) -> list[Path]:
    """Write table and summary, and print the summary; return all files, settings included."""
    tables = write_tables(table, folder / "episodes.parquet")
    summary = summarise(table)
    write_json(folder / "summary.json", summary)
    print_summary(summary, table, seconds, folder)
    return [*tables, folder / "summary.json", folder / "settings.json"]


def find_run(mlflow_run_id: str | None, ckpt: str, tracking_uri: str) -> StoredRun | None:
    """Return the MLflow run of ``mlflow_run_id``; raise :class:`InputError` if there is none.

    ``train`` leaves its run's id beside the folder of its checkpoints.
    """
    if mlflow_run_id is None:
        return None
    from agent_scaling.tracking.store import RUN_ID_FILE
    from agent_scaling.tracking.stored_run import StoredRun

    if mlflow_run_id == "ckpt":
        remembered = Path(ckpt).resolve().parent.parent / RUN_ID_FILE
        if not remembered.is_file():
            raise InputError(f"mlflow_run_id=ckpt: no {remembered}; give the run's id")
        mlflow_run_id = remembered.read_text().strip()
    return StoredRun(tracking_uri, mlflow_run_id)
