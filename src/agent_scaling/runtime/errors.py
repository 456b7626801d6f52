"""The one exception that means: the user's input is wrong, and this line says how to mend it."""

from __future__ import annotations

from agent_scaling.runtime.secrets import mask


class InputError(Exception):
    """Bad input. The message is one line that names the file, the key or value, and the fix.

    The command line prints it without a traceback and exits with status 2.
    """

    def __init__(self, text: str = "") -> None:
        lines = (line.strip() for line in text.splitlines())
        super().__init__(mask(" ".join(line for line in lines if line)))


def error_line(error: BaseException) -> str:
    """The first line of an exception's text, without credentials."""
    return mask(str(error).strip().partition("\n")[0]) or type(error).__name__
