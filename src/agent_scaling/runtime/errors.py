"""The one exception that means: the user's input is wrong, and this line says how to mend it."""

from __future__ import annotations


class InputError(Exception):
    """Bad input. The message is one line that names the file, the key or value, and the fix.

    The command line prints it without a traceback and exits with status 2.
    """


def error_line(error: BaseException) -> str:
    """The first line of an exception's text."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
