"""The inventory of recorded games: as the player saw it, from a file or a replay that agrees."""

from __future__ import annotations

import bz2
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_scaling.data.conversion.shard import shard
from agent_scaling.data.recordings.base import BadGame, RawFrames, concatenate
from agent_scaling.data.recordings.known_seeds import read_seeds
from agent_scaling.data.recordings.ttyrec import TtyrecSource
from agent_scaling.data.shards.layout import NETHACK_INVENTORY
from agent_scaling.data.shards.manifest import MANIFEST
from agent_scaling.data.shards.reader import ShardReader
from agent_scaling.envs.actions import action_to_key
from agent_scaling.envs.nethack import NetHack
from agent_scaling.envs.nethack.inventories import MAGIC, ROW, inventory_file, read_inventory
from agent_scaling.envs.screens import NO_GLYPH
from agent_scaling.playing.rollouts.rollout import rollout
from agent_scaling.runtime.errors import InputError
from data_modules.shards import ShardsDataModule
from tests.data.shards.test_fuzz import broken
from tests.helpers.fuzz import FUZZ
from tests.helpers.runs import UNCOMPARED, train
from tests.helpers.ttyrecs import copy_game, link_games, press, reference_games

MOVES = [1, 2, 3, 4, 5, 6, 7, 20, 62, 93]


def games_of(root: Path, seeds: Path | None = None) -> dict[str, RawFrames]:
    """Frames of the games under ``root``, by identity."""
    source = TtyrecSource(inventory=True, seeds=None if seeds is None else str(seeds))
    games = source.discover(root).games
    return {game.identity: concatenate(list(source.decode(root, game, 100))) for game in games}


def without_inventories(root: Path, copy: Path) -> Path:
    shutil.copytree(root, copy)
    for path in copy.rglob("*.inventory.bz2"):
        path.unlink()
    return copy


def same(one: dict[str, RawFrames], other: dict[str, RawFrames]) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(one[name].shown["inv_glyphs"], other[name].shown["inv_glyphs"])
        for name in one
    )


