"""Checks of Python and the packages against the project's declared requirements."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from agent_scaling.cli.doctor.findings import Asked, Finding, broken, ok, warning

OURS = "agent-scaling"
SHOWN = ("torch", "lightning", "nle", "gymnasium", "mlflow", "numpy")


def python(asked: Asked) -> Finding:
    """Check the version of Python."""
    here, wanted = platform.python_version(), metadata(OURS)["Requires-Python"]
    if here not in SpecifierSet(wanted, prereleases=True):
        return broken(f"{here}, supported is {wanted}", "make the environment with such a Python")
    return ok(here)


def required(asked: Asked) -> Finding:
    """Check that every required package is there, in a version that works."""
    needed = [r for r in requirements(OURS) if applies(r, "")]
    # NLE pins gymnasium, and does not work with another.
    needed += [r for r in requirements("nle") if applies(r, "")]
    if wrong := problems(needed):
        return broken(*wrong)
    return ok(", ".join(f"{name} {version(name)}" for name in SHOWN))


def extras(asked: Asked) -> Finding:
    """Check that the optional packages that are there have a version that works."""
    optional = [r for r in requirements(OURS) if not applies(r, "")]
    names = metadata(OURS).get_all("Provides-Extra") or []
    complete, wrong = [], []
    for extra in names:
        parts = [r for r in optional if applies(r, extra) and r.name != OURS]
        present = [r for r in parts if installed(r.name)]
        if len(present) == len(parts) > 0 and not problems(parts):
            complete.append(extra)
        elif present and extra != "dev":  # developers often have only some of these tools
            wrong.append((extra, problems(parts)))
    if wrong:
        texts = "; ".join(f"{extra}: {found[0]}" for extra, found in wrong if found)
        fixes = "; ".join(found[1] for _, found in wrong if found)
        return warning(texts, fixes)
    return ok(f"installed: {', '.join(complete) or 'none'} (of {', '.join(sorted(names))})")


def requirements(package: str) -> list[Requirement]:
    """Return an installed package's declared requirements, extras included."""
    return [Requirement(line) for line in requires(package) or ()]


def applies(requirement: Requirement, extra: str) -> bool:
    """True where a requirement applies here, with an extra or (``""``) without."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def installed(name: str) -> str | None:
    """Return a package's version, or None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def problems(needed: list[Requirement]) -> tuple[str, str] | None:
    """Name the packages that are missing or of a wrong version, and the command to mend that."""
    lines, fixes = [], []
    for requirement in needed:
        have, wanted = installed(requirement.name), requirement.specifier
        if have is None or not wanted.contains(have, prereleases=True):
            lines.append(f"{requirement.name} {have or 'is missing'}, needed {wanted or 'any'}")
            fixes.append(f"'{requirement.name}{wanted}'")
    return (", ".join(lines), f"pip install {' '.join(fixes)}") if lines else None
