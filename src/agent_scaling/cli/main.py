"""The command line: ``agent-scaling <verb>`` composes ``conf/<verb>.yaml`` and calls its target."""

from __future__ import annotations

import atexit
import gc
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.metadata import version
from typing import Any, NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import InterpolationResolutionError

from agent_scaling.cli.completion import (
    COMPLETION,
    SHELLS,
    asked_for_script,
    complete_key,
    complete_verb,
)
from agent_scaling.cli.help import check_top_keys, help_text
from agent_scaling.cli.once import composed_once
from agent_scaling.cli.words import as_overrides
from agent_scaling.config.beside import conf
from agent_scaling.config.call import call_verb
from agent_scaling.config.command import PROGRAM, setting
from agent_scaling.config.groups import check_choices
from agent_scaling.config.mistakes import UNTAKEN, check_chosen, explain
from agent_scaling.config.search_path import register
from agent_scaling.runtime.errors import InputError, error_line
from agent_scaling.runtime.secrets import mask
from agent_scaling.runtime.terminal import plain_console

PRINTS = re.compile(r"-c(?![dnp]$)|--cfg|-i|--info")
"""Options by which Hydra prints a config and ends; ``-cd``, ``-cn`` and ``-cp`` name one."""

VERBS = {
    "demonstrate": "play games with a scripted demonstrator and record them as ttyrecs",
    "shard": "turn a directory of ttyrecs into WebDataset shards with a manifest",
    "train": "train a policy on shards to a FLOP budget, with MLflow, rollouts and resume",
    "label": "give games without actions those of an inverse-dynamics model",
    "bco": "clone games without actions, and improve their labels turn by turn",
    "import": "turn a checkpoint that the paper's authors published into one of ours",
    "rollout": "play a checkpoint and tabulate its episodes",
    "compare": "compare two checkpoints, or two tables of episodes, on the same seeds",
    "watch": "play a checkpoint live in the terminal, with the policy's odds beside the game",
    "flops": "count what a policy costs by layer, and what a run of it costs",
    "plan": "lay out a grid of runs, or the best run of a law, as configs of train",
    "sweep": "train the runs of a plan, several at a time or on a cluster; go on after a stop",
    "study": "plan, sweep, fit, forecast and check the forecast, from one config",
    "tune": "search a few keys of train for the best values, within a budget of FLOPs",
    "fit": "fit scaling laws to measured runs and forecast the next one",
    "forecast": "predict the best run at a budget from a fit, and check it once it is made",
    "doctor": "check the installation, a store and shards, and say how to mend what is wrong",
}


DEBUG, DEBUG_VARIABLE = "debug=true", "AGENT_SCALING_DEBUG"
"""Behind a verb: an error shows its traceback, not its line alone."""

