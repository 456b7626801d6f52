"""The LightningDataModule of shards, whose position is (seed, step)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast, get_args

from agent_scaling.data.batch import Batch
from agent_scaling.data.run_data import RecordedData
from agent_scaling.data.shards.opening import open_storage
from agent_scaling.data.shards.reader import OnCorrupt, ShardReader
from agent_scaling.data.shards.storage import CACHE_DIR, CACHE_GB, PATIENCE_MINUTES
from agent_scaling.data.windows.growth import Growing, Growth
from agent_scaling.data.windows.loader import WindowLoader
from agent_scaling.data.windows.order import (
    PADDING,
    EvalLanes,
    JudgedLanes,
    TrainLanes,
    rank_lanes,
)
from agent_scaling.data.windows.overlap import Judged, Overlapping
from agent_scaling.envs.families import Description
from agent_scaling.envs.rules import game_from_file
from agent_scaling.runtime.errors import InputError
from agent_scaling.training.course.saved import is_count

GROWTH = ("unroll_start", "unroll_doubling")
"""Keys of the data position that are there where windows grow."""


class ShardsDataModule(RecordedData):
    """Endless training windows and a fixed pass over held-out games.

    Batches are windows of consecutive frames; the core's state crosses from one to the next.
    """

    def __init__(
        self,
        shards: str,
        lanes: int = 32,
        unroll_length: int = 80,
        seed: int = 0,
        workers: int = 1,
        val_lanes: int = 32,
        val_frames: int | None = None,
        scores: bool = False,
        games: bool = False,
        pin_memory: bool = False,
        fraction: float = 1.0,
        on_corrupt: OnCorrupt = "stop",
        cache_dir: str = CACHE_DIR,
        cache_gb: float = CACHE_GB,
        patience_minutes: float = PATIENCE_MINUTES,
        beyond: float = 0.0,
        lookahead: int = 0,
        val_shards: str | None = None,
        unroll_start: int | None = None,
        unroll_doubling: int = 600,
        val_before: int | None = None,
    ) -> None:
        """Raise :class:`InputError` for shards that are missing or broken.

        Args:
            shards: Directory that ``agent-scaling shard`` wrote, or the URL it was uploaded to.
            lanes: Games read at the same time, all ranks together.
            unroll_length: Frames of each lane in a batch.
            seed: Seed of the order of games.
            workers: Background threads per rank (0: none). Does not change the data.
            val_lanes: Lanes of the validation pass, all ranks together.
            val_frames: Held-out frames to validate on, evenly spaced; None takes all.
            scores: Also give ``score_TB``.
            games: Also give ``game_TB``.
            pin_memory: Copy batches to page-locked memory.
            fraction: Share of the training games to use; smaller subsets lie within larger ones.
            on_corrupt: At a damaged chunk of a training game: ``stop`` the run, or ``skip`` its
                frames, which become padding. A damaged held-out chunk always stops.
            cache_dir: Folder for shards read from a URL, see ``shards.storage.open_storage``.
            cache_gb: Largest size of that folder, in 10^9 bytes.
            patience_minutes: Time for which a URL that does not answer is retried.
            beyond: Leave out the training games that ``fraction=beyond`` uses.
            lookahead: Frames of the next window behind each; see ``Batch.ahead``.
            val_shards: Validate on the held-out games of these shards instead.
            unroll_start: Frames of each lane in the first batches, so that a small budget has steps
                enough; None: ``unroll_length`` at once.
            unroll_doubling: Batches after which that length doubles, up to ``unroll_length``.
            val_before: Frames that a held-out frame is judged after, at least: windows of
                ``unroll_length`` overlap by so many, and each begins from a state of its own. None:
                windows follow each other, and the state crosses them.
        """
        super().__init__()
        _check(unroll_length, workers, fraction, beyond, lookahead, on_corrupt)
        if unroll_start is not None and lookahead:
            raise InputError(f"data.unroll_start={unroll_start}: not with data.lookahead; null it")
        start = unroll_length if unroll_start is None else unroll_start
        self.growth = Growth(unroll_length, start, unroll_doubling)
        """The lengths of training windows."""
        self.lanes, self.unroll_length, self.seed = lanes, unroll_length, seed
        self.fraction, self.beyond, self.lookahead = fraction, beyond, lookahead
        self.options: dict[str, Any] = {
            "workers": workers,
            "scores": scores,
            "games": games,
            "pin_memory": pin_memory,
        }
        self.start_step = 0
        remote = (cache_dir, cache_gb, patience_minutes)
        storage = open_storage(shards, *remote)
        self.train_reader = ShardReader(storage, "train", fraction, on_corrupt, beyond)
        if val_shards is not None:
            storage = open_storage(val_shards, *remote)
        # Losses compare only over the same held-out frames, so `fraction` does not reduce them.
        self.val_reader = ShardReader(storage, "val")
        _check_games(self.train_reader, self.val_reader, shards, val_shards)
        layout = self.train_reader.layout
        versions = self.train_reader.manifest.versions
        given = {"family": layout.game, "options": dict(layout.options), "versions": dict(versions)}
        self._game = game_from_file(given, f"data.shards={shards}")
        self.observations = tuple(layout.shown)
        """Names of the recorded observations; few recordings of NetHack have the inventory."""
        names = [game.id for game in self.train_reader.games]
        lengths = [game.frames for game in self.train_reader.games]
        self.order = TrainLanes(names, lengths, lanes, seed)
        held_out = [game.frames for game in self.val_reader.games]
        self.val_order = EvalLanes(held_out, val_lanes, val_frames)
        if val_before is not None and (lookahead or not 0 < val_before < unroll_length):
            raise InputError(
                f"data.val_before={val_before}: must be 1 to data.unroll_length - 1, without "
                "data.lookahead"
            )
        self.val_before = val_before

    @property
    def game(self) -> Description:
        """The recorded game, as rollouts play it."""
        return self._game

    @property
    def num_actions(self) -> int:
        """Size of the recordings' action set."""
        return len(self.train_reader.layout.keys)

    @property
    def train_frames(self) -> int:
        """Frames of one epoch."""
        return self.order.total

    @property
    def train_games(self) -> int:
        """Games of one epoch."""
        return len(self.train_reader.games)

    @property
    def val_games(self) -> int:
        """Games that are held out."""
        return len(self.val_reader.games)

    @property
    def recorded_scores(self) -> list[float]:
        """Final scores of the recorded games, where their xlogfile has them (``points``)."""
        games = (*self.train_reader.games, *self.val_reader.games)
        points = [game.metadata.get("points") for game in games]
        return [float(value) for value in points if isinstance(value, int | float)]

    @property
    def description(self) -> str:
        """One line about the shards, for the terminal."""
        held_out = f"{self.val_games} games held out"
        if self.val_reader.layout.labelled:
            held_out += ", whose keys are a model's labels too: data.val_shards= takes true ones"
        return f"{self.train_games} games, {self.train_frames:,} frames; {held_out}"

    @property
    def facts(self) -> dict[str, Any]:
        """Facts about the data for the run's record."""
        return {"fingerprint": self.fingerprint, "train_frames": self.train_frames}

    def progress(self, frames: int) -> dict[str, float]:
        """Return the metrics of the data after ``frames`` frames of training."""
        return {"data/epoch": frames / self.train_frames}

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the shards and the share in use; equal fingerprints mean equal data."""
        found = self.train_reader.manifest.fingerprint
        if self.fraction != 1 or self.beyond:
            found += f"/{self.fraction:g}"
        return f"{found}/{self.beyond:g}" if self.beyond else found

    def _rank(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _overlapping(self, windows: WindowLoader) -> Iterable[Batch]:
        return Overlapping(windows, self.lookahead) if self.lookahead else windows

    def train_dataloader(self) -> Iterable[Batch]:
        """Return this rank's lanes from ``start_step`` on, without end."""
        lanes = rank_lanes(self.lanes, *self._rank())
        windows = WindowLoader(
            self.train_reader,
            self.order,
            lanes,
            self.unroll_length,
            start_step=self.growth.place(self.start_step).window,
            **self.options,
        )
        if self.growth.start < self.unroll_length:
            return Growing(windows, self.growth, self.start_step)
        return self._overlapping(windows)

    def val_dataloader(self) -> Iterable[Batch]:
        """Return this rank's lanes of the pass over held-out games, the same frames each time."""
        order: EvalLanes | JudgedLanes = self.val_order
        if self.val_before is not None:
            order = JudgedLanes(self.val_order, self.unroll_length, self.val_before)
        # The standard error is over games, so evaluation needs each frame's game.
        windows = WindowLoader(
            self.val_reader,
            order,
            rank_lanes(order.lanes, *self._rank()),
            self.unroll_length,
            end_step=order.steps(self.unroll_length),
            **{**self.options, "games": True},
        )
        if self.val_before is not None:
            return Judged(windows, self.val_before)
        return self._overlapping(windows)

    def coordinates(self, step: int) -> dict[str, Any]:
        """Return the games and frames of each lane of a training window."""
        lanes = [self._spans(lane, step) for lane in range(self.lanes)]
        return {**self._position(), "lanes": lanes}

    def _spans(self, lane: int, step: int) -> list[dict[str, Any]]:
        position, length = self.growth.frames(step)
        end = position + length
        spans = []
        while position < end:
            span = self.order.span(lane, position, end - position)
            position += span.length
            game = None if span.game == PADDING else self.train_reader.games[span.game].key
            spans.append({"game": game, "frame": span.frame, "frames": span.length})
        return spans

    def _position(self) -> dict[str, Any]:
        grows = self.growth.start < self.unroll_length
        growth = dict(zip(GROWTH, (self.growth.start, self.growth.doubling), strict=True))
        return {
            "seed": self.seed,
            "lanes": self.lanes,
            "unroll_length": self.unroll_length,
            "fingerprint": self.fingerprint,
            **(growth if grows else {}),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the data position: the arguments of the order, and the windows consumed."""
        step = self.start_step
        if self.trainer is not None:
            # `completed` lags one behind inside the callbacks that save; `processed` does not.
            # Lightning restores the counter on resume, so that it counts from the run's start.
            step = cast(Any, self.trainer.fit_loop.epoch_loop.batch_progress.total).processed
        return {"step": step, **self._position()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a checkpoint's data position; raise :class:`InputError` for other data."""
        position = self._position()
        for name in dict.fromkeys((*position, *GROWTH)):
            value = position.get(name)
            if (saved := state_dict.get(name)) != value:
                raise InputError(
                    f"data.{name}={value}: the checkpoint was trained with {saved}; "
                    "resume with that, or start a new run"
                )
        self.start_step = is_count(state_dict["step"], "step")


def _check(
    unroll_length: int,
    workers: int,
    fraction: float,
    beyond: float,
    lookahead: int,
    on_corrupt: OnCorrupt,
) -> None:
    if unroll_length < 1:
        raise InputError(f"unroll_length={unroll_length}: must be at least 1")
    if workers < 0:
        raise InputError(f"workers={workers}: must be at least 0")
    if not 0 < fraction <= 1:
        raise InputError(f"data.fraction={fraction}: must be above 0 and at most 1")
    if not 0 <= beyond < fraction:
        raise InputError(f"data.beyond={beyond}: must be at least 0 and below data.fraction")
    if not 0 <= lookahead <= unroll_length:
        raise InputError(f"data.lookahead={lookahead}: must be 0 to unroll_length")
    if on_corrupt not in get_args(OnCorrupt):
        raise InputError(f"data.on_corrupt={on_corrupt}: must be stop or skip")


def _check_games(train: ShardReader, val: ShardReader, shards: str, val_shards: str | None) -> None:
    if not train.layout.shows_as(val.layout):
        what = "of another game, or with other observations,"
        raise InputError(f"data.val_shards={val_shards}: {what} than {shards}")
    if not train.games:
        raise InputError(f"shards={shards}: no training games in it")
    if not any(game.actions for game in train.games):
        raise InputError(
            f"shards={shards}: its training games have no actions; agent-scaling label gives "
            "them an inverse-dynamics model's"
        )
