"""Masks passwords and tokens in records and output, and completes masked URLs again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

MASK = "***"
URLS = "AGENT_SCALING_URLS"
"""Environment variable: whole URLs, separated by spaces, of those that are on record masked. A
process that is given such a URL hands it to its children by this variable."""
STORE = "MLFLOW_TRACKING_URI"

USERINFO = re.compile(r"(?<=://)(?:[^/\s]*|[^/\s@:]*:(?!\d+(?:[/?#]|$))[^\s@]*)@")
"""The ``user:password@`` of a URL, also where the password contains ``@`` or ``/``."""
_WORDS = "sig|token|secret|passw|pwd|cred|key|auth|jwt|session|sas"
QUERY = re.compile(rf"([?&;#][\w.%-]*(?:{_WORDS})[\w.%-]*=)[^&;#\s'\"]+", re.IGNORECASE)
"""A credential in a query or a fragment: ``?sig=``, ``&X-Amz-Signature=``, ``#access_token=``."""
_NAMES = "password|passwd|secret|token|api_key|access_key|secret_key|access_token"
NAME = re.compile(rf"(?:.*[._-])?(?:{_NAMES})", re.IGNORECASE)
"""Keys of configs whose values are credentials."""
WORD = re.compile(rf"((?:^|[\s.'\"+])(?:\w*_)?(?:{_NAMES})=)[^\s'\"]+", re.IGNORECASE)
PAIR = re.compile(rf"(['\"](?:\w*_)?(?:{_NAMES})['\"]\s*:\s*['\"])[^'\"]+", re.IGNORECASE)
"""A credential in a printed dict or in JSON."""
HEADER = re.compile(r"(Authorization['\"]?\s*[:=]\s*['\"]?\w+\s+)[^\s'\"]+", re.IGNORECASE)


def mask(text: str) -> str:
    """Return ``text`` with ``***`` in the place of each credential."""
    if "://" in text:
        text = USERINFO.sub(f"{MASK}@", text)
    for pattern in (QUERY, WORD, PAIR, HEADER) if "=" in text or ":" in text else ():
        text = pattern.sub(rf"\g<1>{MASK}", text)
    return text


def masked(value: object, name: str = "") -> Any:
    """Return plain data with each text masked, and whole values under keys such as ``password``."""
    if isinstance(value, Mapping):
        return {key: masked(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [masked(item, name) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if not isinstance(value, str):
        return value
    return MASK if value and NAME.fullmatch(name) else mask(value)


def remember(url: str) -> None:
    """Hand a URL with credentials to this process's children, by their environment alone."""
    if "://" in url and mask(url) != url and url not in _known():
        os.environ[URLS] = f"{os.environ.get(URLS, '')} {url}".strip()


def complete(text: str) -> str:
    """Return the whole URL of a masked one, where the environment has it."""
    found = (url for url in _known() if mask(url) == text) if MASK in text else iter(())
    return next(found, text)


def _known() -> Iterable[str]:
    return [*os.environ.get(URLS, "").split(), *filter(None, [os.environ.get(STORE)])]