QUIET = {"MLFLOW_LOGGING_LEVEL": "WARNING", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
"""MLflow's variables against lines of its own, unless the user has set them."""

USAGE = """usage: agent-scaling <verb> [key=value ...]

{verbs}

agent-scaling <verb> --help shows a verb's keys, their defaults and examples.
eval "$(agent-scaling completion bash)" completes them with the Tab key (zsh and fish, too).
In one sitting:

  agent-scaling demonstrate games=20 output=games
  agent-scaling shard input=games output=shards
  agent-scaling train experiment=nethack_bc data.shards=shards flops_budget=1e12 output=run
  agent-scaling rollout ckpt=run/checkpoints/last.ckpt episodes=20 output=episodes
"""


def usage() -> str:
    """Return the text that ``agent-scaling`` prints alone or with ``--help``."""
    width = max(map(len, VERBS))
    return USAGE.format(verbs="\n".join(f"  {v:<{width}}  {text}" for v, text in VERBS.items()))


def run(cfg: DictConfig) -> Any:
    """Call the verb; an :class:`InputError` becomes one line and status 2, Ctrl-C status 130."""
    try:
        return call_verb(cfg)
    except InputError as error:
        fail(str(error), error)
    except InterpolationResolutionError as error:
        fail(explain(error, ""))
    except ModuleNotFoundError as error:  # of a package that was left out or removed, as ale-py
        why = f"pip install {error.name}" if error.name else "install it"
        fail(f"{error_line(error)}: {why} (debug=true shows where)", error)
    except (OSError, MemoryError) as error:  # the machine's limits, at a place that names no key
        fail(f"{error_line(error)} (debug=true shows where)", error)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


@contextmanager
def masked_output(words: list[str]) -> Iterator[None]:
    """Mask credentials in what Hydra itself prints of a config (``--cfg job``, ``--info``)."""
    if not any(PRINTS.match(word) for word in words):
        yield
        return
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        sys.stdout.write(mask(printed.getvalue()))


def import_parts(cfg: DictConfig) -> None:
    """Import what the config names without garbage collections, which take a quarter of the time.

    They would follow every object of torch and MLflow again and again. Later ones leave out what
    is there now.
    """
    # Imported here: it imports pydantic, for which help and completion need not wait.
    from agent_scaling.config.check import located, targets

    gc.disable()
    try:
        with suppress(InputError):  # the check of the config says so
            for path, node in targets(cfg):
                located(path, node)
    finally:
        gc.freeze()
        gc.enable()


def fail(text: str, error: BaseException | None = None) -> NoReturn:
    """Print a line on standard error, after the traceback if ``debug=true``; exit with 2."""
    if error is not None and os.environ.get(DEBUG_VARIABLE):
        sys.stderr.write(mask("".join(traceback.format_exception(error))))
    plain_console(stderr=True, soft_wrap=True).print(f"error: {mask(text)}")
    sys.exit(2)


def main() -> None:
    """Run the console script ``agent-scaling``."""
    # Last of all: otherwise the interpreter follows every object of torch and MLflow at its end,
    # several times, for seconds.
    atexit.register(gc.freeze)
    if not (sys.stdout.isatty() or sys.stderr.isatty()):
        # CI and notebooks set FORCE_COLOR, which makes rich draw bars into a log.
        os.environ.setdefault("TTY_COMPATIBLE", "0")
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # paths may hold what the terminal's code lacks
            stream.reconfigure(errors="backslashreplace")
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return
    if sys.argv[1] == "--version":
        sys.stdout.write(f"{PROGRAM} {version(PROGRAM)}\n")
        return
    if shell := asked_for_script(sys.argv[1:]):
        sys.stdout.write(SHELLS[shell])
        sys.argv[1:] = ["train", "-sc", f"install={shell}"]
    elif sys.argv[1] in ("-sc", "--shell-completion"):
        if verb := complete_verb([*VERBS, COMPLETION]):
            register()
            complete_key(verb)
        return
    verb = sys.argv.pop(1)
    if verb not in VERBS:
        fail(f"unknown verb {verb!r}; known: {', '.join(VERBS)}")
    asks = bool({"-h", "--help"} & set(sys.argv))
    if DEBUG in sys.argv:
        os.environ[DEBUG_VARIABLE] = "1"  # of a run's other processes, too
    words = [word for word in sys.argv[1:] if word not in ("-h", "--help", DEBUG)]
    try:
        sys.argv[1:] = as_overrides(verb, words)
        check_chosen(verb, sys.argv[1:])
    except InputError as error:
        fail(str(error))

    composed = False

    def task(cfg: DictConfig) -> Any:
        nonlocal composed
        composed = True
        choices = HydraConfig.get().runtime.choices
        loader = GlobalHydra.instance().config_loader()
        if asks:
            sys.stdout.write(help_text(verb, cfg, choices, loader))
            return None
        try:
            check_choices(choices, loader)
            check_top_keys(verb, cfg, choices)
        except InputError as error:
            fail(str(error))
        if sys.argv[1:2] != [verb]:
            sys.argv.insert(1, verb)  # Lightning starts the other ranks with this command line
        if verb == "train":  # with this output folder, which may be named after the time
            sys.argv.append(setting("output", cfg.output))
        import_parts(cfg)
        return run(cfg)

    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # we print the errors of composing, not Hydra
    try:
        with masked_output(words), composed_once():
            hydra.main(config_path=str(conf()), config_name=verb, version_base=None)(task)()
    except UNTAKEN as error:
        if composed:
            raise
        fail(explain(error, verb))
