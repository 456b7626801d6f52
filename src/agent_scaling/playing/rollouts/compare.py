"""The ``compare`` verb: two checkpoints, or two tables of episodes, on the same seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from agent_scaling.playing.options import PlayOptions, check_sizes
from agent_scaling.playing.play import play
from agent_scaling.playing.players import RandomPolicy, find_policy
from agent_scaling.playing.rollouts.pairs import (
    Difference,
    as_json,
    differences,
    digits,
    notes,
    pair,
    verdict,
)
from agent_scaling.playing.rollouts.rollout import make_settings
from agent_scaling.playing.rollouts.scoreboard import EpisodeProgress
from agent_scaling.playing.rollouts.tables import write_tables
from agent_scaling.policies.inference import find_device
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError, reading
from agent_scaling.runtime.files import write_file, write_json
from agent_scaling.runtime.terminal import plain_console, say

RANDOM = "random"
TABLE, SETTINGS = "episodes.parquet", "settings.json"
OWN = ("ckpt", "ckpt_sha256", "episodes", "seed", "device")
"""Settings in which compared tables may differ."""


def compare(
    *,
    first: str,
    second: str,
    output: str,
    by: str = "return",
    episodes: int = 100,
    game: str | None = None,
    env: str | None = None,
    options: Mapping[str, Any] | None = None,
    workers: int | None = None,
    lanes: int | None = None,
    device: str = "auto",
    **how: Any,
) -> dict[str, Any]:
    """Compare two players on the same seeds; say which is better, and by how much.

    Writes ``comparison.json`` and ``pairs.csv`` (a row per seed), and where checkpoints are played
    their tables, as ``rollout`` writes them, to ``first`` and ``second``.

    Args:
        first: A checkpoint, ``random``, or a table: an output of ``rollout``, a Parquet or a CSV.
        second: The other, of the same kind.
        output: Folder for the results.
        by: The column by which they are judged, such as ``return``, ``progression``, ``solved``.
        episodes: Episodes of each checkpoint; tables have theirs.
        game: As in ``rollout``, for checkpoints, and so are all further arguments.
        env: The family's game.
        options: Options of the game.
        workers: Game processes.
        lanes: Games at the same time.
        device: The device of the policies.
        how: The options of :class:`~agent_scaling.playing.options.PlayOptions`.

    Returns:
        The content of ``comparison.json``.

    Raises:
        InputError: A table or checkpoint cannot be used, they are of different games, share no
            seed, or lack the column ``by``.
    """
    names = {"first": first, "second": second}
    paths = {side: table_of(name) for side, name in names.items()}
    folder = Path(output)
    if all(paths.values()):
        tables = {side: read_table(path) for side, path in paths.items() if path}
        said = other_settings({side: path for side, path in paths.items() if path})
    elif any(paths.values()):
        raise InputError(f"first={first} second={second}: give two tables, or two checkpoints")
    else:
        check_sizes(episodes=episodes, workers=workers, lanes=lanes)
        chosen, where, said = PlayOptions(**how), find_device(device), []
        policies = find_policies(names, game, env, {**(options or {}), **chosen.rules})
        seeds, tables = range(chosen.seed, chosen.seed + episodes), {}
        for side, policy in policies.items():
            settings = make_settings(names[side], episodes, chosen, policy.game, where)
            write_json(folder / side / SETTINGS, settings)
            with EpisodeProgress(episodes) as progress:
                tables[side] = play(
                    policy, seeds, chosen, workers=workers, lanes=lanes, device=where,
                    progress=progress.update,
                )  # fmt: skip
            write_tables(tables[side], folder / side / TABLE)
    return report(names, tables, by, said, folder)


def find_policies(
    names: Mapping[str, str], game: str | None, env: str | None, options: Mapping[str, Any]
) -> dict[str, Policy | RandomPolicy]:
    """Return both players, of one game; ``random`` plays that of the other.

    Raises:
        InputError: As :func:`~agent_scaling.playing.players.find_policy`; they play two games.
    """
    found = {side: find_policy(name, game, env, options) for side, name in names.items()}
    if game is None and env is None:
        for side, other in (("first", "second"), ("second", "first")):
            if names[side] == RANDOM != names[other]:
                found[side] = RandomPolicy(found[other].num_actions, found[other].game)
    if found["first"].game != found["second"].game:
        played = " and ".join(str(policy.game) for policy in found.values())
        raise InputError(
            f"first= and second= play different games ({played}); game=, env=, options= and the "
            "rules such as max_episode_steps= make them one"
        )
    return found


def report(
    names: Mapping[str, str],
    tables: Mapping[str, pd.DataFrame],
    by: str,
    said: list[str],
    folder: Path,
) -> dict[str, Any]:
    """Compare two tables, print and write the result; see :func:`compare`."""
    pairs = pair(tables["first"], tables["second"])
    found = differences(pairs)
    if by not in found:
        raise InputError(f"by={by}: not in both tables; use one of {', '.join(found)}")
    judged = found[by]
    result: dict[str, Any] = {
        **names,
        "seeds": len(pairs),
        "by": by,
        "better": {1: "second", -1: "first", 0: None}[judged.sign],
        "verdict": verdict(judged, by, len(pairs), names),
        "notes": [*said, *notes(tables["first"], tables["second"], pairs)],
        "measures": {name: as_json(one) for name, one in found.items()},
    }
    write_json(folder / "comparison.json", result)
    write_file(folder / "pairs.csv", pairs.to_csv(index=False))
    show(found, len(pairs))
    for line in result["notes"]:
        say(f"note: {line}")
    say(str(result["verdict"]))
    say(f"record: {folder / 'comparison.json'}")
    return result


def show(found: Mapping[str, Difference], seeds: int) -> None:
    """Print a row per measure."""
    columns = ("", "first", "second", "difference", "90 % interval", "up:down")
    table = Table(*columns, title=f"{seeds} seeds; second − first")
    for name, one in found.items():
        width = digits(name)
        numbers = (f"{value:,.{width}f}" for value in (one.first, one.second))
        interval = "–"
        if one.interval is not None:
            interval = " … ".join(f"{value:+,.{width}f}" for value in one.interval)
        mean = f"{one.mean:+,.{width}f}"
        table.add_row(name, *numbers, mean, interval, f"{one.higher}:{one.lower}")
    plain_console().print(table)


def table_of(name: str) -> Path | None:
    """Return the table that a name means: a file, or a folder with one; None for a player.

    Raises:
        InputError: A folder without a table.
    """
    path = Path(name)
    if path.is_dir():
        if not (path / TABLE).is_file():
            raise InputError(f"{path}: no {TABLE} in it; give an output of rollout, or a file")
        return path / TABLE
    return path if path.suffix in (".parquet", ".csv") else None


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of episodes; raises :class:`InputError`."""
    with reading(path, "give a table that rollout wrote"):
        return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)


def other_settings(paths: Mapping[str, Path]) -> list[str]:
    """Return a line for each setting in which two tables differ, as far as files beside say."""
    beside = [path.parent / SETTINGS for path in paths.values()]
    if not all(path.is_file() for path in beside):
        return []
    known = []
    for path in beside:
        with reading(path, "remove it"):
            settings = json.loads(path.read_text())
            if not isinstance(settings, dict):
                raise ValueError("no object")
            known.append(settings)
    one, two = known
    keys = [key for key in sorted({*one, *two} - {*OWN}) if one.get(key) != two.get(key)]
    return [f"played with {key}={one.get(key)} and {key}={two.get(key)}" for key in keys]
