"""Assigns games to splits and shards, as a function of the games' identities and sizes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

from agent_scaling.data.recordings.base import Game, Skipped
from agent_scaling.data.shards.hashing import keyed_hash
from agent_scaling.runtime.errors import InputError

SPLITS = ("train", "val")
ALIASES = {"alignment": "align", "score": "points", "depth": "maxlvl"}
SETS = ("role", "race", "gender", "align", "version")


@dataclass(frozen=True)
class Shard:
    """The games of one shard, in order."""

    name: str
    games: tuple[Game, ...]


@dataclass(frozen=True)
class Plan:
    """The shards of a conversion, by split."""

    splits: Mapping[str, tuple[Shard, ...]]
    skipped: tuple[Skipped, ...]
    filtered: int
    """Games that the filters left out."""
    fingerprint: str
    """Hash of the input's files, their metadata and the settings that the shards depend on."""

    @property
    def shards(self) -> list[Shard]:
        """The shards of both splits, training first."""
        return [shard for split in SPLITS for shard in self.splits[split]]


def split_games(
    games: Sequence[Game], val_fraction: float, salt: str
) -> dict[str, tuple[Game, ...]]:
    """Split games by a hash of their identity, and order each split by another hash.

    A game is held out where its hash, as a fraction, lies below ``val_fraction``. Where that leaves
    a split empty (a handful of games), the game nearest to the border changes sides. The split
    remains a function of the identities alone.
    """
    place = {game.identity: keyed_hash(game.identity, f"split{salt}") / 2**64 for game in games}
    order = sorted(games, key=lambda game: keyed_hash(game.identity, f"order{salt}"))
    nearest = sorted(games, key=lambda game: place[game.identity])
    held_out = sum(value < val_fraction for value in place.values())
    if 0 < val_fraction < 1 and len(games) > 1:
        held_out = min(max(held_out, 1), len(games) - 1)
    val = {game.identity for game in nearest[:held_out]}
    return {
        "train": tuple(game for game in order if game.identity not in val),
        "val": tuple(game for game in order if game.identity in val),
    }


def cut_shards(split: str, games: Sequence[Game], shard_bytes: int) -> tuple[Shard, ...]:
    """Cut consecutive games into shards of ``shard_bytes`` of recordings or more (but the last)."""
    groups: list[list[Game]] = []
    size = shard_bytes
    for game in games:
        if size >= shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(game)
        size += game.bytes
    return tuple(Shard(f"{split}-{i:05d}", tuple(group)) for i, group in enumerate(groups))


def passes(game: Game, filters: Mapping[str, Any]) -> bool:
    """Return True where a game's metadata satisfy all filters; a missing field satisfies none.

    ``role``, ``race``, ``gender``, ``align``: a value or a list; ``death``: a regular expression;
    ``min_<field>``, ``max_<field>``: bounds, inclusive, of a numeric field.
    """
    return all(_passes(game, name, wanted) for name, wanted in filters.items())


def _passes(game: Game, name: str, wanted: object) -> bool:
    bound, _, field = name.partition("_")
    if bound in ("min", "max") and field:
        value = game.metadata.get(ALIASES.get(field, field))
        if not isinstance(value, int):
            return False
        assert isinstance(wanted, int | float)  # see check_filters
        return bool(value >= wanted if bound == "min" else value <= wanted)
    value = game.metadata.get(ALIASES.get(name, name))
    if value is None:
        return False
    if name == "death":
        return re.search(str(wanted), str(value)) is not None
    choices = wanted if isinstance(wanted, list | tuple) else [wanted]
    return str(value).lower() in {str(choice).lower() for choice in choices}


def check_filters(filters: Mapping[str, Any], games: Sequence[Game]) -> None:
    """Raise :class:`InputError` for a filter that no game can satisfy, before any is converted."""
    fields = {field for game in games for field in game.metadata}
    for name, wanted in filters.items():
        bound, _, field = name.partition("_")
        numeric = bound in ("min", "max") and bool(field)
        field = ALIASES.get(field, field) if numeric else ALIASES.get(name, name)
        if numeric and not isinstance(wanted, int | float):
            raise InputError(f"filters.{name}={wanted}: must be a number")
        if not numeric and name != "death" and field not in SETS:
            known = "role race gender alignment death min_<field> max_<field>"
            raise InputError(f"filters.{name}: unknown filter; known: {known}")
        if name == "death":
            try:
                re.compile(str(wanted))
            except re.error as error:
                raise InputError(f"filters.death={wanted}: {error}") from None
        if games and field not in fields:
            raise InputError(
                f"filters.{name}: no game has {field}; known: {' '.join(sorted(fields))}"
            )


def sample_key(identity: str) -> str:
    """Return a game's part of a WebDataset key, free of dots: readers cut a name at the first."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", identity)


def make_plan(
    games: Sequence[Game],
    skipped: Sequence[Skipped],
    *,
    filters: Mapping[str, Any],
    val_fraction: float,
    salt: str,
    shard_bytes: int,
    settings: Mapping[str, Any],
) -> Plan:
    """Filter the games, split them and group them into shards.

    ``settings`` are the further options that the shards' bytes depend on.
    """
    check_filters(filters, games)
    chosen: dict[str, Game] = {}
    lost = list(skipped)
    for game in games:
        if not passes(game, filters):
            continue
        other = chosen.setdefault(sample_key(game.identity), game)
        if other is not game:
            lost.append(Skipped(game.parts[0], f"same name in the shards as {other.parts[0]}"))
    splits = split_games(list(chosen.values()), val_fraction, salt)
    shards = {split: cut_shards(split, splits[split], shard_bytes) for split in SPLITS}
    order = [[shard.name, [asdict(g) for g in shard.games]] for s in SPLITS for shard in shards[s]]
    text = json.dumps([dict(settings), order], sort_keys=True)
    return Plan(
        splits=shards,
        skipped=tuple(lost),
        filtered=sum(not passes(game, filters) for game in games),
        fingerprint=blake2b(text.encode(), digest_size=16).hexdigest(),
    )
