"""Fixtures that every test may use, and the order in which the files of tests begin."""

from __future__ import annotations

import gc
import os
import random
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing import popen_spawn_posix, spawn, util
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from agent_scaling.data.conversion.shard import shard
from agent_scaling.data.recordings.atari import AtariSource
from agent_scaling.envs.pool import processes
from agent_scaling.playing.demonstrators.demonstrate import demonstrate
from tests.helpers import stores
from tests.helpers.composing import compose_once
from tests.helpers.forked import FOLDER, PROGRAM_NAME, PYTHON, YOUNG, forked_workers, start
from tests.helpers.inverse_runs import BUDGET, HALF, INVERSE
from tests.helpers.runs import train
from tests.helpers.ttyrecs import link_games, reference_games

ROOT = Path(__file__).resolve().parents[1]

LONGEST = (
    "slurm/test_cluster.py",
    "docs/test_newcomer.py",
    "studies/test_study.py",
    "training/test_compile.py",
    "ddp/test_ranks.py",
    "scaling/test_coverage.py",
    "studies/test_bco.py",
    "studies/tuning/test_tune.py",
    "faults/test_mlflow.py",
    "data/shards/test_remote.py",
    "benchmarks/test_accelerator.py",
    "training/test_resume.py",
    "browser/test_site.py",
    "playing/test_play.py",
    "policies/test_sizes.py",
    "training/test_train.py",
    "studies/test_sweep.py",
    "policies/test_flops.py",
    "data_modules/test_shards.py",
    "training/modules/test_inverse.py",
    "training/course/test_branches.py",
    "scaling/test_fit.py",
    "training/test_waits.py",
    "browser/test_mlflow.py",
    "training/test_precision.py",
    "training/test_pairs.py",
    "docs/test_commands.py",
    "studies/tuning/test_rungs.py",
    "test_library.py",
    "test_wheel.py",
    "docs/test_extending.py",
    "data/conversion/test_finished_games.py",
    "training/labelling/test_label.py",
    "training/test_recipe.py",
    "envs/test_goldens.py",
    "envs/test_pool.py",
    "studies/test_plan.py",
    "data/recordings/test_minari.py",
    "policies/cores/test_core_runs.py",
    "data/conversion/test_shard.py",
    "scaling/test_tracked.py",
    "training/test_impala_run.py",
    "cli/test_completion.py",
    "cli/test_doctor.py",
)
"""Files that take longest, these first: the last files to begin should be short, or one worker of
pytest-xdist waits for the other at the end."""


MEMORY = Path("/dev/shm")
ROOM = 6e9
"""Free bytes that ``MEMORY`` must have. Folders of tests that have passed are removed."""


def begin_in_memory() -> None:
    """Let pytest make its temporary folders in memory, where programs may run from there.

    A training run's MLflow store syncs its file a thousand times, and a disk takes milliseconds
    for each.
    """
    if not MEMORY.is_dir():
        return
    found = os.statvfs(MEMORY)
    if found.f_bavail * found.f_frsize >= ROOM and not found.f_flag & os.ST_NOEXEC:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


begin_in_memory()
compose_once()
util.get_temp_dir()  # of fork servers: in a test's folder, the path of a socket would be too long
gc.set_threshold(YOUNG)
gc.disable()  # a quarter of the time of importing all tests; until then, nothing is garbage


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """Fork the workers of pytest-xdist, and what they start, from one that has imported it all."""
    folder = config._tmp_path_factory.getbasetemp() / "forked"  # type: ignore[attr-defined]
    start(folder, os.getpid())
    os.environ[FOLDER] = str(folder)
    for spec in specs:
        if spec.popen and spec.python is None:
            spec.python = shlex.quote(str(folder / PYTHON))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Leave out of collections what has been imported: no test can free it."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    place = {ROOT / "tests" / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


Once = Callable[[str, Callable[[Path], object]], Path]


def shared_root(factory: pytest.TempPathFactory) -> Path:
    """This run's temporary folder, above those of pytest-xdist's workers."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """``once(name, make)``: the folder of that name, which the first worker of pytest-xdist to ask
    has ``make`` fill; the others wait. Nobody writes to it afterwards."""
    root = shared_root(tmp_path_factory)

    def filled(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return filled


@pytest.fixture(autouse=True, scope="session")
def stores_are_copies(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tell tests and their children where the empty store is that they copy."""
    os.environ[stores.EMPTY] = str(shared_root(tmp_path_factory) / "empty.db")


@pytest.fixture(autouse=True, scope="session")
def workers_are_forked() -> Iterator[None]:
    """Fork the workers of environment pools and of multiprocessing, as programs are."""
    if FOLDER not in os.environ:
        yield
        return
    with forked_workers(str(Path(os.environ[FOLDER]) / PYTHON)):
        yield


