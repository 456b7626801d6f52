"""Masks passwords and tokens in records and output, and completes masked URLs again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

MASK = "***"
URLS = "AGENT_SCALING_URLS"
"""Environment variable: whole URLs, separated by spaces, of those that are on record masked. A
process that is given such a URL hands it to its children by this variable."""
STORE = "MLFLOW_TRACKING_URI"

USERINFO = re.compile(
    r"(?P<kept>(?<!\w)(?P<scheme>[a-z][\w+.-]*)://)(?P<value>[^/\s\[]{0,2000}|"
    r"[^/\s@:\[]{0,300}:(?!\d+(?:[/?#]|$))(?:[^\s@]{0,2000}|[^\n@'\"]{0,200}))@(?:[^/\s]*@)?",
    re.I,
)
"""The ``user:password@`` of a URL, also where the password contains ``@``, ``/`` or spaces."""
CONTAINERS = ("abfs", "abfss", "wasb", "wasbs")
"""Schemes of Azure, whose ``container@account`` has no credential."""
_SCHEMES = "https?|s3a?|gc?s|abfss?|wasbs?|ftp|(?:postgres|mysql|mssql|oracle)[\\w+]*"
MISTYPED = re.compile(
    rf"(?P<kept>(?<![\w/])(?:{_SCHEMES})"
    r"(?::/|:?///*|:\\+)(?<!\w://))(?P<value>[^\s@:/\\]*:[^\s@]+)@",
    re.I,
)
"""The same behind ``http:/``, ``http//`` or ``http:///``, which are no URLs."""
BARE = re.compile(
    r"(?P<kept>)(?<![\w/.@%+~-])(?P<value>[\w.%+~-]{1,100}:(?!//|\d+[/?#])[^\s@'\"]{1,200})@"
    r"(?:[^/\s@'\"]{0,100}@){0,9}(?=[\w\[])"
)
"""``user:password@host`` without a scheme; behind a slash it is the name of a file."""
_URL = rf"(?<!\w)(?:(?!file|sqlite)[a-z][\w+.-]*://|(?:{_SCHEMES}):/)"
_LINE = r"(?:\burl: |\b(?:GET|HEAD|POST|PUT) )"
"""Stands before a URL's path in an error's or a server's line."""
PATH = re.compile(rf"(?P<kept>{_URL}[^/\s?#'\"]*|{_LINE})(?P<path>/[^\s?#'\"]*)", re.I)
TELLING = re.compile(
    r"sig(?:nature)?|(?:pre-?)?signed|(?:(?:api|access)[_-]?)?token|(?:api|access)[_-]?key|sas|"
    r"secrets?|jwt|password",
    re.I,
)
"""Parts of a URL's path behind which a credential stands."""
HOOKS = re.compile(r"(?:web)?hooks|services", re.I)
"""Parts behind which all others are one."""
SHARED = re.compile(r"s|d|dl|share|shared", re.I)
"""Parts behind which a token may stand, or a name."""
DRAWN = re.compile(r"(?=.*[a-z].*[A-Z\d]|.*[A-Z\d].*[a-z])[A-Za-z\d]{12,}|(?=.*\d)[\w~=-]{32,}")
"""A token, which nobody has chosen: no word, and no number."""
KNOWN = re.compile(
    r"(?<![\w-])(?P<kept>)(?:eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|gh[opsur]_\w{20,}|github_pat_\w{20,}"
    r"|glpat-[\w-]{20,}|hf_[A-Za-z]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16}|xox[abeoprs]-[\w-]{10,}"
    r"|sk-[\w-]{20,}|dapi[0-9a-f]{32}|AIza[\w-]{35}|bot\d{6,}:[\w-]{30,})(?![\w-])"
)
"""Tokens that their own form tells: JWT, GitHub, GitLab, Hugging Face, AWS, Slack, Databricks …"""


def _value(ends: str) -> str:
    """Return a pattern of a quoted text, or of one that a space, a quote or ``ends`` ends."""
    return rf"(?!['\"]?\*\*\*)(?:(?P<quote>['\"])(?:(?!(?P=quote)).)+(?P=quote)|[^\s'\"{ends}]+)"


