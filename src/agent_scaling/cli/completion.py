"""Shell completion: verbs come from here, a verb's keys and options from Hydra's plugins."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from io import StringIO

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.completion_plugin import CompletionPlugin
from hydra.types import RunMode

from agent_scaling.cli.help import OWN
from agent_scaling.config.beside import conf
from agent_scaling.config.groups import NAMED, configs_of, is_part, names_of, options_of

SHELLS = {
    "bash": "",
    # Hydra uses its bash script for zsh too, which needs zsh's emulation of bash.
    "zsh": "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n",
    "fish": "",
}
"""Shell → the lines that Hydra's script for it needs before it."""

COMPLETION = "completion"


def asked_for_script(arguments: list[str]) -> str | None:
    """Return the shell whose script ``agent-scaling completion SHELL`` asks for.

    Exits with status 2 for a shell that Hydra has no completion for.
    """
    if arguments[:1] != [COMPLETION]:
        return None
    if len(arguments) != 2 or arguments[1] not in SHELLS:
        sys.stderr.write(f"error: agent-scaling {COMPLETION} needs one of {', '.join(SHELLS)}\n")
        sys.exit(2)
    return arguments[1]


def complete_verb(words: Iterable[str]) -> str | None:
    """Answer the script's query while the verb is typed; else return the verb to answer for.

    The script calls ``agent-scaling -sc query=SHELL`` with the line in ``COMP_LINE``. Where that
    has a verb, the verb is taken out: Hydra completes what comes after.

    Args:
        words: The verbs, and the other words that may stand in their place.
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


def complete_key(verb: str) -> None:
    """Print the completions of the line in ``COMP_LINE``, one per line, for any shell's script.

    Hydra's plugins offer every folder of configs to every verb. This prints only those of their
    completions that the verb accepts.
    """
    found_plugins = Plugins.instance().discover(CompletionPlugin)
    plugins = [plugin for plugin in found_plugins if issubclass(plugin, CompletionPlugin)]
    by_shell = {plugin.provides(): plugin for plugin in plugins}
    with initialize_config_dir(str(conf()), version_base=None):
        loader = GlobalHydra.instance().config_loader()
        with redirect_stdout(StringIO()) as printed:
            by_shell["fish"](loader).query(verb)  # one per line, where Hydra joins bash's by spaces
        found = printed.getvalue().splitlines()
        word = os.environ["COMP_LINE"].split(" ")[-1]
        sys.stdout.write("\n".join(sorted(offered(verb, found, word, loader))) + "\n")


def offered(verb: str, found: Iterable[str], word: str, loader: ConfigLoader) -> Iterator[str]:
    """Yield those of Hydra's completions of ``word`` that the verb accepts.

    Args:
        verb: The verb.
        found: Hydra's completions.
        word: The typed beginning of the word to complete.
        loader: Hydra's loader of configs.
    """
    cfg = loader.load_configuration(config_name=verb, overrides=[], run_mode=RunMode.RUN)
    groups = names_of(verb, cfg.hydra.runtime.choices, loader)
    yield from (f"{key}=" for key in cfg.get(NAMED, {}) if f"{key}=".startswith(word))
    for text in found:
        name, _, option = text.lstrip("+~").partition("=")
        name = name.rstrip("/.")
        is_group = bool(options_of(name, loader))
        configs = configs_of(name, loader) if option and is_group else {}
        is_choice = name in groups and not (option in configs and is_part(option, configs[option]))
        if name not in (NAMED, *OWN) and (is_choice or not is_group):
            yield text
