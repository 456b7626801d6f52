"""Progress of a long job: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

EVERY, SHARE = 30.0, 0.1
"""Least time between two lines: in seconds, and as a share of the time so far. The first lines come
soon, and a day has about 70."""
RECENT = 600.0
"""Seconds over which speed is averaged; rich's 30 are too few, as one game can take longer."""


class Bar:
    """One task's bar on a terminal; a context manager.

    Args:
        text: Template over rich's ``task`` for the text behind the bar, and for the lines of a log.
        total: The work to do, in any unit.
        console: The console to write to.
        done: Work that was done before; it does not count towards the speed.
        every: Seconds between two lines where the console is not a terminal.
        transient: Remove the bar at the end.
        fields: Further fields of the task, for ``text``.
    """

    def __init__(
        self,
        text: str,
        *,
        total: float,
        console: Console,
        done: int = 0,
        every: float = EVERY,
        transient: bool = False,
        **fields: Any,
    ) -> None:
        self.console, self._text, self._every = console, text, every
        self._progress = Progress(
            BarColumn(),
            TextColumn(text),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=transient,
            speed_estimate_period=RECENT,
            disable=not console.is_interactive,
        )
        self._task = self._progress.add_task("starting", total=total, completed=done, **fields)
        self._began = self._said = self.console.get_time()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    @property
    def seconds(self) -> float:
        """Seconds since the bar was made, above 0."""
        return max(self.console.get_time() - self._began, 1e-9)

    def move(self, **changes: Any) -> None:
        """Move the bar, with the arguments of rich's ``Progress.update``; print a line if due."""
        self._progress.update(self._task, **changes)
        now = self.console.get_time()
        due = max(self._every, SHARE * (now - self._began))
        if self._progress.disable and now - self._said >= due:
            self._said = now
            task = self._progress.tasks[0]
            left = task.time_remaining
            clock = f", {timedelta(seconds=round(left))} left" if left else ""
            self.console.print(
                f"{self._text.format(task=task)}{clock}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def shrink(self, amount: float) -> None:
        """Subtract work that turned out to be done already from the total."""
        self._progress.update(self._task, total=(self._progress.tasks[0].total or 0) - amount)


class FrameBar(Bar):
    """A bar over frames, with frames per second."""

    def __init__(self, total: int, console: Console, **options: Any) -> None:
        text = "{task.completed:,}/{task.total:,} frames, {task.fields[rate]:,.0f}/s"
        super().__init__(text, total=total, console=console, rate=0.0, **options)
        self._frames = 0

    def add(self, frames: int) -> None:
        """Count the frames that were done."""
        self._frames += frames
        self.move(advance=frames, rate=self._frames / self.seconds)
