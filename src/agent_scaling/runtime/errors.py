"""The exception for wrong input; its one line tells the user how to mend it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agent_scaling.runtime.secrets import mask

LONGEST = 300
"""Characters of another program's message that are shown; it may quote a whole file."""


class InputError(Exception):
    """Wrong input; the message is one line that names the file, the key or value, and the fix.

    The command line prints it without a traceback and exits with status 2.
    """

    def __init__(self, text: str = "") -> None:
        lines = (line.strip() for line in text.splitlines())
        super().__init__(mask(" ".join(line for line in lines if line)))


@contextmanager
def reading(file: object, fix: str) -> Iterator[None]:
    """Turn any exception while a user's file is read into an :class:`InputError`.

    Args:
        file: The file, for the message.
        fix: The remedy, for the message.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        kind = type(error).__name__
        said = error_line(error)
        why = said if said == kind else f"{kind}: {said}"
        raise InputError(
            f"{file}: cannot be read ({why}); {fix}, or see more with debug=true"
        ) from error


def error_line(error: BaseException) -> str:
    """Return the beginning of the first line of an exception's text, without credentials."""
    line = mask(str(error).strip().partition("\n")[0]) or type(error).__name__
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} …"
