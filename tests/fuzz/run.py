"""Fuzz one target with coverage: ``python -m tests.fuzz.run TARGET``, see ``make fuzz``.

Needs atheris, which is the extra ``fuzz``. The corpus grows under ``build/fuzz/TARGET``; the inputs
are counted there, and the same command goes on. A finding ends the run. Its input is kept under
``build/fuzz/TARGET/findings``, and ``--input FILE`` tries it again, without atheris.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.target import Target

INSTRUMENTED = ["agent_scaling"]
"""Packages whose branches are counted; they are imported inside the block that instruments them.
(A module inside torch here would instrument all of torch: a start of minutes, and slow inputs.)"""
STRUCTURED = 0.7
"""Fraction of inputs that the target's own generator makes; libFuzzer makes the others."""
EVERY = 500
"""Inputs after which their number is written down."""
SECONDS, MEGABYTES = 600, 4000
"""Limits at which libFuzzer itself ends an input. The target's own are lower, and of CPU time: on a
busy machine an input may wait for minutes."""
MEMORY = Path("/dev/shm")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", help="a name in tests/fuzz/targets.py")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="inputs in all, all calls")
    parser.add_argument("--seconds", type=int, default=0, help="time of this call; 0: no limit")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--input", type=Path, help="try this file alone, without atheris")
    return parser.parse_args()


def recorded(folder: Path) -> tuple[Path, Path]:
    """Return three recorded games and their shards, which are made once."""
    from agent_scaling.data.conversion.shard import shard
    from agent_scaling.playing.demonstrators.demonstrate import demonstrate
    from tests.fuzz.shard_files import CHUNK_FRAMES

    games, shards = folder / "games", folder / "shards"
    if not (shards / "manifest.json").exists():
        demonstrate(games=3, max_steps=100, processes=1, output=str(games))
        sizes = {"chunk_frames": CHUNK_FRAMES, "shard_megabytes": 0.001, "val_fraction": 0.0}
        shard(input=str(games), output=str(shards), processes=1, **sizes)
    return games, shards


def main() -> None:
    """Make the target, then try inputs until there are enough, or one is a finding."""
    given = arguments()
    instrumented: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if given.input is None:
        import atheris

        instrumented = atheris.instrument_imports(include=INSTRUMENTED)
        instrument_unpickling(atheris)
    with instrumented:
        from tests.fuzz.targets import NAMES, make_target
    if given.target not in NAMES:
        sys.exit(f"{given.target}: use one of {', '.join(NAMES)}")
    games, shards = recorded(given.folder)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        tempfile.tempdir = scratch  # what readers unpack stays in memory, too
        target = make_target(given.target, games, shards, Path(scratch))
        if given.input is None:
            fuzz(target, given.folder / given.target, given.inputs, given.seconds)
        else:
            print("read" if target.accepts(given.input.read_bytes()) else "refused")


def instrument_unpickling(atheris: ModuleType) -> None:
    """Count the branches of the two functions that follow a pickle's opcodes, and of no others."""
    import pickletools

    from torch import _weights_only_unpickler

    for owner, name in ((_weights_only_unpickler.Unpickler, "load"), (pickletools, "_genops")):
        setattr(owner, name, atheris.instrument_func(getattr(owner, name)))


def fuzz(target: Target, folder: Path, inputs: int, seconds: int) -> None:
    """Hand a target to libFuzzer, which ends the process."""
    import atheris

    gc.freeze()  # what is imported is not garbage, and following it takes long
    for name in ("corpus", "findings"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for seed in target.seeds:
        (folder / "corpus" / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    tried, counted = counter(folder / "inputs")

    def try_input(data: bytes) -> None:
        counted()
        if data:
            target.accepts(data)

    def change(data: bytes, most: int, seed: int) -> bytes:
        rng = Random(seed)
        if data and rng.random() < STRUCTURED:
            return target.mutate(data, rng)[:most]
        return bytes(atheris.Mutate(data, most))

    options = [f"-runs={max(0, inputs - tried)}", f"-max_total_time={seconds}"]
    options += [f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}", f"-max_len={target.longest}"]
    options += [f"-artifact_prefix={folder}/findings/", str(folder / "corpus")]
    atheris.Setup([sys.argv[0], *options], try_input, custom_mutator=change)
    atheris.Fuzz()


def counter(path: Path) -> tuple[int, Callable[[], None]]:
    """Return the number of inputs that earlier calls tried, and a function that counts on."""
    before = tried = int(path.read_text()) if path.exists() else 0

    def count() -> None:
        nonlocal tried
        tried += 1
        if tried % EVERY == 0:
            path.write_text(str(tried))

    return before, count


if __name__ == "__main__":
    main()
