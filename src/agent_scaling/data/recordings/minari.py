"""Minari's data sets of Atari games: the screens that they hold → frames as our game shows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from agent_scaling.data.recordings.base import BadGame, Discovery, Game, RawFrames, Skipped, Source
from agent_scaling.data.shards.layout import atari_layout
from agent_scaling.envs.atari import action_codes
from agent_scaling.envs.screens import SIDE
from agent_scaling.runtime.errors import InputError

INSTALL = "pip install 'agent-scaling[minari]'"
METADATA, EPISODES = "metadata.json", "main_data.hdf5"
SMALLEST_SCREEN, LARGEST_STACK = 32, 16
"""Rows and columns of a screen, and frames of a stack: how the axes are told apart."""


@dataclass(frozen=True)
class Facts:
    """What a data set says of all its episodes."""

    identity: str
    player: str
    options: dict[str, Any]
    """Of :class:`~agent_scaling.envs.atari.Atari`."""
    codes: tuple[int, ...]
    """ALE's code of each action."""


class MinariSource(Source):
    """Episodes of a local Minari data set, by its folder or by the id it was downloaded as.

    A data set keeps what the agent's environment showed, usually RGB and as JPEG: frames are close
    to those of the game, not equal. Of stacked frames, the newest is taken.
    """

    name = "minari"

    def locate(self, input: str) -> Path:
        """The folder with ``metadata.json``, of a path or of a data set's id."""
        _library()
        from minari.storage import get_dataset_path

        for root in (Path(input), Path(get_dataset_path(input))):
            for folder in (root, root / "data"):
                if (folder / METADATA).is_file():
                    return folder
        raise InputError(
            f"input={input}: no Minari data set, neither a folder nor downloaded: "
            f"minari download {input}"
        )

    def discover(self, root: Path) -> Discovery:
        """All episodes; identity is ``<data set>/<number>``.

        Raises:
            InputError: It is of no Atari game, or shows something else than the screen.
        """
        facts, found, skipped = _facts(root), [], []
        with _episodes(root) as file:
            for number in range(len(file)):
                part = f"episode_{number}"
                try:
                    metadata = _metadata(file[part], facts)
                except (KeyError, OSError, BadGame) as error:
                    skipped.append(Skipped(part, str(error)))
                    continue
                size = int(metadata["steps"]) * SIDE * SIDE  # as the frames that they become
                identity = f"{facts.identity}/{number:06d}"
                found.append(Game(identity, (part,), (size,), 3, metadata))
        return Discovery(tuple(found), tuple(skipped), atari_layout(facts.codes, facts.options))

    def decode(self, root: Path, game: Game, chunk_frames: int) -> Iterator[RawFrames]:
        """Each screen before an action; see :class:`agent_scaling.data.recordings.base.Source`."""
        codes = np.array(_facts(root).codes, np.uint8)
        with _episodes(root) as file:
            episode = file[game.parts[0]]
            action, seen = episode["actions"][:], episode["observations"]
            if len(seen) < len(action) or not 0 <= action.min() <= action.max() < len(codes):
                raise BadGame("it has fewer screens than actions, or actions that the game has not")
            gained = np.cumsum(episode["rewards"][:]).astype(np.int32)
            score = np.concatenate([[0], gained[:-1]]).astype(np.int32)
            for begin in range(0, len(action), chunk_frames):
                part = slice(begin, min(begin + chunk_frames, len(action)))
                shown = np.stack([to_frame(screen) for screen in _decoded(seen[part])])
                yield RawFrames({"frame": shown}, codes[action[part]], score[part])

    def opening(self, game: Game, head: RawFrames) -> int:
        """None: each screen was answered."""
        return 0

    def closing(self, game: Game, tail: RawFrames) -> int:
        """None: the screen after the last action is left out."""
        return 0


