"""The ``demonstrate`` verb: records N whole games in P processes; a killed run resumes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from agent_scaling.playing.demonstrators.games import GameRecord, GameSpec, find_game
from agent_scaling.playing.demonstrators.pool import play_all
from agent_scaling.playing.demonstrators.summary import GameProgress, print_summary
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import disk_errors, write_file
from agent_scaling.runtime.locks import output_locked
from agent_scaling.runtime.terminal import plain_console

MANIFEST = "games.jsonl"
"""One line per finished game: its folder and its :class:`GameRecord`, sorted by seed."""

BROKE_OFF = "the game broke off"
_RECORD = "game.json"
_PARTIAL = ".partial-"
_RETRIES = 3


def demonstrate(
    *,
    game: str = "nethack",
    games: int = 20,
    processes: int | None = None,
    seed: int = 0,
    max_steps: int = 5_000,
    character: str = "@",
    env: str | None = None,
    player: str | None = None,
    options: Mapping[str, Any] | None = None,
    output: str,
) -> None:
    """Play ``games`` whole games with a player of ``game`` and record them.

    Game i has the seed ``seed + i``. Its folder (``nle_data/<seed>``; for Atari ``games/<seed>``)
    appears when the game is complete. Games that exist are not played again, so a killed run
    resumes, and a larger ``games`` adds games.
    ``processes`` defaults to one per core. ``character`` is NetHack's; ``env`` and further
    ``options`` are Atari's. ``player`` is one of the game's, of NetHack also the import path of a
    user's (``package.module:Class``, see :mod:`agent_scaling.playing.demonstrators.own_player`);
    where that fails, its game is left out.

    Raises:
        InputError: An unknown game, character, player or option, a count below 1, no game that came
            to its end, or an output that cannot be written or that holds games with other settings.
    """
    family = find_game(game)
    given = {"env": env, "player": player, **(options or {})}
    if game == "nethack":
        given["character"] = character
    settings = family.make_options(**{k: v for k, v in given.items() if v is not None})
    _check_counts(games=games, max_steps=max_steps, processes=processes)
    if seed < 0:
        raise InputError(f"seed={seed}: must be 0 or more")
    root = Path(output)
    workers = min(games, processes or len(os.sched_getaffinity(0)))
    with _own(root, family.FOLDER) as partial:
        done = {r.seed: r for r in read_records(root, family.FOLDER)}
        _check_settings(root, done, settings, max_steps)
        seeds = [s for s in range(seed, seed + games) if s not in done]
        todo = [GameSpec(s, settings, max_steps, partial / f"{s:06d}") for s in seeds]
        with GameProgress(total=games, done=games - len(todo)) as progress:
            for folder, record in _play(game, todo, workers, partial):
                if not record.end:
                    why = f"the player failed ({record.fault})" if record.fault else BROKE_OFF
                    progress.say(f"seed {record.seed}: {why}; its game is left out")
                    continue
                _publish(folder, record, root / family.FOLDER)
                done[record.seed] = record
                progress.add(record)
        _write_manifest(root, family.FOLDER, done)
    records = [done[s] for s in range(seed, seed + games) if s in done]
    if not records:
        raise InputError(f"output={root}: none of the {games} games came to its end; see the lines")
    print_summary(game, records, root, len(todo), progress.seconds)


def read_records(root: Path, folder: str = "nle_data") -> list[GameRecord]:
    """Return the records of the finished games under an output folder, by seed."""
    files = (root / folder).glob(f"*/{_RECORD}")
    return sorted((GameRecord(**json.loads(f.read_text())) for f in files), key=lambda r: r.seed)


def _check_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < 1:
            raise InputError(f"{name}={value}: must be 1 or more")


def _check_settings(
    root: Path, done: dict[int, GameRecord], options: dict[str, Any], max_steps: int
) -> None:
    asked = {**options, "max_steps": max_steps}
    for record in done.values():
        there = {**record.options, "max_steps": record.max_steps}
        if there != asked:
            other = [
                name for name in sorted({*there, *asked}) if there.get(name) != asked.get(name)
            ]
            shown = " ".join(f"{name}={there.get(name)}" for name in other)
            raise InputError(f"output={root}: holds games with {shown}; use that or another output")


@contextlib.contextmanager
def _own(root: Path, games: str) -> Iterator[Path]:
    """Lock the output folder; yield a scratch folder inside it that is removed afterwards."""
    with output_locked(root, "demonstrate"), disk_errors(root):
        (root / games).mkdir(exist_ok=True)
        for leftover in root.glob(_PARTIAL + "*"):  # left by a run that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=root) as partial:
            yield Path(partial)


def _play(
    game: str, todo: list[GameSpec], workers: int, scratch: Path
) -> Iterator[tuple[Path, GameRecord]]:
    """Play every game; if a process dies (NetHack is C), continue with the remaining games."""
    left = {spec.seed: spec for spec in todo}
    for retry in range(_RETRIES + 1):
        try:
            for record in play_all(game, list(left.values()), workers, scratch):
                yield left.pop(record.seed).folder, record
        except BrokenProcessPool:
            if retry == _RETRIES:
                raise
            for spec in left.values():
                shutil.rmtree(spec.folder, ignore_errors=True)
            plain_console(stderr=True).print(f"a game's process died; {len(left)} games are left")


def _publish(folder: Path, record: GameRecord, target: Path) -> None:
    """Give a finished game its final name in one rename."""
    (folder / _RECORD).write_text(json.dumps(record.to_json()) + "\n")
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    folder.replace(target / folder.name)


def _write_manifest(root: Path, folder: str, done: dict[int, GameRecord]) -> None:
    lines = [
        json.dumps({"folder": f"{folder}/{seed:06d}", **done[seed].to_json()}) + "\n"
        for seed in sorted(done)
    ]
    write_file(root / MANIFEST, "".join(lines))
