"""Reader of Minari data sets of Atari games: converts their screens to our game's frames."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from agent_scaling.data.recordings.base import BadGame, Discovery, Game, RawFrames, Skipped, Source
from agent_scaling.data.recordings.hdf5 import MOST_ITEM_BYTES, array_in, group_in, list_in, pieces
from agent_scaling.data.shards.layout import atari_layout
from agent_scaling.envs.atari import action_codes
from agent_scaling.envs.rules import game_from_file
from agent_scaling.envs.screens import SIDE
from agent_scaling.runtime.errors import InputError, error_line, reading

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

INSTALL = "pip install 'agent-scaling[minari]'"
METADATA, EPISODES = "metadata.json", "main_data.hdf5"
SMALLEST_SCREEN, LARGEST_STACK = 32, 16
"""Fewest rows or columns of a screen, and most frames of a stack; they tell the axes apart."""

NOT_RAW = re.compile(r"Reward|Life|Lives|AtariWrapper|StickyAction")
"""Names of wrappers whose rewards are not the game's score, whose episodes are not games, or whose
actions are not the player's."""
STEPWISE = ("rewards", "actions", "terminations", "truncations")
"""Data sets of an episode with one number for each step."""
MOST_POINTS = 2**31
"""Scores are kept as int32."""


@dataclass(frozen=True)
class Facts:
    """Facts that hold for all episodes of a data set."""

    identity: str
    player: str
    options: dict[str, Any]
    """Keyword arguments of :class:`~agent_scaling.envs.atari.Atari`."""
    codes: tuple[int, ...]
    """ALE's code of each action."""


class MinariSource(Source):
    """Episodes of a local Minari data set, given by its folder or by the id of the download.

    A data set keeps the observations of the agent's environment, usually RGB screens as JPEG. The
    converted frames are therefore close to the game's own, not equal. The newest frame of a stack
    is used.
    """

    name = "minari"

    def locate(self, input: str) -> Path:
        """Return the folder with ``metadata.json`` of the path or data set's id ``input``."""
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
        """Find all episodes; identity is ``<data set>/<number>``.

        Raises:
            InputError: The data set is not of an Atari game, or its observations are not screens.
        """
        facts, found, skipped = _facts(root), [], []
        with _episodes(root) as file:
            for number in range(len(file)):
                part = f"episode_{number}"
                try:
                    metadata = _metadata(group_in(file, part), facts)
                except Exception as error:  # HDF5's library raises any at damaged bytes
                    skipped.append(Skipped(part, error_line(error)))
                    continue
                size = int(metadata["steps"]) * SIDE * SIDE  # of the converted frames
                identity = f"{facts.identity}/{number:06d}"
                found.append(Game(identity, (part,), (size,), 3, metadata))
        return Discovery(tuple(found), tuple(skipped), atari_layout(facts.codes, facts.options))

    def decode(self, root: Path, game: Game, chunk_frames: int) -> Iterator[RawFrames]:
        """Yield the screen before each action.

        See :class:`agent_scaling.data.recordings.base.Source`.
        """
        codes = np.array(_facts(root).codes, np.uint8)
        with _episodes(root) as file:
            episode = group_in(file, game.parts[0])
            action, seen = list_in(episode, "actions")[:], array_in(episode, "observations")
            if len(seen) < len(action) or not 0 <= action.min() <= action.max() < len(codes):
                raise BadGame("it has fewer screens than actions, or actions that the game lacks")
            gained = np.cumsum(list_in(episode, "rewards")[:]).astype(np.int32)
            score = np.concatenate([[0], gained[:-1]]).astype(np.int32)
            for begin in range(0, len(action), chunk_frames):
                part = slice(begin, min(begin + chunk_frames, len(action)))
                stored = pieces(seen, part.start, part.stop)
                shown = np.stack([to_frame(s) for piece in stored for s in _decoded(piece)])
                yield RawFrames({"frame": shown}, codes[action[part]], score[part])

    def opening(self, game: Game, head: RawFrames) -> int:
        """Return 0: the player answered every screen."""
        return 0

    def closing(self, game: Game, tail: RawFrames) -> int:
        """Return 0: ``decode`` leaves out the screen after the last action."""
        return 0


