"""The ``doctor`` verb: checks the installation and prints a fix for each fault."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from agent_scaling.cli.doctor import data, games, machine, packages
from agent_scaling.cli.doctor.findings import BROKEN, OK, WARNING, Asked, Check, Finding, broken
from agent_scaling.runtime.terminal import plain_console

CHECKS: dict[str, Check] = {
    "Python": packages.python,
    "packages": packages.required,
    "extras": packages.extras,
    "GPU": machine.gpu,
    "cores and threads": machine.threads,
    "open files": machine.open_files,
    "processes": machine.processes,
    "shared memory": machine.shared_memory,
    "output folder": machine.output_folder,
    "temporary folder": machine.temporary_folder,
    "NetHack": games.nethack,
    "MiniHack": games.minihack,
    "Atari": games.atari,
    "recorded games": games.recorded,
    "MLflow store": data.store,
    "shards": data.shards,
}
"""The checks, in the table's order; a check that was not asked for returns None."""

STYLES = {OK: "green", WARNING: "yellow", BROKEN: "bold red"}


def doctor(
    *,
    output: str = "outputs",
    tracking_uri: str = "sqlite:///mlflow.db",
    shards: str | None = None,
) -> None:
    """Print a line per check (ok, a warning, or broken with the fix); exit with 1 if any is broken.

    Args:
        output: Folder that runs will write to.
        tracking_uri: The MLflow store.
        shards: Shards to check, a folder or a URL; None checks none.
    """
    asked = Asked(output=output, tracking_uri=tracking_uri, shards=shards)
    found = examine(asked)
    print_findings(found)
    if any(finding.status == BROKEN for finding in found.values()):
        sys.exit(1)


def examine(asked: Asked) -> dict[str, Finding]:
    """Run the checks in threads (games start in processes, imports wait for the disk)."""
    with ThreadPoolExecutor(4) as pool:
        running = {name: pool.submit(examine_one, check, asked) for name, check in CHECKS.items()}
        found = {name: future.result() for name, future in running.items()}
    return {name: finding for name, finding in found.items() if finding is not None}


def examine_one(check: Check, asked: Asked) -> Finding | None:
    """Return a check's finding; a check that raises is a broken one."""
    try:
        return check(asked)
    except Exception as error:  # a check's crash must not end the doctor
        return broken(
            f"{type(error).__name__}: {error}", "install again: pip install agent-scaling"
        )


def print_findings(found: dict[str, Finding]) -> None:
    """Print a line per check with its fix below, then the overall result."""
    table = Table("", "check", "found", box=SIMPLE_HEAD, pad_edge=False)
    for name, finding in found.items():
        text = Text(finding.text)
        if finding.fix:
            text.append(f"\n→ {finding.fix}", style="bold")
        table.add_row(Text(finding.status, STYLES[finding.status]), name, text)
    console = plain_console()
    console.print(table)
    counts = {status: sum(f.status == status for f in found.values()) for status in STYLES}
    console.print(", ".join(f"{count} {status}" for status, count in counts.items() if count))
