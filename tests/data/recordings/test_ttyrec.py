"""Recordings decode to the frames that nle says, and are found where they lie."""

from __future__ import annotations

import bz2
import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_scaling.data.recordings.base import BadGame, RawFrames, concatenate
from agent_scaling.data.recordings.packed import (
    UNPACKED_PER_BYTE,
    bz2_is_complete,
    bz2_unpacks_to,
)
from agent_scaling.data.recordings.ttyrec import FRAMES, TtyrecSource, decode_parts
from tests.data.shards.test_fuzz import broken
from tests.helpers.fuzz import FUZZ
from tests.helpers.ttyrecs import HEADER, copy_game, link_games, reference_games


def lines(screen: np.ndarray) -> list[str]:
    return [row.tobytes().decode("latin-1").rstrip() for row in screen]


def whole(path: Path, version: int, chunk_frames: int) -> RawFrames:
    chunks = list(decode_parts([path], version, chunk_frames))
    assert all(len(chunk) == chunk_frames for chunk in chunks[:-1])
    return concatenate(chunks)


@pytest.mark.parametrize(
    ("name", "version", "frame", "menus"),
    [
        ("nle.2783801.0", 3, 44, 0),
        ("2019-11-18.08_52_15", 1, 10, 8),
        ("2012-02-16.21_09_51", 1, 10, 2),
    ],
)
def test_fixtures_decode_to_their_frames(
    reference: Path, name: str, version: int, frame: int, menus: int
) -> None:
    folder = reference / "reference" / "nle"
    suffix = "" if version == 1 else str(version)
    game = whole(folder / f"{name}.ttyrec{suffix}.bz2", version, chunk_frames=16)
    expected = (folder / f"{name}.frame.{frame}.txt").read_text().split("\n")[:24]
    shown = lines(game.shown["chars"][frame - 1 - menus])  # they count from 1
    assert game.menus == menus
    assert shown[: len(expected)] == [line.rstrip() for line in expected]
    assert not any(shown[len(expected) :])


def test_fixture_has_its_actions_and_scores(reference: Path) -> None:
    folder = reference / "reference" / "nle"
    text = (folder / "nle.2783801.0.actions.scores.txt").read_text().split("\n")
    keys, scores = ([int(word) for word in line.split()] for line in text[:2])
    game = whole(folder / "nle.2783801.0.ttyrec3.bz2", 3, chunk_frames=1000)
    # The converter leaves out a file's last record.
    assert game.key.tolist() == keys[:-1]
    assert game.score.tolist() == scores[:-1]


def test_identity_does_not_depend_on_where_the_input_lies(reference: Path, tmp_path: Path) -> None:
    source, folders = TtyrecSource(), reference_games(reference)[:2]
    for folder in folders:
        shutil.copytree(folder, tmp_path / "a" / "nle_data" / folder.name)
    ids = [game.identity for game in source.discover(tmp_path / "a").games]
    assert ids == sorted(f"{f.name}/{next(f.glob('*.xlogfile')).stem}.0" for f in folders)
    assert [g.identity for g in source.discover(tmp_path / "a" / "nle_data").games] == ids
    one = source.discover(tmp_path / "a" / "nle_data" / folders[0].name)
    assert [game.identity for game in one.games] == [
        i for i in ids if i.startswith(folders[0].name)
    ]


def test_metadata_come_from_the_xlogfile(reference: Path) -> None:
    games = TtyrecSource().discover(reference / "nld-aa-mini" / "train").games
    assert len(games) == 51
    manifest = (reference / "nld-aa-mini" / "manifest.tsv").read_text().splitlines()
    rows = [
        dict(zip(manifest[0].split("\t"), line.split("\t"), strict=True)) for line in manifest[1:]
    ]
    by_folder = {game.identity.split("/")[0]: game.metadata for game in games}
    for row in rows:
        meta = by_folder[row["dir"]]
        assert (meta["points"], meta["turns"]) == (int(row["points"]), int(row["turns"]))
        assert meta["death"] == row["death"]


def test_a_file_without_its_partner(reference: Path, tmp_path: Path) -> None:
    first, second = reference_games(reference)[:2]
    for folder in (first, second):
        copy_game(folder, tmp_path, folder.name, lambda data: data)
    tmp_path /= "nle_data"
    next((tmp_path / first.name).glob("*.bz2")).unlink()
    next((tmp_path / second.name).glob("*.xlogfile")).unlink()
    found = TtyrecSource().discover(tmp_path)
    assert not found.games
    reasons = " ".join(skipped.reason for skipped in found.skipped)
    assert "no ttyrec for 1 of its 1 games" in reasons
    assert "no xlogfile line names it" in reasons
    used = TtyrecSource(require_metadata=False).discover(tmp_path).games
    assert [game.identity.split("/")[0] for game in used] == [second.name]


def test_a_cut_bz2_is_noticed_at_every_length() -> None:
    data = bz2.compress(bytes(range(256)) * 50)
    for cut in range(len(data) + 1):
        assert bz2_is_complete(data[:cut]) == (cut == len(data))


def waiting(steps: int) -> bytes:
    """A ttyrec3 in which next to nothing happens: screens, scores, keys."""
    score, key = HEADER.pack(0, 0, 4, 2) + bytes(4), HEADER.pack(0, 0, 1, 1) + b"s"
    return (HEADER.pack(0, 0, 1, 0) + b" " + score + key) * steps


@pytest.mark.parametrize(
    ("unpacked", "message"),
    [
        (bytes(47 << 20), "would unpack to more than a recording of its size can be"),
        (waiting(5_000), "more frames than a recording of its size can hold"),
    ],
)
def test_a_recording_that_is_a_bomb(
    tmp_path: Path, unpacked: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_scaling.data.recordings.ttyrec.FRAMES", 1_000)
    path = tmp_path / "nle.1.0.ttyrec3.bz2"
    path.write_bytes(bz2.compress(unpacked))
    with pytest.raises(BadGame, match=message):
        for _ in decode_parts([path], 3, 2048):
            pass


def test_the_bound_holds_for_real_recordings(reference: Path) -> None:
    for folder in reference_games(reference)[:5]:
        data = next(folder.glob("*.bz2")).read_bytes()
        unpacked = len(bz2.decompress(data))
        assert unpacked <= bz2_unpacks_to(data) < (UNPACKED_PER_BYTE * len(data)) / 4


def test_links_that_lead_back_are_not_followed(reference: Path, tmp_path: Path) -> None:
    """Two of them in a folder would be 2^40 folders to look at."""
    root = link_games(reference_games(reference)[:2], tmp_path / "games")
    expected = TtyrecSource().discover(root)
    inner, other = root / "nle_data" / "y", root / "nle_data" / "z"
    for folder in (inner, other):
        folder.mkdir()
        for name in ("a", "b", "c"):
            (folder / name).symlink_to(root / "nle_data")
    (inner / "other").symlink_to(other)
    (other / "other").symlink_to(inner)
    assert TtyrecSource().discover(root) == expected


@FUZZ
@given(data=broken(waiting(20)), frames=st.integers(1, 50), version=st.integers(1, 3))
def test_any_recording(tmp_path: Path, data: bytes, frames: int, version: int) -> None:
    """What nle's converter, which is written in C, makes of it: frames, or one line."""
    path = tmp_path / "any.ttyrec3.bz2"
    path.write_bytes(bz2.compress(data))
    with contextlib.suppress(BadGame, OSError, RuntimeError, ValueError):  # as conversions do
        assert sum(map(len, decode_parts([path], version, frames))) <= FRAMES + 16 * len(data)
