"""Recordings as people keep them: packed in any way, of any version, of any terminal."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard

from agent_scaling.data.recordings.altorg import AltorgSource
from agent_scaling.data.recordings.base import BadGame, concatenate
from agent_scaling.data.recordings.records import check_version, tell_version
from agent_scaling.data.recordings.ttyrec import TtyrecSource, decode_parts
from agent_scaling.runtime.errors import InputError
from tests.helpers.ttyrecs import HEADER

CLEAR = b"\x1b[2J\x1b[H"
STATUS = b"\x1b[24;1HDlvl:1 $:0 HP:16(16) Pw:2(2) AC:9 Exp:1"
START = 1577836800  # 2020-01-01
SCREENS = tuple(CLEAR + STATUS + b"\x1b[5;%dH@" % (10 + step) for step in range(20))
MENUS = (
    CLEAR + b" ## nethack.alt.org - public NetHack server\r\n l) Login\r\n q) Quit\r\n\r\n => ",
    CLEAR + b" Please enter your username.\r\n => alice",
    CLEAR + b"NetHack, Copyright 1985-2019\r\n\r\nShall I pick a character for you? [ynaq] ",
)
"""What dgamelaunch and NetHack show before a game."""


def terminal(*screens: bytes) -> bytes:
    """A ttyrec of version 1, unpacked."""
    records = (
        struct.pack("<III", START + t, 0, len(screen)) + screen for t, screen in enumerate(screens)
    )
    return b"".join(records)


def keyed(version: int, steps: int = 20) -> bytes:
    """A ttyrec of version 2 or 3, unpacked."""
    score = HEADER.pack(START, 0, 4, 2) + bytes(4) if version == 3 else b""
    key = HEADER.pack(START, 0, 1, 1) + b"s"
    return b"".join(
        HEADER.pack(START, 0, len(screen), 0) + screen + score + key for screen in SCREENS[:steps]
    )


def line(player: str, **fields: object) -> bytes:
    """A line of an xlogfile."""
    known = {"points": 5, "turns": 1346, "starttime": START, "endtime": START + 5000}
    known |= {"name": player, "death": "killed by a newt"} | fields
    return "\t".join(f"{name}={value}" for name, value in known.items()).encode() + b"\n"


def altorg(root: Path, *lines: bytes, blacklist: str = "") -> Path:
    """NLD-NAO's layout, with a recording of alice and one of bob."""
    for player in ("alice", "bob"):
        (root / player).mkdir(parents=True)
        path = root / player / "2020-01-01.00:00:00.ttyrec.bz2"
        path.write_bytes(bz2.compress(terminal(*SCREENS)))
    (root / "xlogfile.nh366").write_bytes(b"".join(lines or (line("alice"), line("bob"))))
    (root / "blacklist.txt").write_text(blacklist)
    return root


def players(root: Path) -> list[str]:
    return [game.identity.split("/")[0] for game in AltorgSource().discover(root).games]


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        ("", bytes),
        (".gz", gzip.compress),
        (".xz", lzma.compress),
        (".bz2", gzip.compress),
        (".gz", bytes),
    ],
)
def test_a_recording_is_read_by_its_content(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / f"nle.1.0.ttyrec3{suffix}").write_bytes(pack(keyed(3)))
    (tmp_path / "nle.1.xlogfile").write_bytes(line("alice", ttyrecname="nle.1.0.ttyrec3.bz2"))
    source = TtyrecSource()
    (game,) = source.discover(tmp_path).games
    frames = concatenate(list(source.decode(tmp_path, game, 8)))
    assert (len(frames), set(frames.key.tolist())) == (19, {ord("s")})
    assert game.metadata["points"] == 5


@pytest.mark.parametrize(
    ("version", "data"), [(1, terminal(*SCREENS)), (2, keyed(2)), (3, keyed(3))]
)
def test_the_version_is_told_by_the_content(tmp_path: Path, version: int, data: bytes) -> None:
    path = tmp_path / "nle.1.0.ttyrec.bz2"
    path.write_bytes(bz2.compress(data))
    assert tell_version(path) == version
    (game,) = TtyrecSource(require_metadata=False).discover(tmp_path).games
    assert game.version == version
    for other in {1, 2, 3} - {version}:
        with pytest.raises(BadGame, match=f"version {version}, not {other}"):
            next(decode_parts([path], other, 8))
    assert len(concatenate(list(decode_parts([path], version, 8)))) > 0