@pytest.fixture(scope="module")
def inventory_shards(tiny_games: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inventory") / "shards"
    shard(
        input=str(tiny_games),
        output=str(folder),
        source=TtyrecSource(inventory=True),
        chunk_frames=128,
        val_fraction=0.4,
        processes=1,
    )
    return folder


def test_a_shard_shows_what_the_player_saw(tmp_path: Path) -> None:
    views = {name: np.zeros(shape, dtype) for name, (shape, dtype) in NetHack.observations.items()}
    game = NetHack(views, record_dir=str(tmp_path / "games"), max_episode_steps=60)
    draw, action, seen = np.random.RandomState(2), action_to_key().tolist().index, []
    game.reset(3)
    keys = [action(ord(key)) for key in "dbdc"] + draw.choice(MOVES, 60).tolist()  # drops two items
    for key in keys:
        seen.append(views["inv_glyphs"].copy())
        if game.step(key) is not None:
            break
    game.close()
    assert len(np.unique(seen, axis=0)) == 3
    source = TtyrecSource(inventory=True)
    games, shards = str(tmp_path / "games"), tmp_path / "shards"
    shard(input=games, output=str(shards), source=source, val_fraction=0.0, processes=1)
    frames = ShardReader(shards, "train").frames(0, 0)
    shown = frames.shown["inv_glyphs"][frames.decision == 1]
    assert len(seen) == 60
    np.testing.assert_array_equal(shown[:60], seen)  # then come the keys that quit the game


def test_a_replay_finds_the_same_inventories(tiny_games: Path, tmp_path: Path) -> None:
    beside = games_of(tiny_games)
    assert sum(len(np.unique(raw.shown["inv_glyphs"], axis=0)) for raw in beside.values()) > 10
    assert same(games_of(without_inventories(tiny_games, tmp_path / "bare")), beside)


def test_rollouts_are_replayed_from_their_settings(tmp_path: Path) -> None:
    rules = {"character": "val", "level_seed": 7, "max_episode_steps": 60, "workers": 1}
    out = tmp_path / "out"
    rollout(ckpt="random", output=str(out), episodes=2, ttyrecs=True, **rules)  # type: ignore[arg-type]
    assert same(games_of(without_inventories(out, tmp_path / "bare")), games_of(out))


def test_a_replay_that_differs_is_not_believed(tiny_games: Path, tmp_path: Path) -> None:
    folder = without_inventories(tiny_games, tmp_path / "bare") / "nle_data" / "000001"
    copy_game(folder, tmp_path / "other", "000001", press(40, ord("s")))
    with pytest.raises(BadGame, match=r"from its seeds, it shows another frame 4\d than was"):
        games_of(tmp_path / "other")


def test_games_of_others_need_a_table_of_seeds(reference: Path, tmp_path: Path) -> None:
    """The reference games' table names the core's seed, and is found by this very check."""
    root = link_games(reference_games(reference)[:1], tmp_path / "games")
    (name,) = (game.identity for game in TtyrecSource().discover(root).games)
    with pytest.raises(BadGame, match=r"its seeds are not known \(source\.seeds="):
        games_of(root)
    (tmp_path / "seeds.csv").write_text(f"recording,core_seed\n{name},2\n")
    (raw,) = games_of(root, tmp_path / "seeds.csv").values()
    assert len(raw) == 712
    assert (raw.shown["inv_glyphs"] != NO_GLYPH).sum(axis=1)[:700].min() > 3
    (tmp_path / "seeds.csv").write_text(f"recording,core_seed\n{name},3\n")
    with pytest.raises(BadGame, match="another frame 0 than"):
        games_of(root, tmp_path / "seeds.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recording,seed\na,1\n", "no column core_seed"),
        ("recording,core_seed\na,x1\n", "core_seed=x1 is no whole number"),
        ("", "no column recording"),
    ],
)
def test_a_table_that_is_none_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "seeds.csv").write_text(text)
    with pytest.raises(InputError, match=rf"source\.seeds=.*seeds\.csv: {message}"):
        read_seeds(tmp_path / "seeds.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_seeds(tmp_path / "none.csv")


def test_shards_have_a_version_of_their_own_and_train(
    inventory_shards: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    manifest = json.loads((inventory_shards / MANIFEST).read_text())
    assert manifest["version"] == 3
    assert json.loads((tiny_shards / MANIFEST).read_text())["version"] == 2
    data = ShardsDataModule(
        str(inventory_shards), lanes=2, unroll_length=64, val_lanes=3, workers=0
    )
    assert data.observations == tuple(NETHACK_INVENTORY.shown)
    *_, last = data.val_dataloader()
    assert last.game_TB is not None
    assert last.inv_glyphs_TBI is not None
    padded = last.inv_glyphs_TBI[last.game_TB == -1]
    assert len(padded) > 0
    assert bool((padded == NO_GLYPH).all())
    more = ["policy.encoder.inventory=true", "trainer.max_steps=2", "flops_budget=1e18"]
    train(inventory_shards, tmp_path / "run", *UNCOMPARED, *more)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
    with pytest.raises(InputError, match="with other observations"):
        ShardsDataModule(str(inventory_shards), lanes=2, val_shards=str(tiny_shards))


def test_a_file_of_another_game_is_refused(tiny_games: Path, tmp_path: Path) -> None:
    folders = sorted((tiny_games / "nle_data").iterdir())
    copy = tmp_path / "nle_data" / folders[0].name
    shutil.copytree(folders[0], copy)
    (own,) = copy.glob("*.inventory.bz2")
    (other,) = folders[1].glob("*.inventory.bz2")
    shutil.copyfile(other, own)
    with pytest.raises(BadGame, match=r"is of \d+ frames, the recording has \d+"):
        games_of(tmp_path)


@pytest.fixture(scope="module")
def inventory(tiny_games: Path) -> Path:
    return min(tiny_games.rglob("*.inventory.bz2"))


def test_the_file_lies_beside_its_recording(inventory: Path) -> None:
    (recording,) = inventory.parent.glob("*.ttyrec3.bz2")
    assert inventory_file(recording) == inventory
    assert inventory_file(Path("a/nle.1.0.ttyrec3")) == Path("a/nle.1.0.inventory.bz2")


@FUZZ
@given(data=st.data())
def test_no_file_is_read_as_what_it_is_not(
    inventory: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.inventory.bz2"
    packed = inventory.read_bytes()
    changed = bz2.compress(data.draw(broken(bz2.decompress(packed))), 1)
    for found in (data.draw(broken(packed)), changed):
        path.write_bytes(found)
        try:
            rows = read_inventory(path)
        except ValueError:
            continue
        assert rows["glyphs"].max() <= NO_GLYPH
        assert rows["frame"][0] == 0


def test_rows_out_of_order_are_refused(tmp_path: Path) -> None:
    rows = np.zeros(3, ROW)
    path = tmp_path / "x.inventory.bz2"
    for frames, glyph in (([0, 5, 5], 0), ([1, 5, 6], 0), ([0, 5, 6], NO_GLYPH + 1)):
        rows["frame"], rows["glyphs"] = frames, glyph
        path.write_bytes(bz2.compress(MAGIC + rows.tobytes()))
        with pytest.raises(ValueError, match="is damaged"):
            read_inventory(path)
