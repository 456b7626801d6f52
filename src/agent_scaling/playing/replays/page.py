"""The HTML file of a replay: the parts that all families share, and the encoding of arrays."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from agent_scaling.playing.actor import TOP
from agent_scaling.playing.replays import Episode

SIXTEEN_BITS = 65535  # probabilities and entropies are stored in 16 bits


def page(view: str, episode: Episode, arrays: Mapping[str, npt.NDArray[Any]], **more: Any) -> bytes:
    """Return the file, which needs no other file.

    Args:
        view: Name of the part of the page that draws the screen: ``<view>.html`` here.
        episode: The episode to show.
        arrays: Arrays that the view reads, by name; ``score`` is among them.
        more: Other values that the view reads.
    """
    trace, count = episode.trace, len(episode.actions)
    most = float(np.log(count))
    common = {
        "action": trace["action"],
        "top": trace["top"],
        "probability": _sixteen_bits(trace["probability"]),
        "entropy": _sixteen_bits(trace["nats"] / most),
    }
    content = {
        "facts": episode.facts,
        "maxEntropy": most,
        "actions": episode.actions,
        "stride": TOP,
        "shown": min(TOP, count),
        "arrays": {name: packed(array) for name, array in {**arrays, **common}.items()},
        **more,
    }
    # "</" would end the script element, even within a string.
    text = json.dumps(content).replace("</", "<\\/")
    folder = files("agent_scaling.playing.replays")
    whole = folder.joinpath("page.html").read_text()
    whole = whole.replace("<!--VIEW-->", folder.joinpath(f"{view}.html").read_text(), 1)
    return whole.replace("/*CONTENT*/", text, 1).encode()


def packed(array: npt.NDArray[Any]) -> dict[str, str]:
    """Return the array's little-endian bytes, deflated, as text."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    data = base64.b64encode(zlib.compress(little.tobytes(), 9)).decode()
    return {"type": array.dtype.name, "data": data}


def unpack(value: Mapping[str, str]) -> npt.NDArray[Any]:
    """Return the array that :func:`packed` has packed, as the page's script does."""
    return np.frombuffer(zlib.decompress(base64.b64decode(value["data"])), value["type"])


def _sixteen_bits(fractions: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    scaled = fractions.astype(np.float64).clip(0, 1) * SIXTEEN_BITS
    return scaled.round().astype(np.uint16)
