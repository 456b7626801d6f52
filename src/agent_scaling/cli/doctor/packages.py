"""Checks of Python and the packages, against what the project says that it needs."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from agent_scaling.cli.doctor.findings import Asked, Finding, broken, ok, warning

OURS = "agent-scaling"
SHOWN = ("torch", "lightning", "nle", "gymnasium", "mlflow", "numpy")


def python(asked: Asked) -> Finding:
    """Python itself."""
    here, wanted = platform.python_version(), metadata(OURS)["Requires-Python"]
    if here not in SpecifierSet(wanted, prereleases=True):
        return broken(f"{here}, supported is {wanted}", "make the environment with such a Python")
    return ok(here)


def required(asked: Asked) -> Finding:
    """Every package that the project needs, in a version that it works with."""
    needed = [r for r in requirements(OURS) if applies(r, "")]
    # NLE pins gymnasium, and does not work with another.
    needed += [r for r in requirements("nle") if applies(r, "")]
    if wrong := problems(needed):
        return broken(*wrong)
    return ok(", ".join(f"{name} {version(name)}" for name in SHOWN))


def extras(asked: Asked) -> Finding:
    """Optional packages: those that are there must be in a version that works."""
    optional = [r for r in requirements(OURS) if not applies(r, "")]
    names = metadata(OURS).get_all("Provides-Extra") or []
    complete, wrong = [], []
    for extra in names:
        parts = [r for r in optional if applies(r, extra) and r.name != OURS]
        present = [r for r in parts if installed(r.name)]
        if len(present) == len(parts) > 0 and not problems(parts):
            complete.append(extra)
        elif present and extra != "dev":  # of the developers' tools, some are often there
            wrong.append((extra, problems(parts)))
    if wrong:
        texts = "; ".join(f"{extra}: {found[0]}" for extra, found in wrong if found)
        fixes = "; ".join(found[1] for _, found in wrong if found)
        return warning(texts, fixes)
    return ok(f"installed: {', '.join(complete) or 'none'} (of {', '.join(sorted(names))})")


def requirements(package: str) -> list[Requirement]:
    """What an installed package says that it needs, extras included."""
    return [Requirement(line) for line in requires(package) or ()]


def applies(requirement: Requirement, extra: str) -> bool:
    """Whether it holds here, with an extra or (``""``) without."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def installed(name: str) -> str | None:
    """A package's version; None where it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def problems(needed: list[Requirement]) -> tuple[str, str] | None:
    """What is missing or of a wrong version, and the command that mends it."""
    lines, fixes = [], []
    for requirement in needed:
        have, wanted = installed(requirement.name), requirement.specifier
        if have is None or not wanted.contains(have, prereleases=True):
            lines.append(f"{requirement.name} {have or 'is missing'}, needed {wanted or 'any'}")
            fixes.append(f"'{requirement.name}{wanted}'")
    return (", ".join(lines), f"pip install {' '.join(fixes)}") if lines else None
