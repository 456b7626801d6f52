import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest
from nle.nethack import NO_GLYPH

from agent_scaling.envs.pool.memory import deal_lanes
from agent_scaling.envs.pool.pool import Pool
from agent_scaling.envs.pool.processes import BOOT, GameError
from agent_scaling.runtime.errors import InputError

pytestmark = pytest.mark.usefixtures("new_interpreters")

TOY = "tests.envs.toy_game:Toy"


def run_toys(seeds, *, lanes, workers, groups, patience=30.0, **options):
    """Records by seed, and the pool's count of lost workers; each action is the step's parity."""
    waiting, playing, records = iter(seeds), {}, {}

    def begin(lane):
        seed = next(waiting, None)
        if seed is not None:
            playing[lane] = seed
            pool.assign(lane, seed)

    with Pool(
        TOY,
        lanes=lanes,
        workers=workers,
        groups=groups,
        patience=patience,
        options={"trouble": {}, **options},
    ) as pool:
        for lane in range(lanes):
            begin(lane)
        for group in range(groups):
            pool.send(group)
        while playing:
            for group in range(groups):
                for lane, record in pool.receive(group).ended:
                    records[playing.pop(lane)] = record
                    begin(lane)
                ready = pool.ready(group)
                assert all(pool.observations["shown"][lane, 0] == playing[lane] for lane in ready)
                pool.actions[ready] = 1 + pool.observations["shown"][ready, 1] % 2
                pool.send(group)
    return records, pool.lost


def expected(seeds):
    lengths = {seed: 3 + seed % 5 for seed in seeds}
    return {
        seed: {"steps": n, "total": sum(1 + step % 2 for step in range(n))}
        for seed, n in lengths.items()
    }


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.mark.parametrize(("lanes", "workers", "groups"), [(1, 1, 1), (5, 2, 2), (7, 3, 2)])
def test_every_seed_is_played_once_in_any_layout(lanes, workers, groups):
    records, lost = run_toys(range(20), lanes=lanes, workers=workers, groups=groups)
    assert records == expected(range(20))
    assert lost == 0


def test_in_endless_play_every_lane_shows_a_frame_at_every_step():
    seeds, playing, records, firsts = itertools.count(), {}, {}, 0
    with Pool(TOY, lanes=5, workers=2, groups=2, options={"trouble": {}}) as pool:

        def begin(lane):
            playing[lane] = next(seeds)
            pool.assign(lane, playing[lane])

        for group, lanes in enumerate(pool.groups):
            for lane in lanes:
                begin(lane)
            pool.begin(group)
        for _ in range(40):
            for group, lanes in enumerate(pool.groups):
                assert pool.ready(group).tolist() == list(lanes)
                shown = pool.observations["shown"]
                assert [int(shown[lane, 0]) for lane in lanes] == [playing[n] for n in lanes]
                firsts += sum(int(shown[lane, 1] == 0) for lane in lanes)
                pool.actions[lanes.start : lanes.stop] = 1 + shown[lanes.start : lanes.stop, 1] % 2
                pool.send(group)
                ended = pool.receive(group).ended
                for lane, record in ended:
                    records[playing[lane]] = record
                    begin(lane)
                if ended:
                    pool.begin(group)
    assert len(records) > 5 * 40 // 8
    assert records == expected(records)
    assert len(records) <= firsts <= len(records) + 5


def test_lanes_are_dealt_evenly_and_all():
    dealt = deal_lanes(11, 3, 2)
    flat = [lane for group in dealt for part in group for lane in part]
    assert flat == list(range(11))
    assert {len(part) for group in dealt for part in group} <= {1, 2}


@pytest.mark.parametrize("trouble", ["kill", "crash", "stop", "hang"])
def test_a_lost_worker_is_replaced_and_no_episode_is_lost(trouble, tmp_path):
    records, lost = run_toys(
        range(12),
        lanes=6,
        workers=2,
        groups=2,
        patience=3.0 if trouble in ("stop", "hang") else 60.0,  # of a machine that others use
        trouble={trouble: 4},
        once=str(tmp_path / "done"),
    )
    assert records == expected(range(12))
    assert lost == 1


