"""Of several processes the first speaks, whether Lightning has been imported or not."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from lightning.fabric.utilities.rank_zero import _get_rank, rank_zero_only
from rich.table import Table

from agent_scaling.runtime.terminal import RANKS, is_first, plain_console, say


@pytest.fixture
def without_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before Lightning is imported, in none of the places that give a process a rank."""
    monkeypatch.delattr(rank_zero_only, "rank")
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("without_lightning")
@pytest.mark.parametrize("name", RANKS)
@pytest.mark.parametrize("rank", [0, 1, 12])
def test_the_environment_says_it_as_to_lightning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, rank: int
) -> None:
    assert is_first()
    assert _get_rank() is None
    monkeypatch.setenv(name, str(rank))
    assert _get_rank() == rank
    assert is_first() == (rank == 0)
    say("here")
    assert capsys.readouterr().out == "here\n" * (rank == 0)


@pytest.mark.usefixtures("without_lightning")
@pytest.mark.parametrize(("first", "second"), itertools.pairwise(RANKS))
def test_of_two_names_the_one_that_lightning_takes(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    monkeypatch.setenv(first, "3")
    monkeypatch.setenv(second, "0")
    assert _get_rank() == 3
    assert not is_first()


def test_lightnings_word_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert not is_first()


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Folders and studies of these names are no styles and no emojis of rich."""
    table = Table("[bold]", title="Shards in [/x]")
    table.add_row(":fire: [/y]")
    plain_console().print(table, "[red] :100:")
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("[bold]", "[/x]", ":fire: [/y]", "[red] :100:"))


def test_all_consoles_are_made_in_one_place() -> None:
    root = Path(__file__).parents[2]
    code = [
        *root.glob("src/**/*.py"),
        *root.glob("callbacks/*.py"),
        *root.glob("data_modules/*.py"),
    ]
    assert len(code) > 100
    made = [path.name for path in code if re.search(r"(?<!_)\bConsole\(", path.read_text())]
    assert made == ["terminal.py"]
