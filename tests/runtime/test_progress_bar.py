"""What a long job says where its output is no terminal."""

from __future__ import annotations

import io

from rich.console import Console

from agent_scaling.runtime.progress_bar import Bar

TEXT = "{task.completed}/{task.total} games, {task.fields[rate]:,.0f} steps/s"


def play(games: int, seconds: float, **options: bool) -> list[str]:
    """The lines of a job whose games take so long each."""
    out, now = io.StringIO(), [1000.0]
    console = Console(file=out, get_time=lambda: now[0], **options)
    with Bar(TEXT, total=games, console=console, rate=0.0) as bar:
        for done in range(1, games + 1):
            now[0] += seconds
            bar.move(advance=1, rate=1e4 * done / bar.seconds)
    return out.getvalue().splitlines()


def test_a_log_gets_a_line_now_and_then() -> None:
    assert play(games=8, seconds=16) == [
        "2/8 games, 625 steps/s, 0:01:36 left",
        "4/8 games, 625 steps/s, 0:01:04 left",
        "6/8 games, 625 steps/s, 0:00:32 left",
        "8/8 games, 625 steps/s",
    ]
    assert 40 < len(play(games=24 * 360, seconds=10)) < 100  # in a day


def test_a_terminal_gets_no_lines() -> None:
    shown = play(games=4, seconds=100, force_terminal=True, force_interactive=True)
    assert not [line for line in shown if line.startswith("1/4 games")]
    assert any("4/4 games" in line for line in shown)
