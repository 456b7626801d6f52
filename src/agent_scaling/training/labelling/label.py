"""The verb ``label``: an inverse-dynamics model labels games that have no actions."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent_scaling.data.conversion.encode import EncodedGame
from agent_scaling.data.conversion.finished_games import Output, read_kept
from agent_scaling.data.conversion.output_folder import finished, of_all_parts, remove_partial
from agent_scaling.data.conversion.plan import SPLITS, Plan, Shard
from agent_scaling.data.conversion.shard import write_manifest
from agent_scaling.data.recordings.base import Game, Skipped
from agent_scaling.data.shards.layout import VERSION, Layout
from agent_scaling.data.shards.manifest import Manifest
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.policies.checkpoints.files import read_checkpoint
from agent_scaling.policies.checkpoints.load import load_policy
from agent_scaling.policies.inference import find_device, for_inference
from agent_scaling.policies.policy import Policy
from agent_scaling.runtime.errors import InputError
from agent_scaling.runtime.files import content_hash, is_url
from agent_scaling.runtime.jobs import Part, find_part
from agent_scaling.runtime.locks import output_locked
from agent_scaling.runtime.progress_bar import FrameBar
from agent_scaling.runtime.terminal import plain_console
from agent_scaling.training.labelling.game_labels import GameLabeller
from agent_scaling.training.labelling.report import print_agreement, print_labels, summed_labels


@dataclass(frozen=True)
class Labeller:
    """An inverse-dynamics model with the facts that the manifest keeps of it."""

    policy: Policy
    lookahead: int
    """Frames after a window that the model was trained to see."""
    facts: Mapping[str, Any]
    """For the manifest: SHA-256 of the checkpoint, parameters, training frames, held-out scores."""


def label(
    *,
    ckpt: str,
    input: str,
    output: str,
    evaluate: bool = False,
    max_frames: int | None = None,
    window: int = 256,
    level: int = 9,
    device: str = "auto",
    part: str | None = None,
) -> None:
    """Write shards whose keys are the model's most probable ones, each with its probability.

    Frames, games and split are those of ``input``. A labelling that was killed resumes after the
    last game that it finished. A game's last frame gets no label, because no frame follows it.

    Args:
        ckpt: A checkpoint of ``train experiment=nethack_inverse``.
        input: Folder or URL of shards without actions.
        output: Folder of the labelled shards; of the report, with ``evaluate``.
        evaluate: Write no labels; compare the model with the actions in the held-out games of
            ``input``, beside a baseline of the action frequencies in its training games.
        max_frames: With ``evaluate``: frames of each split, evenly spaced; None: all.
        window: Frames per forward pass.
        level: zstd compression level.
        device: ``auto``, or torch's name of a device.
        part: ``3/8`` labels only the third of eight shares of the shards; ``slurm`` takes the share
            from the job array. The job that completes the shards writes the manifest.

    Raises:
        InputError: The checkpoint is no inverse-dynamics model of the input's game; the input has
            actions where it should not, or the reverse; or the output cannot be written.
    """
    share = find_part(part, key="part")
    if share and evaluate:
        raise InputError("evaluate=true writes no labels to share out: leave part= out")
    where, model = find_device(device), find_labeller(ckpt)
    if window < 1 or not 1 <= level <= 22:
        raise InputError(f"window={window}: must be at least 1, and level={level}: 1 to 22")
    readers = {split: ShardReader(input, split) for split in SPLITS}
    check_game(model.policy, readers["train"].layout, ckpt, input)
    actions = sum(total.actions for total in readers["train"].manifest.totals.values())
    if evaluate:
        if not actions:
            raise InputError(f"input={input}: has no actions to compare with (evaluate=true)")
        print_agreement(model.policy, model.lookahead, readers, max_frames, where, Path(output))
        return
    if actions:
        raise InputError(
            f"input={input}: has actions already ({actions:,} frames): evaluate=true compares the "
            "model with them; to label, give shards of recordings without actions, or of "
            "shard actions=false"
        )
    if is_url(output):
        raise InputError(f"output={output}: shards are written to a folder; upload it afterwards")
    ready: Any = for_inference(model.policy, where)
    labeller = GameLabeller(ready, model.lookahead, window, level)
    if write_labelled(labeller, model, readers, output, share) is not None:
        print_labels(summed_labels(Path(output)), Path(output))


def find_labeller(ckpt: str) -> Labeller:
    """Load the inverse-dynamics model of a checkpoint.

    Raises:
        InputError: The checkpoint holds another kind of policy.
    """
    checkpoint, policy = read_checkpoint(ckpt), load_policy(ckpt)
    if policy.causal or "lookahead" not in checkpoint:
        raise InputError(
            f"ckpt={ckpt}: not an inverse-dynamics model; train one with experiment=nethack_inverse"
        )
    with Path(ckpt).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    # JSON has no NaN, which is the standard error over a single game.
    scores = {k: v for k, v in checkpoint.get("held_out", {}).items() if math.isfinite(v)}
    facts = {"sha256": digest, "params": policy.num_params, "frames": checkpoint["frames"]}
    return Labeller(policy, checkpoint["lookahead"], {**facts, "held_out": scores})


def check_game(policy: Policy, layout: Layout, ckpt: str, input: str) -> None:
    """Refuse shards of another game, and shards whose keys are labels already."""
    if layout.labelled:
        raise InputError(
            f"input={input}: its keys are labels of a model; give the shards that were labelled"
        )
    if policy.game.family != layout.game or policy.num_actions != len(layout.keys):
        raise InputError(
            f"input={input}: {layout.game} with {len(layout.keys)} actions; ckpt={ckpt} was "
            f"trained on {policy.game.family} with {policy.num_actions}"
        )


def write_labelled(
    labeller: GameLabeller,
    model: Labeller,
    readers: Mapping[str, ShardReader],
    output: str,
    share: Part | None = None,
) -> Manifest | None:
    """Label the shards that are not labelled yet, in order; write the manifest last.

    A job that labels a share writes the manifest only where no other share is missing, and returns
    None otherwise.
    """
    source, directory = readers["train"].manifest, Path(output)
    layout = replace(source.layout, labelled=True)
    settings = {
        "format": VERSION,
        "source": "label",
        "input": source.fingerprint,
        "chunk_frames": source.chunk_frames,
        "level": labeller.level,
        "window": labeller.window,
        "labelled_by": dict(model.facts),
    }
    plan = make_plan(readers, settings)
    to = Output(directory, plan.fingerprint, layout, source.chunk_frames)
    mine = share.share(plan.shards) if share else plan.shards
    names = {shard.name for shard in mine}
    total = sum(game.frames for reader in readers.values() for game in reader.games)
    console = plain_console(stderr=True, soft_wrap=True)
    own = output_locked(directory, "conversion", shared=share is not None)
    with own, FrameBar(total, console) as bar:
        done = finished(directory, plan)
        remove_partial(directory, mine)
        for split, reader in readers.items():
            for shard, (_, games) in zip(plan.splits[split], reader.by_shard(), strict=True):
                if shard.name in done or shard.name not in names:
                    bar.shrink(sum(reader.games[game].frames for game in games))
                    continue
                labelled = label_games(labeller, reader, games, shard, to, bar)
                done[shard.name] = to.join(shard.name, labelled)
        whole = of_all_parts(directory, plan, done, share, console)
        if whole is None:
            return None
        return write_manifest(directory, plan, layout, whole, settings, source.versions)


def make_plan(readers: Mapping[str, ShardReader], settings: Mapping[str, Any]) -> Plan:
    """Plan one labelled shard per shard of the input; the fingerprint identifies the labels."""
    splits = {
        split: tuple(
            Shard(entry.name, tuple(as_game(reader, game) for game in games))
            for entry, games in reader.by_shard()
        )
        for split, reader in readers.items()
    }
    text = json.dumps(settings, sort_keys=True)
    return Plan(splits, (), 0, content_hash(text.encode()))


def as_game(reader: ShardReader, number: int) -> Game:
    """Describe a game in shards as a recording; its sizes are those of its chunks."""
    entry = reader.games[number]
    sizes = (sum(size for _, size, _ in entry.chunks),)
    metadata = {k: v for k, v in entry.metadata.items() if isinstance(v, str | int)}
    return Game(entry.id, entry.parts, sizes, entry.version, metadata)


def label_games(
    labeller: GameLabeller,
    reader: ShardReader,
    games: list[int],
    shard: Shard,
    output: Output,
    bar: FrameBar,
) -> Iterator[EncodedGame | Skipped]:
    """Yield a shard's labelled games for its writer; keep each on disk until the shard is done."""
    for place, (number, game) in enumerate(zip(games, shard.games, strict=True)):
        path, frames = output.waiting(shard.name, place), reader.games[number].frames
        if (kept := read_kept(path, game)) is not None:
            bar.shrink(frames)
            yield kept
            continue
        labelled = EncodedGame(
            game=game, frames=frames, actions=frames - 1, unknown_keys=0,
            decisions=(0, frames - 1), chunks=tuple(labeller.chunks(reader, number)),
        )  # fmt: skip
        output.keep(path, labelled)
        yield labelled
        bar.add(frames)
