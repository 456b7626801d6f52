"""A training run with rollouts, watched from outside: does it grow, and what does it leave behind?

    python benchmarks/soak.py --shards DIR [--minutes 30] [override ...]
    python benchmarks/soak.py [--minutes 30] experiment=nethack_impala [override ...]
    python benchmarks/soak.py --games [--steps 2_000_000] [--seed 0] [--into FILE]

With ``--games``: games alone, see ``soak_games.py``. Otherwise:

Starts ``agent-scaling train`` in a folder of its own, samples each of its processes, ends it with
SIGTERM after ``--minutes``, and looks for what stayed: processes, shared memory, temporary files.
A process's memory is what it has written and shares with nobody; what it has mapped of libraries
counts as its own (USS) or not by whether another program happens to use them at that moment.
A slope is of each round's largest value after the warm-up, least squares with a 95 % interval; for
the trainer also of each round's least. A round goes from one rollout's end to the next's: held-out
passes take more memory than steps, and how many fall into a minute is a matter of what else the
machine does. Overrides are train's, e.g. ``callbacks.rollouts.episodes=8``. The exit status is 1
where something stayed or grew: a slope of more than 1 % of the largest value in an hour whose
interval lies above zero. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from rich.console import Console
from rich.table import Table
from scipy import stats
from soak_games import soak_games

EVERY_S = 2.0  # a held-out pass takes some seconds
NOISE = 0.01  # of the largest value, in an hour
SHARED_MEMORY = "/dev/shm/"
TORCH_CACHE = "torchinductor_"  # torch's own, one folder per user
RUN = [
    "flops_budget=1e18",  # never reached
    "callbacks.reference_players=null",
    "callbacks.rollouts.every_frames=20_000",
    "callbacks.rollouts.episodes=4",
    "callbacks.rollouts.max_episode_steps=500",
    "callbacks.checkpoints.every_minutes=1",
]
CLONING = [
    "experiment=nethack_bc",
    "callbacks.held_out.every_frames=20_000",
    "data.val_frames=10_000",
]


def role(process: psutil.Process, root: psutil.Process) -> str:
    """What a process of the run does."""
    if process == root:
        return "trainer"
    return (
        "game worker"
        if "agent_scaling.envs.pool.worker" in " ".join(process.cmdline())
        else "other"
    )


def written(process: psutil.Process) -> float:
    """MB that the process has written and shares with nobody."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("Private_Dirty:"))
    return int(kilobytes) * 1024 / 1e6


def sample(root: psutil.Process, began: float, rollouts: Path) -> list[dict[str, Any]]:
    """A row for each process of the tree."""
    rows = []
    done = len(list(rollouts.glob("*.parquet")))
    for process in [root, *root.children(recursive=True)]:
        try:
            rows.append(
                {
                    "minute": (time.monotonic() - began) / 60,
                    "round": done,
                    "pid": process.pid,
                    "role": role(process, root),
                    "MB": written(process),
                    "RSS": process.memory_info().rss / 1e6,
                    "files": process.num_fds(),
                    "threads": process.num_threads(),
                }
            )
        except (psutil.Error, OSError, StopIteration):  # it has ended meanwhile
            continue
    return rows


def mapped(root: psutil.Process) -> set[Path]:
    """The shared memory of the tree's processes: others on this machine have theirs."""
    found = set()
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(OSError):  # it has ended meanwhile
            lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
            found |= {
                Path(line[line.index(SHARED_MEMORY) :]) for line in lines if SHARED_MEMORY in line
            }
    return found


def watch(
    command: list[str], minutes: float, environment: dict[str, str], rollouts: Path
) -> tuple[pd.DataFrame, set[Path]]:
    """Start the run, sample it, end it with SIGTERM; its samples, and the shared memory it had.

    Raises:
        RuntimeError: It ended by itself, or with another status.
    """
    rows: list[dict[str, Any]] = []
    shared: set[Path] = set()
    with subprocess.Popen(command, env=environment, start_new_session=True) as run:
        root, began = psutil.Process(run.pid), time.monotonic()
        while run.poll() is None and time.monotonic() - began < minutes * 60:
            rows += sample(root, began, rollouts)
            shared |= mapped(root)
            time.sleep(EVERY_S)
        if run.poll() is not None:
            raise RuntimeError(f"the run ended by itself, with status {run.returncode}")
        run.send_signal(signal.SIGTERM)
        if run.wait(timeout=300) != 128 + signal.SIGTERM:
            raise RuntimeError(f"SIGTERM ended the run with status {run.returncode}")
    return pd.DataFrame(rows), shared