def to_frame(seen: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Convert an observation to a grey frame [84, 84], averaged down as in ``envs.atari``.

    ``seen`` is a grey screen [rows, columns], an RGB screen [rows, columns, 3], or a stack of grey
    screens on the first or the last axis, the newest last. Raises ValueError for other shapes.
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
    frame = cv2.resize(np.ascontiguousarray(grey), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(frame, np.uint8)


def _library() -> Any:
    try:
        import h5py  # noqa: F401
        import minari
    except ImportError:
        raise InputError(f"source=minari needs Minari: {INSTALL}") from None
    return minari


def _episodes(root: Path) -> Any:
    """Open the HDF5 file of a data set's episodes."""
    import h5py

    if (root / EPISODES).exists() and not (root / EPISODES).is_file():
        raise InputError(f"{root / EPISODES}: is no file: download it again")
    try:
        return h5py.File(root / EPISODES, "r")
    except OSError as error:
        raise InputError(
            f"{root / EPISODES}: cannot be read ({error}): download it again"
        ) from None


@cache
def _facts(root: Path) -> Facts:
    """Read the metadata; raises :class:`InputError` for data other than an Atari game's screens."""
    with reading(f"input={root}", "download it again"):
        return _read_facts(root)


def _read_facts(root: Path) -> Facts:
    minari = _library()
    try:
        metadata = minari.dataset.minari_storage.MinariStorage.read_raw_metadata(root)
        for name in ("observation_space", "action_space"):
            if name not in metadata:  # Minari would run the environment to infer the space
                raise ValueError(f"it does not say its {name}")
            _check_shapes(json.loads(metadata[name]))
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


def _check_shapes(space: object) -> None:
    """Raise ValueError for a space whose arrays, which Minari makes, are larger than a screen."""
    inner = list(space.values()) if isinstance(space, dict) else space
    if isinstance(space, dict) and prod(space.get("shape") or ()) > MOST_ITEM_BYTES:
        raise ValueError(f"it declares the shape {space['shape']}")
    for part in inner if isinstance(inner, list) else ():
        if isinstance(part, dict | list):
            _check_shapes(part)


def _options(spec: EnvSpec | None, where: str) -> dict[str, Any]:
    """Translate the environment's protocol to the arguments of our Atari game."""
    kwargs = dict(spec.kwargs) if spec is not None else {}
    if spec is None or "game" not in kwargs:
        raise InputError(f"{where}: was not recorded on an Atari environment of ALE (env_spec)")
    skips, noop_max = [kwargs.get("frameskip", 4)], 0
    for wrapper in spec.additional_wrappers:
        given = wrapper.kwargs or {}
        if NOT_RAW.search(wrapper.name) or given.get("terminal_on_life_loss"):
            raise InputError(
                f"{where}: was recorded under {wrapper.name} (env_spec), which changes scores or "
                "cuts games at a life: record without it"
            )
        if wrapper.name == "AtariPreprocessing" and wrapper.kwargs is not None:
            skips.append(given["frame_skip"])
            noop_max = given["noop_max"]
        if wrapper.name.startswith("MaxAndSkip"):
            skips.append(given.get("skip", 4))  # 4 in gymnasium and in Stable-Baselines3
    unlike = {name: kwargs.get(name) for name in ("mode", "difficulty") if kwargs.get(name)}
    if unlike or not all(type(skip) is int for skip in skips):
        raise InputError(
            f"{where}: frameskip={skips[0]} {unlike or ''}: our game skips a fixed number of "
            "frames, in the default mode"
        )
    options = {
        "env": kwargs["game"],
        "frame_skip": int(np.prod(skips)),
        "sticky": float(kwargs.get("repeat_action_probability", 0.25)),
        "noop_max": noop_max,
        "full_actions": bool(kwargs.get("full_action_space", False)),
    }
    return dict(game_from_file({"family": "atari", "options": options}, where).options)


def _metadata(episode: Mapping[str, npt.NDArray[Any]], facts: Facts) -> dict[str, str | int]:
    """Return one episode's metadata.

    Raises :class:`BadGame` for an episode that is empty or whose rewards are not whole numbers.
    """
    columns = {name: list_in(episode, name) for name in STEPWISE}
    if len({len(column) for column in columns.values()}) > 1:
        raise BadGame(f"its {', '.join(STEPWISE)} are not of one length")
    reward = columns["rewards"][:]
    if not len(reward):
        raise BadGame("it has no steps")
    if (reward != np.rint(reward)).any() or np.abs(np.cumsum(reward)).max() >= MOST_POINTS:
        raise BadGame("its rewards are not whole numbers, so they are not the game's score")
    if columns["actions"].dtype.kind not in "iu":
        raise BadGame("its actions are not whole numbers")
    array_in(episode, "observations")
    over, cap = (bool(columns[name][-1]) for name in ("terminations", "truncations"))
    return {
        "env": facts.options["env"],
        "player": facts.player,
        "points": int(reward.sum()),
        "steps": len(reward),
        "end": "over" if over else "cap" if cap else "cut",
    }


def _decoded(stored: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the screens of a slice [n, …].

    JPEGs of equal length are stored as [n, bytes], others as [n] arrays of bytes.
    """
    for screen in stored:
        if stored.ndim > 2:
            yield screen
        else:
            # Alone these: Pillow has another program read EPS.
            picture = Image.open(BytesIO(screen.tobytes()), formats=("JPEG", "PNG"))
            if 3 * picture.width * picture.height > MOST_ITEM_BYTES:
                raise BadGame(f"a screen of it has {picture.width} x {picture.height} points")
            yield np.array(picture, np.uint8)