def test_a_game_without_keys_may_be_of_version_3(tmp_path: Path) -> None:
    path = tmp_path / "nle.1.0.ttyrec3.bz2"
    path.write_bytes(bz2.compress(HEADER.pack(START, 0, 4, 0) + CLEAR[:4]))
    check_version(path, path.name, 3)


@pytest.mark.parametrize("level", [1, 9])
def test_every_stream_of_a_bz2_file_is_read(tmp_path: Path, level: int) -> None:
    """As pbzip2 writes them; nle's converter reads the first alone."""
    rng = np.random.default_rng(0)
    shown = [bytes(rng.integers(33, 127, 60, np.uint8)) for _ in range(2000)]
    whole = terminal(CLEAR + STATUS, *shown)
    path = tmp_path / "nle.1.0.ttyrec.bz2"
    path.write_bytes(b"".join(bz2.compress(part, level) for part in (whole[:9000], whole[9000:])))
    assert sum(map(len, decode_parts([path], 1, 500))) == 2000


@pytest.mark.parametrize(
    "data",
    [
        b"<html><body>404 not found</body></html>" * 20,
        b'{"version": 2, "width": 80, "height": 24}\n[0.1, "o", "x"]\n' * 5,  # of asciinema
        bytes(5000),
        struct.pack(">III", START, 0, 100) + bytes(100),
        struct.pack("<IIi", START, 0, -5) + terminal(*SCREENS),
    ],
)
def test_what_is_no_ttyrec_is_said(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.ttyrec"
    path.write_bytes(data)
    with pytest.raises(BadGame, match=r"a\.ttyrec: holds no records of a ttyrec"):
        list(decode_parts([path], 1, 50))


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.ttyrec.gz", gzip.compress(terminal(*SCREENS))[:-9]), ("a.ttyrec.xz", b"\xfd7zXZ\x00cut")],
)
def test_a_cut_file_is_named(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadGame, match=f"{name} is a cut or damaged"):
        next(decode_parts([tmp_path / name], 1, 8))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("zstd", zstandard.compress(terminal(*SCREENS))),
        ("lzma", lzma.compress(terminal(*SCREENS), format=lzma.FORMAT_ALONE)),
        ("zip", b"PK\x03\x04" + terminal(*SCREENS)),
        ("gzip", gzip.compress(gzip.compress(terminal(*SCREENS)))),
    ],
)
def test_a_packing_that_is_not_read_is_named(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / "a.ttyrec").write_bytes(data)
    with pytest.raises(BadGame, match=f"a.ttyrec holds {name} data: unpack it"):
        next(decode_parts([tmp_path / "a.ttyrec"], 1, 8))


@pytest.mark.parametrize(
    "name", ["nle.1.0.ttyrec.bz2.partial", "nle.1.0.ttyrec.old.bz2", b"\xff.ttyrec"]
)
def test_what_is_not_read_is_named(tmp_path: Path, name: str | bytes) -> None:
    path = tmp_path / (name if isinstance(name, str) else name.decode(errors="surrogateescape"))
    path.write_bytes(terminal(*SCREENS))
    found = TtyrecSource(require_metadata=False).discover(tmp_path)
    assert not found.games
    (skipped,) = found.skipped
    assert ".ttyrec" in str(skipped).encode().decode()


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (b"\x1b[39;1HAlice St:18\x1b[40;1HDlvl:1 HP:10(10)", "writes to row 40"),
        (b"\x1b[39dAlice St:18\x1b[40d\x1b[1GDlvl:1 HP:10(10)", "writes to row 40"),
        ("\x1b[5;10H┌──┐@".encode(), "UTF-8"),
    ],
)
def test_a_terminal_that_frames_cannot_show(tmp_path: Path, shown: bytes, reason: str) -> None:
    path = tmp_path / "a.ttyrec"
    path.write_bytes(terminal(CLEAR, shown, CLEAR))
    with pytest.raises(BadGame, match=reason):
        next(decode_parts([path], 1, 8))


def test_a_wide_terminal_loses_its_right_columns_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.ttyrec"
    path.write_bytes(terminal(STATUS + b"\x1b[24;100H\x1b[1;82HA menu\x1b[2;79H@", b"", CLEAR))
    frames = next(decode_parts([path], 1, 8))
    chars = frames.shown["chars"][0]
    assert (bytes(chars[0]).strip(), bytes(chars[1]).strip()) == (b"", b"@")


