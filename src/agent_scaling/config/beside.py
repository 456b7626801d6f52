"""The packages that lie beside this one: ``conf``, ``callbacks``, ``data_modules``.

Every Hydra project has a ``conf``, and many have the others. Ours are found by where this package
lies, not by what the path offers first; a user's packages of these names can be used beside them.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import extend_path
from types import ModuleType

from agent_scaling.runtime.errors import InputError

SHARED = ("callbacks", "data_modules")


@cache
def conf() -> Path:
    """Return our folder of configs."""
    return _root() / "conf"


def share_names() -> None:
    """Have ``callbacks`` and ``data_modules`` hold our modules first, then the user's.

    Raises:
        InputError: A user's module has been imported under the name of one of ours.
    """
    for name in SHARED:
        ours = _root() / name
        package = _imported(name, ours)
        known = [str(ours), *getattr(package, "__path__", ())]
        package.__path__ = list(dict.fromkeys(extend_path(known, name)))
        _check_hidden(name, ours)


def hidden(target: str) -> str:
    """Return a hint where a module of ours hides the user's that ``target`` may mean, else nothing.

    Args:
        target: An import path, such as ``callbacks.flops.Mine``.
    """
    name, _, rest = target.partition(".")
    own = f"{rest.partition('.')[0]}.py"
    if name not in SHARED or not (_root() / name / own).is_file():
        return ""
    places = (Path(place, name, own) for place in sys.path)
    theirs = [place for place in places if place.is_file() and not _is_ours(place)]
    return f"; {theirs[0]} is hidden by ours of this name: rename the file" if theirs else ""


def _is_ours(place: Path) -> bool:
    return place.resolve().is_relative_to(_root())


@cache
def _root() -> Path:
    """The folder that holds ours: the parent of this package, or of ``src`` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    around = (package.parent, package.parent.parent)
    found = (path for path in around if (path / "conf" / "train.yaml").is_file())
    try:
        return next(found)
    except StopIteration:
        raise InputError(
            f"{package}: the folders conf, callbacks and data_modules are not beside it: "
            "install the package again"
        ) from None


def _imported(name: str, ours: Path) -> ModuleType:
    """The package of that name, the user's where the path offers it first."""
    try:
        return import_module(name)
    except (
        Exception,
        SystemExit,
    ):  # a user's package that cannot be imported is none that is wanted
        spec = importlib.util.spec_from_file_location(name, ours / "__init__.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def _check_hidden(name: str, ours: Path) -> None:
    for file in ours.glob("[!_]*.py"):
        module = sys.modules.get(f"{name}.{file.stem}")
        theirs = getattr(module, "__file__", None)
        if theirs is not None and Path(theirs).resolve() != file:
            raise InputError(
                f"{theirs}: is imported as {name}.{file.stem}, which is a module of agent-scaling, "
                "too: rename the file"
            )