QUERY = re.compile(
    rf"(?P<url>(?:{_URL}|{_LINE}/)[^\s?#'\"]{{0,2000}}\?)"
    r"(?P<query>(?:\"[^\"]*\"|'[^']*'|[^\s#'\"])+)",
    re.I,
)
"""A URL with a query, in which a credential may stand behind any name."""
PART = re.compile(r"(?:\"[^\"]*\"|'[^']*'|[^&;'\"])+")
HARMLESS = re.compile(
    r"(?:ssl)?mode|ssl|uri|cache|vfs|immutable|nolock|(?:connect_)?timeout|charset|driver|"
    r"application_name|user(?:name)?|host|port|dbname|version(?:id)?|page(?:_token)?|region|scheme|prefix|delimiter|format|"
    r"(?:experiment|run)_(?:uu)?id|experiment_name|path|download|raw|ref",
    re.I,
)
"""Names in a query that no credential stands behind."""
PLAIN = re.compile(r"true|false|yes|no|on|off|\d{1,5}|\*\*\*", re.I)
"""Values in a query that are no credentials."""
_WORDS = "sig|token|secret|passw|pwd|cred|key|auth|jwt|session|sas"
FRAGMENT = re.compile(rf"(?P<kept>[?&;#][\w.%-]*(?:{_WORDS})[\w.%-]*=){_value('&;#')}", re.I)
"""A credential in a fragment, or behind the ``?`` of what is no URL: ``#access_token=``."""
_NAMES = (
    "password|passwd|passphrase|pwd|secret|token|bearer|jwt|sas|credentials?|"
    "(?:api|access|secret|account|private|shared_?access)[_-]?key|access_?token|"
    "shared_?access_?signature|connection_string|webhook(?:_url)?"
)
NAME = re.compile(rf"(?:.*[._-])?(?:{_NAMES}|authorization|cookie)", re.I)
"""Keys of configs whose values are credentials."""
WORD = re.compile(rf"(?P<kept>(?:^|[\s.'\"+;,?&])(?:\w*_)?(?:{_NAMES})=){_value(';')}", re.I | re.M)
PAIR = re.compile(
    rf"(?P<kept>(?<![\w./-])(?P<mark>['\"]?)(?:\w*[_-])?(?:{_NAMES})(?P=mark)\s*:(?!//)[ \t]*)"
    rf"(?!null\b){_value(',}')}",
    re.I | re.M,
)
"""A credential in a printed dict, in JSON, in YAML or in a header."""
HEADER = re.compile(r"(?P<kept>\b(?:Authorization|Cookie)['\"]?\s*[:=]\s*['\"]?)[^\n'\"]+", re.I)


def mask(text: str) -> str:
    """Return ``text`` with ``***`` in the place of each credential."""
    if "@" in text:
        text = BARE.sub(_user, MISTYPED.sub(_user, USERINFO.sub(_user, text)))
    if "/" in text:
        text = PATH.sub(_path, text)
    if "?" in text:
        text = QUERY.sub(_query, text)
    for pattern in (HEADER, FRAGMENT, WORD, PAIR) if "=" in text or ":" in text else ():
        text = pattern.sub(_without, text)
    return KNOWN.sub(_without, text)


def _user(found: re.Match[str]) -> str:
    container = found.groupdict().get("scheme", "").lower() in CONTAINERS
    return found[0] if container and ":" not in found["value"] else f"{found['kept']}{MASK}@"


def _path(found: re.Match[str]) -> str:
    """Mask the parts of a URL's path that stand behind one which says what they are."""
    parts = found["path"].split("/")
    for number, (before, part) in enumerate(pairwise(parts), start=1):
        if HOOKS.fullmatch(before) and "hook" in found[0].lower():
            return "/".join([found["kept"] + parts[0], *parts[1:number], MASK])
        drawn = SHARED.fullmatch(before) and DRAWN.fullmatch(part)
        if part and (TELLING.fullmatch(before) or drawn):
            parts[number] = MASK
    return found["kept"] + "/".join(parts)


def _query(found: re.Match[str]) -> str:
    """Mask the values of a query, but for those that are none of a credential."""

    def part(found: re.Match[str]) -> str:
        name, sign, value = found[0].partition("=")
        if not (value.strip("=") or HARMLESS.fullmatch(name)):  # a token alone, in base64
            name, sign, value = "", "", found[0]
        plain = value.strip("'\"")
        if not plain or HARMLESS.fullmatch(name) or PLAIN.fullmatch(value) or plain == MASK:
            return found[0]
        quote = value[0] if value[0] in "'\"" else ""
        return f"{name}{sign}{quote}{MASK}{quote}"

    return found["url"] + PART.sub(part, found["query"])


def _without(found: re.Match[str]) -> str:
    """Return what was found with a mask in the place of its value, in the value's quotes."""
    quote = found.groupdict().get("quote") or ""
    return f"{found['kept']}{quote}{MASK}{quote}"


def masked(value: object, name: str = "") -> Any:
    """Return plain data with each text masked, and whole values under keys such as ``password``."""
    told = name if NAME.fullmatch(name) else ""
    if isinstance(value, Mapping):
        return {
            mask(key) if isinstance(key, str) else key: masked(item, told or str(key))
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        items = [masked(item, name) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if told and value not in (None, "") and not isinstance(value, bool):
        return value if str(value).startswith("${") else MASK  # a reference is no credential
    return mask(value) if isinstance(value, str) else value


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