@pytest.fixture
def new_interpreters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start such workers as a user's are: for tests of how they begin and end."""
    monkeypatch.setattr(processes, "sys", sys)
    monkeypatch.setattr(popen_spawn_posix, "spawn", spawn)


@pytest.fixture(autouse=True)
def no_store_of_an_earlier_test() -> None:
    """Lightning's logger sets the variable, and a test's child processes would inherit it."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(autouse=True)
def same_numbers_each_time() -> None:
    """What a test draws without a seed of its own is the same in each run."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def forked(once: Once) -> Path:
    """What stands for the console script where a start of Python is not the point."""
    if FOLDER in os.environ:
        return Path(os.environ[FOLDER]) / PROGRAM_NAME
    return once("forked", lambda folder: start(folder, os.getpid())) / PROGRAM_NAME


@pytest.fixture(scope="session")
def reference() -> Path:
    """Reference data: ``../shared`` or ``$AGENT_SCALING_REFERENCE``; its absence fails CI."""
    path = Path(os.environ.get("AGENT_SCALING_REFERENCE", ROOT.parent / "shared"))
    if not (path / "reference").is_dir():
        message = f"no reference data at {path}: set AGENT_SCALING_REFERENCE to its folder"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def tiny_games(once: Once) -> Path:
    """Five real games of at most 400 steps, played by the demonstrator, in NLD-AA's layout."""
    settings = {"games": 5, "processes": 2, "max_steps": 400}
    return once("tiny-games", lambda folder: demonstrate(**settings, output=str(folder)))


@pytest.fixture(scope="session")
def tiny_shards(tiny_games: Path, once: Once) -> Path:
    """The tiny games as shards, two of them held out."""
    settings = {"input": str(tiny_games), "chunk_frames": 128, "val_fraction": 0.4}

    def make(folder: Path) -> None:
        made = shard(**settings, output=str(folder))
        assert made.totals["val"].games == 2

    return once("tiny-shards", make)


@pytest.fixture(scope="session")
def many_games(reference: Path, once: Once) -> Path:
    """The 20 shortest reference games, or the ``$REFERENCE_GAMES`` shortest, in NLD-AA's layout."""
    games = reference_games(reference)[: int(os.environ.get("REFERENCE_GAMES", "20"))]
    return once("many-games", lambda folder: link_games(games, folder))


@pytest.fixture(scope="session")
def many_shards(many_games: Path, once: Once) -> Path:
    """The many games in several shards, a third of them held out; takes some ten seconds, once."""
    settings = {"input": str(many_games), "shard_megabytes": 1, "val_fraction": 0.4}
    return once("many-shards", lambda folder: shard(**settings, level=1, output=str(folder)))


@pytest.fixture(scope="session")
def short_games(reference: Path, once: Once) -> Path:
    """The five shortest reference games, 712 to 9,233 frames, in NLD-AA's layout."""
    return once("short-games", lambda folder: link_games(reference_games(reference)[:5], folder))


@pytest.fixture(scope="session")
def short_shards(short_games: Path, once: Once) -> Path:
    """The short games as shards of one game each, in small chunks."""
    return once(
        "short-shards",
        lambda folder: shard(
            input=str(short_games),
            output=str(folder),
            chunk_frames=300,
            shard_megabytes=0.001,
            val_fraction=0.4,
        ),
    )


@pytest.fixture(scope="session")
def atari_games(once: Once) -> Path:
    """Four games of Breakout of at most 300 steps, played by the scripted expert."""
    settings = {"game": "atari", "env": "Breakout", "games": 4, "processes": 2, "max_steps": 300}
    return once("atari-games", lambda folder: demonstrate(**settings, output=str(folder)))


@pytest.fixture(scope="session")
def atari_shards(atari_games: Path, once: Once) -> Path:
    """The games of Breakout as shards of small chunks, some held out."""
    return once(
        "atari-shards",
        lambda folder: shard(
            input=str(atari_games),
            output=str(folder),
            source=AtariSource(),
            processes=2,
            chunk_frames=128,
            val_fraction=0.3,
        ),
    )


@pytest.fixture(scope="session")
def site(once: Once) -> Path:
    """The documentation as ``make docs`` builds it. Links are checked meanwhile: to pages, to their
    headings, to the project's files."""

    def build(folder: Path) -> None:
        done = subprocess.run(
            [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--site-dir", folder],
            cwd=ROOT,
            env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return once("site", build)


@pytest.fixture(scope="session")
def inverse_run(tiny_shards: Path, once: Once) -> Path:
    """The output of a run of inverse dynamics on the tiny games, with a milestone half way."""
    settings = [*INVERSE, f"flops_budget={BUDGET}", f"milestones=[{HALF}]"]

    def make(folder: Path) -> None:
        folder.mkdir()
        train(tiny_shards, folder / "run", *settings)

    return once("inverse", make) / "run"
