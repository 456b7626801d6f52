"""Progress of a long job: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)

from agent_scaling.runtime.formats import clock

EVERY, SHARE = 30.0, 0.1
"""Least time between two lines: in seconds, and as a share of the time so far. The first lines come
soon, and a day has about 70."""
RECENT = 600.0
"""Seconds over which speed is averaged; rich's 30 are too few, as one game can take longer."""


class Bar:
    """One task's bar on a terminal, and lines elsewhere; a context manager.

    A kind of bar overrides :meth:`columns`, :meth:`line` and :meth:`due`.

    Args:
        text: Template over rich's ``task`` for the text behind the bar, and for the lines of a log.
        total: The work to do, in any unit; None: not known.
        console: The console to write to.
        done: Work that was done before; it does not count towards the speed.
        description: The task's name, for ``text``.
        every: Seconds between two lines where the console is not a terminal.
        transient: Remove the bar at the end.
        fields: Further fields of the task, for ``text``.
    """

    recent = RECENT
    expand = False
    """Fill the width of the terminal."""

    def __init__(
        self,
        text: str,
        *,
        total: float | None,
        console: Console,
        done: int = 0,
        description: str = "starting",
        every: float = EVERY,
        transient: bool = False,
        **fields: Any,
    ) -> None:
        self.console, self._text, self._every = console, text, every
        self._progress = Progress(
            *self.columns(),
            console=console,
            transient=transient,
            expand=self.expand,
            speed_estimate_period=self.recent,
            disable=not console.is_interactive,
        )
        self._id = self._progress.add_task(description, total=total, completed=done, **fields)
        self._began = self._said = self.console.get_time()
        self._said_at: float = done

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Show the bar, if the console is a terminal."""
        self._progress.start()

    def close(self) -> None:
        """Leave the bar as it is, and give the terminal back."""
        self._progress.stop()

    @property
    def task(self) -> Task:
        """The task as rich keeps it: total, completed, speed, fields."""
        return self._progress.tasks[0]

    @property
    def seconds(self) -> float:
        """Seconds since the bar was made, above 0."""
        return max(self.console.get_time() - self._began, 1e-9)

    def columns(self) -> list[ProgressColumn]:
        """Return the parts of the bar on a terminal."""
        return [
            BarColumn(),
            TextColumn(self._text, markup=False),
            TextColumn("left"),
            TimeRemainingColumn(),
        ]

    def line(self) -> str:
        """Return the line that a log gets."""
        left = self.task.time_remaining
        return self._text.format(task=self.task) + (f", {clock(left)} left" if left else "")

    def due(self, waited: float, moved: float) -> bool:
        """Return True where a log gets a line.

        Args:
            waited: Seconds since the line before.
            moved: Work completed since the line before.
        """
        return waited >= max(self._every, SHARE * self.seconds)

    def move(self, **changes: Any) -> None:
        """Move the bar, with the arguments of rich's ``Progress.update``; print a line if due."""
        self._progress.update(self._id, **changes)
        now, completed = self.console.get_time(), self.task.completed
        if self._progress.disable and self.due(now - self._said, completed - self._said_at):
            self._said, self._said_at = now, completed
            self.console.print(self.line(), markup=False, highlight=False, soft_wrap=True)

    def describe(self, description: str) -> None:
        """Rename the task on the bar; a log gets no line."""
        self._progress.update(self._id, description=description)

    def shrink(self, amount: float) -> None:
        """Subtract work that turned out to be done already from the total."""
        self._progress.update(self._id, total=(self.task.total or 0) - amount)


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
