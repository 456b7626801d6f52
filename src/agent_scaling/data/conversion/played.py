"""Versions of the programs that played the recorded games, for the manifest."""

from __future__ import annotations

import re
from collections.abc import Iterable

from agent_scaling.data.shards.layout import Layout
from agent_scaling.data.shards.manifest import ShardIndex
from agent_scaling.envs.versions import installed_versions

NUMBER = re.compile(r"\d+(\.\d+)+")


def played_versions(layout: Layout, source: str, indexes: Iterable[ShardIndex]) -> dict[str, str]:
    """Return the versions by which the shards' frames came about, as far as they are known.

    NetHack's are those of the recordings' xlogfiles (several with commas), nle's is that which
    decodes them here. Atari's frames are played here (``source=atari``), or by others (Minari).
    """
    if layout.game == "nethack":
        games = (game for index in indexes for game in index.games)
        said = {str(game.metadata.get("version", "")) for game in games}
        known = ", ".join(sorted(text for text in said if NUMBER.fullmatch(text)))
        here = {name: v for name, v in installed_versions("nethack").items() if name == "nle"}
        return {"nethack": known, **here} if known else here
    return installed_versions("atari") if source == "atari" else {}
