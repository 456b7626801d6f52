"""What a person sees in MLflow of two runs: their comparison, and a replay that moves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from playwright.sync_api import Page, expect

from tests.helpers.runs import train
from tests.helpers.servers import Server

pytestmark = pytest.mark.browser
NAMES = ("narrow", "wide")


@pytest.fixture(scope="module")
def server(
    page: Page, tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """MLflow on the store of two runs; ``page`` comes first: without it none are trained."""
    root = tmp_path_factory.mktemp("browser")
    plays = "callbacks.rollouts={_target_: callbacks.rollouts.Rollouts, episodes: 1, workers: 1}"
    short = "callbacks.rollouts.max_episode_steps=30"
    for name, width in zip(NAMES, (16, 24), strict=True):
        wide = [f"policy.encoder.width={width}", f"logger.run_name={name}", "flops_budget=1e9"]
        quick = ["trainer.max_steps=3", "callbacks.reference_players=null", plays, f"+{short}"]
        train(tiny_shards, root / name, *wide, *quick)
    made = Server(root)
    try:
        made.start()
        yield made
    finally:
        made.kill()


def test_the_compare_page_shows_both_runs_and_their_metrics(page: Page, server: Server) -> None:
    runs = runs_of(server)
    ids = json.dumps([run.info.run_id for run in runs])
    page.goto(f'{server.url}/#/compare-runs?runs={ids}&experiments=["1"]')
    named = page.get_by_role("row").filter(has_text="Run Name:")
    for name in NAMES:
        expect(named.get_by_text(name, exact=True)).to_be_visible()
    # The first rows only: in mlflow 3.17 the names do not scroll with the values.
    for metric, shown in (("baseline/bigram_nats", "{:.3f}"), ("flops", "{:.0f}")):
        expect(page.get_by_text(metric, exact=True).last).to_be_visible()
        for run in runs:
            value = shown.format(run.data.metrics[metric])
            expect(page.get_by_text(value, exact=True).last).to_be_visible()


def test_a_replay_moves_when_it_is_told_to_play(page: Page, server: Server) -> None:
    client, run = MlflowClient(server.store), runs_of(server)[0]
    (folder,) = client.list_artifacts(run.info.run_id, "replays")
    where = f"#/experiments/1/runs/{run.info.run_id}/artifacts/{folder.path}/best.html"
    page.goto(f"{server.url}/{where}")
    replay = page.frame_locator("iframe")
    expect(replay.locator("#screen")).to_contain_text("Dlvl:1")
    expect(replay.locator("#screen")).to_contain_text("@")
    expect(replay.locator("#where")).to_contain_text("step 0 /")
    replay.get_by_role("button", name="play", exact=True).click()
    expect(replay.locator("#where")).not_to_contain_text("step 0 /")


def runs_of(server: Server) -> list[Run]:
    """The two runs, in the order of their names."""
    return list(MlflowClient(server.store).search_runs(["1"], order_by=["attributes.run_name"]))
