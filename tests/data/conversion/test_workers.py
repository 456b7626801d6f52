"""What a conversion says where its output is no terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

from agent_scaling.data.conversion.finished_games import Output
from agent_scaling.data.conversion.plan import Shard
from agent_scaling.data.conversion.workers import Conversion, Job
from agent_scaling.data.recordings.ttyrec import TtyrecSource
from agent_scaling.runtime.progress_bar import Bar


def test_a_log_says_how_far_a_conversion_is(short_games: Path, tmp_path: Path) -> None:
    source, log = TtyrecSource(), io.StringIO()
    found = source.discover(short_games)
    games = tuple(sorted(found.games, key=lambda game: game.bytes))[:2]
    job = Job(source, short_games, Output(tmp_path, "plan", found.layout, 300), 1, "skip")
    total = sum(game.bytes for game in games)
    with (
        Bar("{task.description}", total=total, console=Console(file=log), every=0) as bar,
        Conversion(job, [Shard("train-00000", games)], 1, bar) as converted,
    ):
        assert [game.game for game in converted] == list(games)
    assert re.match(r"1/2 games, [1-9][\d,]* frames/s\n", log.getvalue())
