"""Checks a config's values against the annotations of the classes and functions it names."""

from __future__ import annotations

import logging
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from inspect import Parameter, isclass, signature
from typing import Any, Self

from hydra.utils import get_object
from omegaconf import Container, DictConfig, MissingMandatoryValue, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError
from pydantic import (
    ConfigDict,
    ModelWrapValidatorHandler,
    PydanticSchemaGenerationError,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import ArgsKwargs, ErrorDetails, SchemaError

from agent_scaling.config.beside import hidden
from agent_scaling.config.command import item
from agent_scaling.config.mistakes import meant
from agent_scaling.runtime.errors import LONGEST, InputError
from agent_scaling.runtime.secrets import mask

OURS = ("agent_scaling.", "callbacks.", "data_modules.")
REST = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
HYDRAS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")
"""Keys of a node that Hydra itself reads."""
LAX = ConfigDict(arbitrary_types_allowed=True, coerce_numbers_to_str=True, allow_inf_nan=False)
OPTIONS = ConfigDict(coerce_numbers_to_str=True, extra="forbid", allow_inf_nan=False)
"""Config of the dataclasses that :class:`Options` is the base of."""
WORDINGS = {
    r"input should be a valid string": "input should be a text",
    r"input should be a valid dictionary": "input should be a mapping, {name: value}",
    r"input should be (?:an instance of Sequence|a valid (?:list|tuple))": (
        "input should be a list, [a,b]"
    ),
    r"'str' instances are not allowed as a Sequence value": "input should be a list, [a,b]",
}
"""Python's words in pydantic's messages, and those of a config."""


def check_values(cfg: DictConfig) -> None:
    """Check the values of each node that has a ``_target_`` against its annotations.

    A number or a truth value that was given as text becomes one, and a number becomes a text where
    a text is asked for, such as a folder named ``5``. Nodes whose target is not this
    project's, and values that are missing or cannot be resolved, are not checked.

    Raises:
        InputError: A value has another type, or is none of the allowed ones.
    """
    for path, node in targets(cfg):
        for key, hint in hints_of(located(path, node)).items():
            try:
                value = node.get(key)
                if isinstance(value, Container):
                    value = OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
            except (InterpolationResolutionError, MissingMandatoryValue):
                continue
            made = isinstance(value, dict) and (hint is DictConfig or "_target_" in value)
            if key in node and not made:
                fitting = checked(f"{path}{key}", value, hint)
                if isinstance(value, str) != isinstance(fitting, str) and (
                    isinstance(value, str | int | float) and isinstance(fitting, str | int | float)
                ):
                    with open_dict(node):
                        node[key] = fitting


def check_keys(cfg: DictConfig) -> None:
    """Check the keys of each node that has a ``_target_`` against the target's arguments.

    Raises:
        InputError: The target has no such argument.
    """
    for path, node in targets(cfg):
        found = located(path, node)
        taken = [*signature(found).parameters, *hints_of(found)]
        for key in map(str, () if takes_any(found) else node):
            if key not in (*taken, *HYDRAS):
                raise InputError(f"{path}{key}: no such key{meant(key, taken)}")


def located(path: str, node: DictConfig) -> Callable[..., object]:
    """Return what a node's ``_target_`` names; raises :class:`InputError` where there is none."""
    target, log = str(node["_target_"]), logging.getLogger("hydra.utils")
    try:
        log.disabled = True  # it would say the same in four lines
        found: Callable[..., object] = get_object(target)
        return found
    except Exception as error:
        causes = (str(cause) for cause in (error.__cause__, error) if cause is not None)
        raise InputError(
            f"{path}_target_={target}: cannot be imported ({next(causes)}){hidden(target)}"
        ) from error
    finally:
        log.disabled = False


def checked(key: str, value: object, hint: Any) -> object:
    """Return ``value`` as ``hint`` has it; raise :class:`InputError` where it does not fit."""
    try:
        adapter = TypeAdapter(hint, config=None if is_own(hint) else LAX)
    except (PydanticSchemaGenerationError, SchemaError):
        return value  # such an annotation checks nothing, for instance a protocol
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        named = [_within(key, value, found["loc"]) for found in errors]
        same = (found for found, name in zip(errors, named, strict=True) if name == named[0])
        raise InputError(f"{as_typed(*named[0])}: {wanted(same)}") from None


def _within(key: str, value: object, place: tuple[int | str, ...]) -> tuple[str, object]:
    """Return the key and the value at a place in a mapping: ``measured.loss`` of ``measured``."""
    for part in place:
        if not isinstance(value, Mapping) or part not in value:
            break
        key, value = f"{key}.{part}", value[part]
    return key, value


def as_typed(key: str, value: object) -> str:
    """Return ``key=value`` for a message: ``output=null``, ``data.lanes=[1,2]``."""
    return f"{key}={value if isinstance(value, str) else item(value)}"


def wanted(errors: Iterable[ErrorDetails]) -> str:
    """Return in one line what pydantic asks of a value: ``input should be a valid integer``."""
    asked = []
    for error in errors:
        text = error["msg"][0].lower() + error["msg"][1:]
        for wording, ours in WORDINGS.items():
            text = re.sub(wording, ours, text)
        asked.append(text)
    return " or ".join(dict.fromkeys(asked))


def first_fault(error: ValidationError) -> str:
    """Return in one line where the first fault of a file's content is, and what is asked there."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    at = ".".join(map(str, first["loc"]))
    return mask(" ".join(f"{at + ': ' if at else ''}{first['msg']}".split()))[:LONGEST]


class Options:
    """Base of pydantic dataclasses that hold a verb's options.

    Raises:
        InputError: A value is of another type or out of its range, or there is no such option.
    """

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_line(cls, given: ArgsKwargs, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(given)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            key = errors[0]["loc"][0]
            said = wanted(found for found in errors if found["loc"][0] == key)
            value = (given.kwargs or {}).get(str(key))
            raise InputError(f"{as_typed(str(key), value)}: {said}") from None


def is_own(hint: object) -> bool:
    """True where pydantic reads the type's own config and accepts no other."""
    return isclass(hint) and hasattr(hint, "__pydantic_config__")


def targets(cfg: object, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Yield (``policy.encoder.``, node) of each node that names a target of this project."""
    if not isinstance(cfg, DictConfig):
        return
    if str(cfg.get("_target_", "")).startswith(OURS):
        yield path, cfg
    for key in map(str, cfg):
        if not (OmegaConf.is_missing(cfg, key) or OmegaConf.is_interpolation(cfg, key)):
            yield from targets(cfg[key], f"{path}{key}.")


def missing_keys(cfg: DictConfig, path: str = "") -> list[str]:
    """Return the keys without a value, in their order: ``flops_budget``, ``data.shards``."""
    found = []
    for key in map(str, cfg):
        if OmegaConf.is_missing(cfg, key) and not OmegaConf.is_interpolation(cfg, key):
            found.append(f"{path}{key}")
        elif not OmegaConf.is_interpolation(cfg, key) and isinstance(cfg[key], DictConfig):
            found += missing_keys(cfg[key], f"{path}{key}.")
    return found


@cache
def hints_of(found: Callable[..., object]) -> dict[str, Any]:
    """Parameter → annotation of a class or function, the keys of a ``**config: Unpack[Keys]``
    among them; nothing where one cannot be resolved at run time, because it is imported for type
    checkers alone."""
    try:
        called = found.__init__ if isclass(found) else found
        hints = typing.get_type_hints(called, include_extras=True)
    except NameError:
        return {}
    hinted: dict[str, Any] = {}
    for parameter in signature(found).parameters.values():
        hint = hints.get(parameter.name)
        if typing.get_origin(hint) is typing.Unpack:
            hinted |= typing.get_type_hints(typing.get_args(hint)[0], include_extras=True)
        elif parameter.name in hints and parameter.kind not in REST:
            hinted[parameter.name] = hint
    return hinted


def takes_any(found: Callable[..., object]) -> bool:
    """True where a class or function has ``**kwargs``."""
    kinds = {parameter.kind: parameter for parameter in signature(found).parameters.values()}
    rest = kinds.get(Parameter.VAR_KEYWORD)
    return rest is not None and "Unpack" not in str(rest.annotation)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested keys: ``{"a": {"b": 1}}`` → ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat
