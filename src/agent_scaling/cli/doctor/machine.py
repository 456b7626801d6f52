"""Checks of the machine: GPUs, cores, limits, memory that processes share, disks."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

import joblib

from agent_scaling.cli.doctor.findings import Asked, Finding, broken, ok, warning

GB = 1e9
DISK_WARNING, DISK_BROKEN = 10 * GB, 0.5 * GB
"""Bytes: a large policy's checkpoints take gigabytes, a small one's a tenth of one."""
SHARED_WARNING = 0.5 * GB
OPEN_FILES = 1024
PROCESSES = 1024
SHARED = Path("/dev/shm")
PIDS = Path("/sys/fs/cgroup/pids.max")


def gpu(asked: Asked) -> Finding:
    """List the GPUs that torch sees, and check that it can compute on each."""
    import torch  # the import takes seconds

    driver = nvidia_driver()
    built = torch.version.cuda
    if built is None:
        if driver:
            return warning(
                f"driver {driver}, but torch {torch.__version__} is built without CUDA",
                "install the CUDA build that https://pytorch.org/get-started names",
            )
        return ok("none; training on the CPU")
    if not torch.cuda.is_available():
        if driver is None:
            return warning(
                f"torch is built for CUDA {built}, and there is no NVIDIA driver",
                "in a container: docker run --gpus all; else train on the CPU",
            )
        return broken(
            f"driver {driver} does not serve torch's CUDA {built}",
            "update the driver, or install torch for an older CUDA; check CUDA_VISIBLE_DEVICES",
        )
    for index in range(torch.cuda.device_count()):
        try:
            (torch.ones(8, device=f"cuda:{index}") * 2).sum().item()
        except RuntimeError as error:  # torch has no kernels for it, or no memory is left
            line = str(error).partition("\n")[0]
            return broken(
                f"cuda:{index}: {line}", "free its memory, or install a torch built for it"
            )
    return ok(", ".join(map(describe_gpu, range(torch.cuda.device_count()))))


def describe_gpu(index: int) -> str:
    """Return a GPU's name and memory: ``NVIDIA H200, 139 of 140 GB free``."""
    import torch

    free, total = torch.cuda.mem_get_info(index)
    return f"{torch.cuda.get_device_name(index)}, {free / GB:.0f} of {total / GB:.0f} GB free"


def nvidia_driver() -> str | None:
    """Return the NVIDIA driver's version, or None where there is no driver."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split("\n")[0].strip() or None


def threads(asked: Asked) -> Finding:
    """Compare torch's number of threads with the cores that this process may use."""
    visible, usable = len(os.sched_getaffinity(0)), joblib.cpu_count()
    asked_for = os.environ.get("OMP_NUM_THREADS", "")
    taken = int(asked_for) if asked_for.isdecimal() and int(asked_for) else visible
    text = f"{usable} cores, {taken} threads per process"
    if usable < visible:
        text = f"{visible} cores in sight, a limit (of the container?) grants {usable}; {text}"
    if taken > usable:
        return warning(text, f"export OMP_NUM_THREADS={usable}; workers={usable} for games")
    return ok(text)


def open_files(asked: Asked) -> Finding:
    """Check how many files and pipes a process may hold; shards, games and loaders need them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
        return warning(f"at most {soft} per process", f"ulimit -n {limit(hard)}")
    return ok(f"at most {limit(soft)} per process")


def processes(asked: Asked) -> Finding:
    """Check how many processes and threads the user and the container may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    limits = [] if soft == resource.RLIM_INFINITY else [soft]
    if PIDS.is_file() and (text := PIDS.read_text().strip()).isdecimal():
        limits.append(int(text))
    most = min(limits, default=resource.RLIM_INFINITY)
    if limits and most < PROCESSES:
        fix = "ulimit -u 4096, docker run --pids-limit=-1; or fewer workers="
        return warning(f"at most {most}, threads included", fix)
    return ok(f"at most {limit(most)}")


def limit(value: int) -> str:
    """Return a resource limit in words."""
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def shared_memory(asked: Asked) -> Finding:
    """Check ``/dev/shm``, which ranks on several GPUs need; games share memory without it."""
    if not SHARED.is_dir():
        return warning(f"no {SHARED}", "mount it: ranks (trainer=ddp) exchange through it")
    total, _, free = shutil.disk_usage(SHARED)
    text = f"{free / GB:.2g} of {total / GB:.2g} GB free in {SHARED}"
    if free < SHARED_WARNING:
        return warning(text, "docker run --shm-size=2g, or --ipc=host; needed for several GPUs")
    return ok(text)


def output_folder(asked: Asked) -> Finding:
    """Check the folder that runs write to."""
    return folder(Path(asked.output), "output=")


def temporary_folder(asked: Asked) -> Finding:
    """Check the folder where games keep their files while they run."""
    try:
        return folder(Path(tempfile.gettempdir()), "TMPDIR=")
    except FileNotFoundError:
        return broken("none can be written to", "TMPDIR=, a folder that can be written to")


def folder(path: Path, key: str) -> Finding:
    """Check that a folder is writable or can be made, and has space; ``key`` sets another."""
    there = path.absolute()
    try:
        while not there.exists():
            there = there.parent
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return broken(f"{path}: cannot be written ({error.strerror})", f"another {key}")
    free = shutil.disk_usage(there).free
    text = f"{free / GB:,.3g} GB free in {path}"
    if free < DISK_BROKEN:
        return broken(text, f"free space, or another {key}")
    if free < DISK_WARNING:
        return warning(text, f"large policies need more: free space, or another {key}")
    return ok(text)
