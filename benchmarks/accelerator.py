"""All that one GPU can tell of this project, in minutes: utilisation, speed, memory, kernels.

    python benchmarks/accelerator.py                   # at most 8 minutes on an H200
    python benchmarks/accelerator.py --tiny            # the same parts on a CPU, in seconds

The machine needs Python 3.11 or newer, torch 2.11 or newer, lightning and torchmetrics: no
internet, no game and no recordings. The wheels that it needs beside those are :data:`WHEELS`; make
them where there is internet, with the same version of Python, and take them along:

    pip wheel --wheel-dir wheels hydra-core pydantic rich tenacity zstandard
    pip install --no-index wheels/*.whl && python benchmarks/accelerator.py

(``pip wheel`` in place of ``pip download``: a dependency of hydra-core is published as source
alone, which a machine without internet cannot build.)

Each result is printed, and written to ``--output``, when it is there; a part that fails is an error
in the result, and the others go on. At the end, or when the time is over, or on SIGTERM: one JSON
object in a line, then a Markdown table.
"""

from __future__ import annotations

import argparse
import gc
import json
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WHEELS = ("hydra-core", "pydantic", "rich", "tenacity", "zstandard")
"""Distributions that the script needs beside torch, lightning and torchmetrics."""

LEAST_SECONDS = 1.0
"""A part is not begun with less time."""
NO_END = 1e6
"""Seconds that nothing takes."""


class TimeOver(BaseException):  # as KeyboardInterrupt, nothing may catch it below
    """The time of a part, or of all, is over."""


class Report:
    """The results so far, on the terminal and in a file.

    Args:
        path: The file of the JSON object.
        facts: Facts about device and versions.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path, self.began = path, time.monotonic()
        self.found: dict[str, Any] = {**facts, "parts": {}, "errors": {}}

    @property
    def seconds(self) -> float:
        """Seconds since the report began."""
        return time.monotonic() - self.began

    def row(self, part: str, row: dict[str, Any]) -> None:
        """Add a row of a part's results."""
        self.found["parts"].setdefault(part, []).append(row)
        print(f"{self.seconds:6.1f} s  {part}: {json.dumps(row)}", flush=True)
        self.write()

    def error(self, part: str, text: str) -> None:
        """Add the reason for which a part has no more rows."""
        self.found["errors"][part] = text
        print(f"{self.seconds:6.1f} s  {part}: ERROR {text}", flush=True)
        self.write()

    def write(self) -> None:
        """Write the file, whole or not at all."""
        self.found["seconds"] = round(self.seconds, 1)
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
        new.replace(self.path)

    def end(self, bars: dict[str, Any]) -> None:
        """Print the JSON object, and the table."""
        self.found["bars"] = bars
        self.write()
        print(json.dumps(self.found))
        print(self.table(), flush=True)

    def table(self) -> str:
        """All rows as a Markdown table."""
        lines = ["| part | case | result |", "|---|---|---|"]
        for part, rows in self.found["parts"].items():
            for row in rows:
                rest = " · ".join(f"{k} {shown(v)}" for k, v in row.items() if k != "case")
                lines.append(f"| {part} | {row['case']} | {rest} |")
        lines += [f"| {part} | error | {text} |" for part, text in self.found["errors"].items()]
        lines += [f"| bar | {name} | {text} |" for name, text in self.found["bars"].items()]
        return "\n".join(lines)


def shown(value: Any) -> str:
    """A value in a cell."""
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise :class:`TimeOver` in the block when its seconds are over."""

    def over(number: int, frame: object) -> None:
        raise TimeOver(f"stopped after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_part(report: Report, name: str, rows: Iterator[dict[str, Any]], seconds: float) -> None:
    """Add a part's rows, or the reason why there are no more."""
    if seconds < LEAST_SECONDS:
        report.error(name, "not begun: the time was over")
        return
    try:
        with limit(seconds):
            for row in rows:
                report.row(name, row)
    except TimeOver as over:
        report.error(name, str(over))
    except Exception as error:
        traceback.print_exc()
        first = next(iter(str(error).splitlines()), "")
        report.error(name, f"{type(error).__name__}: {first}")


def ends(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tiny", action="store_true", help="small cases, for a CPU")
    parser.add_argument("--output", type=Path, default=Path("accelerator.json"))
    parser.add_argument("--seconds", type=float, help="of all parts; default 450, --tiny: no end")
    parser.add_argument("--only", nargs="+", default=[], help="names of parts")
    args = parser.parse_args()
    sys.path[:0] = [str(ROOT / "src"), str(ROOT)]
    gc.disable()
    import accelerator_parts as parts  # here, as processes that decode games import this file

    gc.freeze()  # collections between the parts look at no module
    gc.enable()
    at = parts.Setting.tiny() if args.tiny else parts.Setting.of_device()
    seconds = args.seconds or (NO_END if args.tiny else 450)
    report = Report(args.output, parts.facts(at))
    signal.signal(signal.SIGTERM, ends)
    try:
        for name, (part, most) in parts.PARTS.items():
            if not args.only or name in args.only:
                most = NO_END if args.tiny else most
                run_part(report, name, part(at), min(most, seconds - report.seconds))
                gc.collect()
                parts.tidy()
    finally:
        report.end(parts.bars(report.found["parts"]))


if __name__ == "__main__":
    main()
