"""Games in parts: our grouping is that of nle's own database."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from agent_scaling.data.recordings.altorg import AltorgSource
from agent_scaling.data.recordings.ttyrec import decode_parts
from agent_scaling.runtime.errors import InputError


def test_parts_belong_to_the_games_of_db_json(reference: Path) -> None:
    root = reference / "reference" / "nle" / "altorg"
    expected = defaultdict(dict)
    # path, part, size, mtime, gameid, …, root, ttyrec_version: the tests of nle name the columns.
    for row in json.loads((root / "db.json").read_text()):
        expected[row[4]][row[1]] = row[0]
    wanted = sorted(tuple(parts[i] for i in sorted(parts)) for parts in expected.values())
    games = AltorgSource().discover(root).games
    assert sorted(game.parts for game in games) == wanted
    assert {game.version for game in games} == {1}
    assert all(game.identity == game.parts[0].removesuffix(".ttyrec.bz2") for game in games)
    starved = next(game for game in games if game.metadata["points"] == 1254)
    assert starved.metadata["role"] == "Kni"
    assert "while frozen" in str(starved.metadata["death"])


def test_files_that_belong_to_no_game_are_named(reference: Path) -> None:
    root = reference / "reference" / "nle" / "altorg"
    found = AltorgSource().discover(root)
    files = {str(path.relative_to(root)) for path in root.glob("*/*.bz2")}
    used = {part for game in found.games for part in game.parts}
    assert {skipped.file for skipped in found.skipped} == files - used


def test_other_layouts_are_refused(reference: Path) -> None:
    with pytest.raises(InputError, match="xlogfile"):
        AltorgSource().discover(reference / "nld-aa-mini" / "train")


def test_parts_are_read_one_after_another(reference: Path) -> None:
    folder = reference / "reference" / "nle"
    parts = [folder / f"{n}.ttyrec.bz2" for n in ("2019-11-18.08_52_15", "2012-02-16.21_09_51")]
    alone = [sum(map(len, decode_parts([part], 1, 64))) for part in parts]
    together = list(decode_parts(parts, 1, 64))
    assert sum(map(len, together)) == sum(alone) == 209 + 405
    second = next(decode_parts(parts[1:], 1, 64))
    frame, row = divmod(alone[0], 64)
    assert (together[frame].shown["chars"][row] == second.shown["chars"][0]).all()
