"""Shell completion: the verbs here, a verb's keys and options by Hydra's own plugins."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

SHELLS = {
    "bash": "",
    # Hydra's script for zsh is bash's, and needs zsh's emulation.
    "zsh": "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n",
    "fish": "",
}
"""Shell → what Hydra's script for it needs before it."""

COMPLETION = "completion"


def asked_for_script(arguments: list[str]) -> str | None:
    """The shell whose script ``agent-scaling completion SHELL`` asks for.

    Exits with status 2 for a shell that Hydra has no completion for.
    """
    if arguments[:1] != [COMPLETION]:
        return None
    if len(arguments) != 2 or arguments[1] not in SHELLS:
        sys.stderr.write(f"error: agent-scaling {COMPLETION} needs one of {', '.join(SHELLS)}\n")
        sys.exit(2)
    return arguments[1]


def complete_verb(words: Iterable[str]) -> str | None:
    """Answer the query of Hydra's script while the verb is typed; else the verb to answer for.

    The script calls ``agent-scaling -sc query=SHELL`` with the line in ``COMP_LINE``. Where that
    has a verb, the verb is taken out: Hydra completes what comes after.

    Args:
        words: The verbs, and what else may stand in their place.
    """
    program, *typed = os.environ.get("COMP_LINE", "").split(" ")
    typed = [word for word in typed[:-1] if word] + typed[-1:]
    known = list(words)
    if len(typed) < 2:
        begun = typed[0] if typed else ""
        sys.stdout.write("\n".join(word for word in known if word.startswith(begun)) + "\n")
        return None
    verb = typed.pop(0)
    if verb == COMPLETION:
        sys.stdout.write("\n".join(shell for shell in SHELLS if shell.startswith(typed[0])) + "\n")
        return None
    os.environ["COMP_LINE"] = " ".join([program, *typed])
    return verb if verb in known else None