def test_graphics_of_cp437_are_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.ttyrec"
    path.write_bytes(terminal(CLEAR + STATUS + b"\x1b[5;10H\xda\xc4\xc4\xbf@", CLEAR))
    assert bytes(next(decode_parts([path], 1, 8)).shown["chars"][0, 4]).strip() == b"----@"


@pytest.mark.parametrize("chunk_frames", [1, 4, 7, 64])
def test_menus_before_a_game_are_left_out_and_counted(tmp_path: Path, chunk_frames: int) -> None:
    """A player comes back for the second part, through the menus again."""
    paths = [tmp_path / "first.ttyrec", tmp_path / "second.ttyrec"]
    paths[0].write_bytes(terminal(*MENUS, *SCREENS[:10], *MENUS[:1], *SCREENS[10:12]))
    paths[1].write_bytes(terminal(*MENUS[:2], *SCREENS[12:], CLEAR))
    chunks = list(decode_parts(paths, 1, chunk_frames))
    assert all(len(chunk) == chunk_frames for chunk in chunks[:-1])
    game = concatenate(chunks)
    assert game.menus == 5
    expected = [*range(10, 20), None, 20, *range(22, 30)]  # a file's last record is never a frame
    assert [at_of(screen) for screen in game.shown["chars"]] == expected
    assert (game.shown["cursor"][:10, 1] == np.arange(10, 20)).all()


def at_of(screen: np.ndarray) -> int | None:
    """The column of the hero, from 1, or None for a screen without one."""
    at = bytes(screen[4]).find(b"@")
    return at + 1 if at >= 0 else None


@pytest.mark.parametrize(
    "last", [b"\x1b(0", b"\x1b(0\x0e", b"\x0e", b"\x1b[", b"\x1b[31;7m", b"\xe2"]
)
def test_what_a_game_ends_with_changes_no_other(tmp_path: Path, last: bytes) -> None:
    """nle's converter keeps the choice of DEC's graphics from one game to the next."""
    (tmp_path / "a.ttyrec").write_bytes(terminal(*SCREENS, CLEAR + STATUS + last + b"oqsux", CLEAR))
    (tmp_path / "b.ttyrec").write_bytes(
        terminal(CLEAR + STATUS + b"\x1b[0m\x1b[1;1Hoqsux You speed up.", b" ")
    )
    for name in "ab":
        (game,) = decode_parts([tmp_path / f"{name}.ttyrec"], 1, 64)
    assert bytes(game.shown["chars"][0, 0]).strip() == b"oqsux You speed up."
    assert (game.shown["colors"][0, 0, :5] == 7).all()


def test_menus_alone_are_no_game(tmp_path: Path) -> None:
    (tmp_path / "a.ttyrec").write_bytes(terminal(*MENUS))
    with pytest.raises(BadGame, match="menus alone: none of its 2 frames has a status line"):
        list(decode_parts([tmp_path / "a.ttyrec"], 1, 8))