def slope(minutes: pd.Series, values: pd.Series) -> tuple[float, float, float]:
    """Growth per hour, and its 95 % interval."""
    if values.nunique() == 1:
        return 0.0, 0.0, 0.0
    fit = stats.linregress(minutes / 60, values)
    half = stats.t.ppf(0.975, len(values) - 2) * fit.stderr
    return float(fit.slope), float(fit.slope - half), float(fit.slope + half)


def remains(temporary: Path, shared: set[Path]) -> dict[str, list[str]]:
    """What is still there after the run: processes, shared memory, temporary files."""
    found = defaultdict(list)
    for process in psutil.process_iter(["environ", "cmdline"]):
        if (process.info["environ"] or {}).get("TMPDIR") == str(temporary):
            found["processes"].append(" ".join(process.info["cmdline"] or []))
    found["shared memory"] = sorted(path.name for path in shared if path.exists())
    names = {path.name for path in temporary.iterdir()}
    found["temporary files"] = sorted(n for n in names if not n.startswith(TORCH_CACHE))
    return dict(found)


def judge(table: pd.DataFrame, warm_up: float) -> dict[str, dict[str, Any]]:
    """Slopes of the kinds of process that are in three rounds or more after the warm-up."""
    begins, judged = table.groupby("round")["minute"].min(), {}
    whole = begins.index[(begins >= warm_up) & (begins.index < table["round"].max())]
    for name, rows in table[table["round"].isin(whole)].groupby("role"):
        rounds = rows.groupby("round")
        if len(rounds) < 3:
            continue
        measured = {column: rounds[column].max() for column in ("MB", "RSS", "files", "threads")}
        if name == "trainer":
            measured["MB, least"] = rounds["MB"].min()
        minutes = rounds["minute"].mean()
        summary = {
            what: {"largest": float(values.max()), "per_hour": slope(minutes, values)}
            for what, values in measured.items()
        }
        judged[str(name)] = {"processes": rows["pid"].nunique(), "of": summary}
    return judged


def grows(judged: dict[str, dict[str, Any]]) -> list[str]:
    """What grows beyond noise."""
    found = []
    for name, kind in judged.items():
        for column, summary in kind["of"].items():
            growth, low, _ = summary["per_hour"]
            if low > 0 and growth > NOISE * summary["largest"]:
                found.append(f"{name}: {column}")
    return found


def show(judged: dict[str, dict[str, Any]]) -> None:
    """The table."""
    columns = ("role", "processes", "", "largest", "per hour", "95 % interval")
    table = Table(*columns, title="growth")
    for name, kind in judged.items():
        for column, summary in kind["of"].items():
            growth, low, high = summary["per_hour"]
            largest = f"{summary['largest']:,.0f}"
            interval = f"{low:+.2f} … {high:+.2f}"
            table.add_row(name, str(kind["processes"]), column, largest, f"{growth:+.2f}", interval)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shards", help="folder of shards to clone; without: see experiment=")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--warm-up", type=float, default=5, help="minutes that do not count")
    parser.add_argument("--samples", help="a CSV file to keep every sample in")
    parser.add_argument("--games", action="store_true", help="games alone, without a trainer")
    parser.add_argument("--steps", type=int, default=2_000_000, help="of --games, all together")
    parser.add_argument("--seed", type=int, default=0, help="of --games")
    parser.add_argument("--into", type=Path, help="a JSON file to which --games adds its counts")
    parser.add_argument("overrides", nargs="*", help="of train")
    given = parser.parse_args()
    if given.games:
        sys.exit(soak_games(given.steps, given.seed, given.into))
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "tmp"
        temporary.mkdir()
        program = str(Path(sys.executable).with_name("agent-scaling"))
        where = [f"output={folder}/run", f"logger.tracking_uri=sqlite:///{folder}/mlflow.db"]
        cloning = [*CLONING, f"data.shards={Path(given.shards).resolve()}"] if given.shards else []
        command = [program, "train", *cloning, *RUN, *where, *given.overrides]
        environment, rollouts = (
            os.environ | {"TMPDIR": str(temporary)},
            Path(folder, "run/rollouts"),
        )
        table, shared = watch(command, given.minutes, environment, rollouts)
        left = remains(temporary, shared)
        played = len(list(rollouts.glob("*.parquet")))
    if given.samples:
        table.to_csv(given.samples, index=False)
    judged = judge(table, given.warm_up)
    show(judged)
    grown, stayed = grows(judged), any(left.values())
    Console().print(f"{played} rollouts; grows: {grown or 'nothing'}; left behind: {left}")
    print(json.dumps({"growth": judged, "grows": grown, "left": left, "rollouts": played}))
    sys.exit(bool(grown or stayed))


if __name__ == "__main__":
    main()
