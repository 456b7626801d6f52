"""Any bytes are an xlogfile: of some games, or of none."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_scaling.data.recordings.xlogfile import MOST_LINE_BYTES, by_ttyrec, parse_line
from agent_scaling.runtime.errors import InputError
from tests.helpers.fuzz import FUZZ

WORDS = st.sampled_from(
    ["points=", "ttyrecname=", "while=", "death=", "=", "\t", "\n", "-", "9" * 5000]
)
LINES = st.lists(st.one_of(WORDS, st.text(max_size=8), st.integers().map(str))).map("".join)


def test_fields() -> None:
    assert parse_line("points=-12\tflags=0x4\tname=a=b\talone\tdeath=choked\twhile=helpless") == {
        "points": -12,
        "flags": "0x4",
        "name": "a=b",
        "death": "choked while helpless",
        "while": "helpless",
    }


def test_numbers_that_fit_no_column_stay_text() -> None:
    assert parse_line(f"points={'9' * 5000}\tturns={10**17}") == {
        "points": "9" * 5000,
        "turns": 10**17,
    }


@FUZZ
@given(line=LINES)
def test_any_line_has_fields(line: str) -> None:
    for value in parse_line(line).values():
        assert isinstance(value, str) or abs(value) < 2**63


@FUZZ
@given(data=st.one_of(st.binary(), LINES.map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_any_file_has_games(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    for name, game in by_ttyrec(tmp_path / "x").items():
        assert str(game["ttyrecname"]) == name


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"cannot read {tmp_path}"):
        by_ttyrec(tmp_path)
    os.mkfifo(tmp_path / "pipe")  # nobody writes into it
    with pytest.raises(InputError, match="it is not a file"):
        by_ttyrec(tmp_path / "pipe")


def test_a_line_longer_than_any_games_takes_no_memory(tmp_path: Path) -> None:
    game = "points=3\tttyrecname=a\n"
    (tmp_path / "x").write_text(
        f"{game}ttyrecname={'b=1	' * 500_000}\n{game.replace('=a', '=c')}"
    )
    tracemalloc.start()
    games = by_ttyrec(tmp_path / "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sorted(games) == ["a", "c"]
    assert peak < 10 * MOST_LINE_BYTES