def test_a_recording_with_neither_menu_nor_status_line_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.ttyrec").write_bytes(terminal(*[CLEAR + b"\x1b[5;10H@"] * 30))
    game = concatenate(list(decode_parts([tmp_path / "a.ttyrec"], 1, 8)))
    assert (len(game), game.menus) == (29, 0)


@pytest.mark.parametrize("points", ["", "0x1", "12.5", "99999999999999999999"])
def test_a_line_with_a_bad_number_is_left_out_and_named(tmp_path: Path, points: str) -> None:
    root = altorg(tmp_path / "in", line("alice"), line("bob", points=points))
    found = AltorgSource().discover(root)
    assert players(root) == ["alice"]
    assert "xlogfile.nh366 line 2: points=" in "\n".join(map(str, found.skipped))


def test_a_line_longer_than_any_games_is_named(tmp_path: Path) -> None:
    root = altorg(tmp_path / "in", b"x" * 10**6 + b"\n", line("alice"), line("bob"))
    found = AltorgSource().discover(root)
    assert players(root) == ["alice", "bob"]
    assert "xlogfile.nh366 line 1: is longer than any game's" in "\n".join(map(str, found.skipped))


def test_an_xlogfile_that_is_a_bomb_or_no_file_is_refused(tmp_path: Path) -> None:
    root = altorg(tmp_path / "in", line("alice"))
    (root / "xlogfile.nh366").write_bytes(bz2.compress((b"a=" + b"1" * 4000 + b"\n") * 500))
    with pytest.raises(InputError, match="unpacks to more than an xlogfile"):
        AltorgSource().discover(root)
    for name in ("xlogfile.nh366", "blacklist.txt"):
        (root / name).unlink()
        os.mkfifo(root / name)
        with pytest.raises(InputError, match=rf"{name}.* no file"):
            AltorgSource().discover(root)


def test_a_line_with_while_and_no_death_is_read(tmp_path: Path) -> None:
    asleep = line("bob").replace(b"death=killed by a newt", b"while=sleeping")
    assert players(altorg(tmp_path / "in", line("alice"), asleep)) == ["alice", "bob"]


def test_variants_xlogfiles(tmp_path: Path) -> None:
    root = altorg(tmp_path / "in", line("alice").replace(b"\t", b":"), line("bob", mode="x\xff"))
    assert players(root) == ["alice", "bob"]


def test_a_blacklist_counts_whole(tmp_path: Path) -> None:
    name = "2020-01-01.00:00:00.ttyrec.bz2"
    root = altorg(tmp_path / "in", blacklist=f"alice/{name}\nbob/{name}\n")
    found = AltorgSource().discover(root)
    assert not found.games
    assert [str(lost) for lost in found.skipped] == [
        f"{player}/{name}: blacklist.txt names it" for player in ("alice", "bob")
    ]


def test_brackets_in_a_path(tmp_path: Path) -> None:
    assert players(altorg(tmp_path / "nao [2021]")) == ["alice", "bob"]


def test_packed_and_plain_recordings_of_servers(tmp_path: Path) -> None:
    root = altorg(tmp_path / "in")
    path = root / "bob" / "2020-01-01.00:00:00.ttyrec.bz2"
    path.with_suffix(".gz").write_bytes(gzip.compress(bz2.decompress(path.read_bytes())))
    path.unlink()
    source = AltorgSource()
    game = source.discover(root).games[1]
    assert game.parts == ("bob/2020-01-01.00:00:00.ttyrec.gz",)
    assert sum(map(len, source.decode(root, game, 8))) == 19


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress, gzip.compress])
def test_zeros_behind_a_packed_file_mean_nothing(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "bob.ttyrec.bz2"
    path.write_bytes(pack(terminal(*SCREENS)) + bytes(8))
    assert sum(map(len, decode_parts([path], 1, 64))) == 19


def test_a_record_that_shows_nothing_is_not_the_end(tmp_path: Path) -> None:
    path = tmp_path / "bob.ttyrec"
    path.write_bytes(terminal(*SCREENS[:5], b"", *SCREENS[5:]))
    assert sum(map(len, decode_parts([path], 1, 64))) == 19


def test_a_name_in_capitals_is_read_and_what_was_not_unpacked_is_named(tmp_path: Path) -> None:
    (tmp_path / "A.TTYREC3.BZ2").write_bytes(bz2.compress(keyed(3)))
    (tmp_path / "more.tar.gz").touch()
    (tmp_path / "b.ttyrec3.bz2").symlink_to(tmp_path / "nowhere")
    found = TtyrecSource(require_metadata=False).discover(tmp_path)
    assert [game.parts for game in found.games] == [("A.TTYREC3.BZ2",)]
    assert [str(lost) for lost in found.skipped] == [
        "b.ttyrec3.bz2: is a link that leads nowhere",
        "more.tar.gz: is an archive: unpack it",
    ]


@pytest.mark.parametrize("entry", ["./alice/{}", "/srv/nao/alice/{}\r", "alice/{}.gz\n# old"])
def test_a_blacklist_as_a_server_writes_it(tmp_path: Path, entry: str) -> None:
    root = altorg(tmp_path / "in", blacklist=entry.format("2020-01-01.00:00:00.ttyrec") + "\n")
    assert players(root) == ["bob"]


def test_what_lies_in_another_place_than_a_players_is_named(tmp_path: Path) -> None:
    root = altorg(tmp_path / "in")
    (root / "b" / "bob").mkdir(parents=True)
    for folder in (root, root / "b" / "bob"):
        (folder / "2020-01-01.00:00:00.ttyrec").touch()
    (root / "2021.zip").touch()
    skipped = [lost.file for lost in AltorgSource().discover(root).skipped]
    assert skipped == ["2020-01-01.00:00:00.ttyrec", "2021.zip", "b/bob"]


def test_a_packed_xlogfile_is_read(tmp_path: Path) -> None:
    root = altorg(tmp_path / "in")
    path = root / "xlogfile.nh366"
    path.with_name("xlogfile.nh366.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert players(root) == ["alice", "bob"]