def test_an_episode_that_always_crashes_is_reported_and_the_others_are_played():
    records, lost = run_toys(range(12), lanes=6, workers=2, groups=2, trouble={"crash": 4})
    assert records.pop(4)["end"] == "crashed"
    assert records == {seed: r for seed, r in expected(range(12)).items() if seed != 4}
    assert lost == 3


def test_a_pool_shares_what_is_asked_for_and_no_more():
    nethack = "agent_scaling.envs.nethack:NetHack"
    with Pool(nethack, lanes=2, workers=1, groups=1, observations=["inv_glyphs"]) as pool:
        for lane in range(2):
            pool.assign(lane, 5)
        pool.send(0)
        pool.receive(0)
        (glyphs,) = pool.observations.values()
        assert 0 < (glyphs[0] != NO_GLYPH).sum() < glyphs.shape[1]
        assert (glyphs[0] == glyphs[1]).all()


def test_an_observation_that_the_game_lacks_is_named():
    with pytest.raises(InputError, match="frames"):
        Pool(TOY, lanes=1, workers=1, observations=["frames"])


def test_a_game_that_raises_shows_its_traceback():
    with pytest.raises(GameError, match="the toy broke"):
        run_toys(range(12), lanes=6, workers=2, groups=2, trouble={"raise": 4})


def test_a_game_that_cannot_be_made_shows_why():
    with pytest.raises(GameError, match="unexpected keyword"):
        run_toys([0], lanes=1, workers=1, groups=1, flavour="none")


def test_nothing_is_left_after_an_exception(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = children()
    nethack = Pool("agent_scaling.envs.nethack:NetHack", lanes=4, workers=2)
    with pytest.raises(KeyboardInterrupt), nethack as pool:  # noqa: PT012
        for lane in range(4):
            pool.assign(lane, lane)
        pool.send(0)
        assert list(tmp_path.rglob("nhdat"))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    assert children() == before


def test_nothing_is_left_when_the_parent_is_killed(tmp_path):
    script = """
        from agent_scaling.envs.pool.pool import Pool
        pool = Pool("agent_scaling.envs.nethack:NetHack", lanes=4, workers=2)
        for lane in range(4):
            pool.assign(lane, lane)
        pool.send(0)
        print(*pool.pids(), flush=True)
        import time
        time.sleep(60)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    with parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        os.kill(pids[0], signal.SIGSTOP)  # one that cannot leave by itself
        assert len(pids) == 2
        assert list(tmp_path.rglob("nhdat"))
        parent.kill()
    gone_by = time.monotonic() + 600
    while time.monotonic() < gone_by and (any_alive(pids) or list(tmp_path.iterdir())):
        time.sleep(0.05)
    assert not any_alive(pids)
    assert list(tmp_path.iterdir()) == []


def test_a_fork_of_the_parent_does_not_keep_a_pool_from_closing():
    pool = Pool(TOY, lanes=1, workers=1, options={"trouble": {}})
    (fork := multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))).start()
    closing = threading.Thread(target=pool.close, daemon=True)
    closing.start()
    closing.join(60)
    ended = not closing.is_alive()
    fork.kill()
    fork.join()
    closing.join()
    assert ended


def any_alive(pids) -> bool:
    """Whether one of the processes still runs; one that waits to be reaped does not."""
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        if stat.rpartition(")")[2].split()[0] != "Z":
            return True
    return False


def test_a_worker_starts_without_torch():
    code = BOOT.replace(
        "main()", "import agent_scaling.envs.nethack; print('torch' in sys.modules)"
    )
    told = json.dumps(sys.path)
    assert subprocess.check_output([sys.executable, "-c", code, told], text=True) == "False\n"