def to_frame(seen: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """What an environment showed → grey [84, 84], averaged down as in ``envs.atari``.

    ``seen``: [rows, columns], RGB [rows, columns, 3], or a stack of grey ones with its newest last,
    on the first or the last axis. Raises ValueError for other shapes.
    """
    grey: npt.NDArray[Any]
    match seen.shape:
        case (h, w) if min(h, w) >= SMALLEST_SCREEN:
            grey = seen
        case (h, w, 3) if min(h, w) >= SMALLEST_SCREEN:
            grey = cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY)  # equals ALE's own grey
        case (h, w, k) if min(h, w) >= SMALLEST_SCREEN and k <= LARGEST_STACK:
            grey = seen[..., -1]
        case (k, h, w) if min(h, w) >= SMALLEST_SCREEN and k <= LARGEST_STACK and k != 3:
            grey = seen[-1]
        case shape:
            raise ValueError(f"{shape} is no screen, RGB or grey, nor a stack of grey ones")
    return cv2.resize(np.ascontiguousarray(grey), (SIDE, SIDE), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _library() -> Any:
    try:
        import h5py  # noqa: F401
        import minari
    except ImportError:
        raise InputError(f"source=minari needs Minari: {INSTALL}") from None
    return minari


def _episodes(root: Path) -> Any:
    """The open file of a data set's episodes."""
    import h5py

    try:
        return h5py.File(root / EPISODES, "r")
    except OSError as error:
        raise InputError(
            f"{root / EPISODES}: cannot be read ({error}): download it again"
        ) from None


@cache
def _facts(root: Path) -> Facts:
    """What the metadata say; raises :class:`InputError` where that is no Atari game's screens."""
    minari = _library()
    try:
        metadata = minari.dataset.minari_storage.MinariStorage.read_raw_metadata(root)
        for name in ("observation_space", "action_space"):
            if name not in metadata:  # Minari would run the environment to learn it
                raise ValueError(f"it does not say its {name}")
        data = minari.MinariDataset(root)
    except (ValueError, KeyError, AssertionError, NotImplementedError, OSError) as error:
        raise InputError(f"input={root}: not a Minari data set ({error})") from error
    where = f"input={root} ({data.id})"
    if metadata["data_format"] != "hdf5":
        raise InputError(f"{where}: data_format={metadata['data_format']}: only hdf5 is read")
    space = data.observation_space
    try:
        if space.dtype != np.uint8:
            raise ValueError(f"{space} is not uint8")
        to_frame(np.zeros(space.shape, np.uint8))
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: its observations are not Atari's screen: {error}") from None
    options = _options(data.env_spec, where)
    codes = action_codes(options["env"], options["full_actions"])
    if getattr(data.action_space, "n", None) != len(codes):
        raise InputError(
            f"{where}: its actions are {data.action_space}, the game has {len(codes)}: "
            "wrappers that change the actions cannot be undone"
        )
    return Facts(data.id, metadata.get("algorithm_name", "unknown"), options, codes)


def _options(spec: Any, where: str) -> dict[str, Any]:
    """The environment's protocol in our game's words."""
    kwargs = dict(spec.kwargs) if spec else {}
    if "game" not in kwargs:
        raise InputError(f"{where}: was not recorded on an Atari environment of ALE (env_spec)")
    skips, noop_max = [kwargs.get("frameskip", 4)], 0
    for wrapper in spec.additional_wrappers:
        if wrapper.name == "AtariPreprocessing":
            skips.append(wrapper.kwargs["frame_skip"])
            noop_max = wrapper.kwargs["noop_max"]
    unlike = {name: kwargs.get(name) for name in ("mode", "difficulty") if kwargs.get(name)}
    if unlike or not all(isinstance(skip, int) for skip in skips):
        raise InputError(
            f"{where}: frameskip={skips[0]} {unlike or ''}: our game skips a fixed number of "
            "frames, in the default mode"
        )
    return {
        "env": kwargs["game"],
        "frame_skip": int(np.prod(skips)),
        "sticky": float(kwargs.get("repeat_action_probability", 0.25)),
        "noop_max": noop_max,
        "full_actions": bool(kwargs.get("full_action_space", False)),
    }


def _metadata(episode: Any, facts: Facts) -> dict[str, str | int]:
    """Of one episode; raises :class:`BadGame` where it is empty or its rewards are no score."""
    reward = episode["rewards"][:]
    if not len(reward):
        raise BadGame("it has no steps")
    if (reward != np.rint(reward)).any():
        raise BadGame("its rewards are not whole numbers, so that they are not the game's score")
    over, cap = bool(episode["terminations"][-1]), bool(episode["truncations"][-1])
    return {
        "env": facts.options["env"],
        "player": facts.player,
        "points": int(reward.sum()),
        "steps": len(reward),
        "end": "over" if over else "cap" if cap else "cut",
    }


def _decoded(stored: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.uint8]]:
    """Screens of a slice [n, …]; a JPEG's bytes are one axis, or none where lengths differ."""
    for screen in stored:
        if stored.ndim > 2:
            yield screen
        else:
            yield np.array(Image.open(BytesIO(screen.tobytes())), np.uint8)
