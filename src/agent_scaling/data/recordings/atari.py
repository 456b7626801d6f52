"""Reader of recorded Atari games: replays the recorded actions to regenerate the frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from agent_scaling.data.recordings.base import BadGame, Discovery, Game, RawFrames, Skipped, Source
from agent_scaling.data.shards.layout import atari_layout
from agent_scaling.envs.atari import Atari, action_codes
from agent_scaling.envs.screens import SIDE
from agent_scaling.runtime.errors import InputError

RECORD, ACTIONS = "game.json", "actions.npy"


class AtariSource(Source):
    """Games that ``agent-scaling demonstrate game=atari`` recorded.

    An episode is a function of its options, seed and actions. Its recorded score is compared with
    the replayed one, to detect an ALE that plays differently from the recording one.
    """

    name = "atari"

    def discover(self, root: Path) -> Discovery:
        """Find games anywhere under ``root``; identity is ``<game>/<player>/<seed>``.

        Raises:
            InputError: The recordings are of different games or were played with different options.
        """
        games: dict[str, Game] = {}
        skipped: list[Skipped] = []
        options: dict[str, Any] | None = None
        for path in sorted(root.rglob(RECORD)):
            part = str(path.parent.relative_to(root))
            try:
                about = json.loads(path.read_text())
                player = Path(about["options"].pop("player")).stem
                mine, steps = about["options"], int(about["env_steps"])
                identity = f"{mine['env']}/{player}/{about['seed']:06d}"
                points = {"points": about["score"], "steps": steps, "seed": about["seed"]}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                skipped.append(Skipped(part, f"{RECORD} is no record of an Atari game ({error!r})"))
                continue
            options = mine if options is None else options
            if mine != options:
                raise InputError(f"input={root}: {part} was played with {mine}, others {options}")
            if identity in games:
                skipped.append(Skipped(part, f"same game as {games[identity].parts[0]}"))
                continue
            metadata = {"env": mine["env"], "player": player, **points}
            # Sizes are those of the regenerated frames; the recording itself has a byte per step.
            games[identity] = Game(identity, (part,), (steps * SIDE * SIDE,), 3, metadata)
        found = tuple(games[name] for name in sorted(games))
        if options is None:
            return Discovery(found, tuple(skipped))
        codes = action_codes(options["env"], options["full_actions"])
        return Discovery(found, tuple(skipped), atari_layout(codes, options))

    def decode(self, root: Path, game: Game, chunk_frames: int) -> Iterator[RawFrames]:
        """Yield the frame before each action.

        See :class:`agent_scaling.data.recordings.base.Source`.
        """
        folder = root / game.parts[0]
        options = json.loads((folder / RECORD).read_text())["options"]
        del options["player"]
        # np.load with mmap_mode refuses a header larger than the file before it allocates memory.
        codes = np.array(np.load(folder / ACTIONS, mmap_mode="r"))
        if len(codes) != game.metadata["steps"]:
            raise BadGame(f"{ACTIONS} has {len(codes)} actions, {RECORD} says otherwise")
        frame = np.empty((SIDE, SIDE), np.uint8)
        console = Atari({"frame": frame}, **options, max_episode_steps=len(codes) + 1)
        console.reset(int(game.metadata["seed"]))
        for begin in range(0, len(codes), chunk_frames):
            key = codes[begin : begin + chunk_frames]
            shown = np.empty((len(key), SIDE, SIDE), np.uint8)
            score = np.empty(len(key), np.int32)
            for t, code in enumerate(key.tolist()):
                shown[t], score[t] = frame, console.score
                console.step(console.actions.index(code))
            yield RawFrames({"frame": shown}, key, score)
        if console.score != game.metadata["points"]:
            raise BadGame(
                f"it scores {console.score} when it is played again, and scored "
                f"{game.metadata['points']}: it was recorded with another ALE"
            )

    def opening(self, game: Game, head: RawFrames) -> int:
        """Return 0: the frames before the first action are not recorded."""
        return 0

    def closing(self, game: Game, tail: RawFrames) -> int:
        """Return 0: the frame after the last action is not recorded."""
        return 0
