"""Versions of the programs that play, and where they stand."""

from importlib.metadata import version

from agent_scaling.data.conversion.played import played_versions
from agent_scaling.data.shards.layout import NETHACK, atari_layout
from agent_scaling.data.shards.manifest import GameEntry, ShardIndex
from agent_scaling.envs.versions import installed_versions, mixed, nethack_version, versions_text
from data_modules.actors import ActorsDataModule


def index(*versions):
    games = [
        GameEntry(str(n), str(n), 1, 1, (0, 1), 0, 3, {"version": text} if text else {}, (), ())
        for n, text in enumerate(versions)
    ]
    return ShardIndex("plan", 0, tuple(games), ())


def test_what_is_installed_is_named():
    nle = version("nle")
    assert installed_versions("nethack") == {"nethack": nethack_version(), "nle": nle}
    assert nethack_version().startswith("3.")
    same = installed_versions("agent_scaling.envs.nethack:NetHack")
    assert versions_text(same) == f"nethack {nethack_version()}, nle {nle}"
    assert installed_versions("atari") == {"ale-py": version("ale-py")}
    assert installed_versions("somebodys.game:Game") == {}
    assert versions_text({}) == ""


def test_a_manifest_says_what_its_recordings_say():
    nle = version("nle")
    found = played_versions(NETHACK, "nld_aa", [index("3.6.7", "3.6.6"), index("3.6.7", None)])
    assert found == {"nethack": "3.6.6, 3.6.7", "nle": nle}
    assert played_versions(NETHACK, "altorg", [index(None, "mine")]) == {"nle": nle}
    atari = atari_layout((0, 1), {})
    assert played_versions(atari, "atari", []) == installed_versions("atari")
    assert played_versions(atari, "minari", []) == {}


def test_who_learns_by_playing_learns_what_is_installed():
    game = ActorsDataModule(game="nethack", lanes=2, unroll_length=1).game
    assert game.versions == installed_versions("nethack")
    assert game.to_dict()["versions"] == installed_versions("nethack")


def test_rows_of_several_versions_are_counted():
    assert mixed(["nle 1", "nle 1"]) is None
    assert mixed([None, float("nan")]) is None
    assert mixed(["nle 1", None, "nle 2", "nle 2"]) == "nle 1 (1); nle 2 (2); unknown versions (1)"
