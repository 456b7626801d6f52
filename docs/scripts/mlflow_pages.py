"""The pictures of MLflow in docs/: its own pages on the store that ``make demo`` leaves.

    python docs/scripts/mlflow_pages.py sqlite:///mlflow.db docs --study demo-study

Needs Chromium on the PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.entities import FileInfo, Run
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

DESKTOP, TALL, PHONE = (1440, 810), (1440, 1090), (390, 844)
MODE = "workflowType=machine_learning"
AXIS = {"xAxisKey": "metric", "selectedXAxisMetricKey": "log10_flops", "lineSmoothness": 0}
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE = 120_000  # milliseconds
SETTLE = 4.0  # seconds that charts take to draw
COLUMNS = ("metrics.`val/nats`", "metrics.`num_params`", "tags.`size`", "tags.`budget`")
ASSISTANT = {"fab.autoOpenedOnFirstLoad": "true", "panelOpen": "false"}
"""What a browser remembers once its assistant's panel has been closed."""


def main() -> None:
    """Write the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("output", type=Path)
    parser.add_argument("--study", required=True)
    given = parser.parse_args()
    (given.output / "screenshots").mkdir(parents=True, exist_ok=True)
    client = MlflowClient(given.store)
    experiments = [found.experiment_id for found in client.search_experiments()]
    query = f"tags.study = '{given.study}'"
    runs = client.search_runs(experiments, query, order_by=["metrics.num_params", "metrics.flops"])
    children = [run for run in runs if "kind" not in run.data.tags]
    (fit,) = [run for run in runs if run.data.tags.get("kind") == "fit"]
    with served(given.store) as url, sync_playwright() as playwright:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        site = f"{url}/#/experiments/{fit.info.experiment_id}"
        page = opened(browser, DESKTOP, children)
        of_all(page, url, site, children, given)
        of_one(page, site, children[-1], given.output / "screenshots")
        frames = max(int(Path(item.path).name) for item in replays_of(client, children[-1]))
        of_replay(page, site, children[-1], f"replays/{frames}/best.html", given.output)
        of_report(page, site, fit, given.output)
        of_curves(opened(browser, TALL, children), site, children[-1], given.output)
        page = opened(browser, PHONE, children)
        page.goto(f"{site}/runs/{children[0].info.run_id}?{MODE}")
        page.get_by_text("About this run").wait_for()
        page.get_by_role("button", name="Toggle sidebar").click()
        shoot(page, given.output / "screenshots" / "run-phone.png")
        browser.close()


def replays_of(client: MlflowClient, run: Run) -> list[FileInfo]:
    """The folders of a run's replays, named after the frames trained."""
    return list(client.list_artifacts(run.info.run_id, "replays"))


def of_all(page: Page, url: str, site: str, runs: list[Run], given: argparse.Namespace) -> None:
    """The list of runs, their charts, and two compared."""
    largest, smallest, folder = runs[-1], runs[0], given.output / "screenshots"
    page.goto(f"{site}/runs?{MODE}")
    page.get_by_text(str(smallest.info.run_name)).first.wait_for()
    shoot(page, folder / "runs.png")
    query = quote(f"tags.study = '{given.study}' and metrics.num_params > 0")
    order = "orderByKey=" + quote("metrics.`num_params`") + "&orderByAsc=true"
    page.goto(f"{site}/runs?{MODE}&compareRunsMode=CHART&{order}&searchFilter={query}")
    page.get_by_placeholder("Search metric charts").fill("val/(nats|perplexity)$")
    shoot(page, folder / "charts.png")
    ids = json.dumps([smallest.info.run_id, largest.info.run_id])
    experiments = json.dumps([smallest.info.experiment_id])
    page.goto(f"{url}/#/compare-runs?runs={ids}&experiments={experiments}&{MODE}")
    page.get_by_text("Show diff only").first.click()
    page.get_by_text("Run details").evaluate("found => found.scrollIntoView()")
    shoot(page, folder / "compare.png")


def of_one(page: Page, site: str, run: Run, folder: Path) -> None:
    """A run's machine and its model."""
    page.goto(f"{site}/runs/{run.info.run_id}/system-metrics?{MODE}")
    page.get_by_text("cpu_utilization").first.wait_for()
    shoot(page, folder / "system.png")
    (model,) = run.outputs.model_outputs
    page.goto(f"{site}/models/{model.model_id}?{MODE}")
    page.get_by_text("About this logged model").wait_for()
    shoot(page, folder / "model.png")


def of_curves(page: Page, site: str, run: Run, folder: Path) -> None:
    """A run's losses over FLOPs."""
    page.goto(f"{site}/runs/{run.info.run_id}/model-metrics?{MODE}")
    page.get_by_placeholder("Search metric charts").fill("(train|val)/nats$")
    shoot(page, folder / "mlflow.png")


def of_replay(page: Page, site: str, run: Run, replay: str, folder: Path) -> None:
    """A replay in the middle of its episode."""
    page.goto(f"{site}/runs/{run.info.run_id}/artifacts/{replay}?{MODE}")
    shown = page.frame_locator("iframe")
    shown.locator("#screen").get_by_text("Dlvl:1").wait_for()
    shown.locator("input[type=range]").evaluate(
        "found => { found.value = found.max / 2; found.dispatchEvent(new Event('input')) }"
    )
    shoot(page, folder / "replay-mlflow.png")


def of_report(page: Page, site: str, fit: Run, folder: Path) -> None:
    """A study's report, at its verdict."""
    page.goto(f"{site}/runs/{fit.info.run_id}/artifacts/report.html?{MODE}")
    page.frame_locator("iframe").locator("#verdict").wait_for()
    shoot(page, folder / "report-mlflow.png")


def opened(browser: Browser, size: tuple[int, int], runs: list[Run]) -> Page:
    """A page with the list's columns, the study unfolded, charts over FLOPs, the assistant closed:
    as the browser of somebody who has clicked so keeps them."""
    experiment, parent = runs[0].info.experiment_id, runs[0].data.tags["mlflow.parentRunId"]
    kept = {f"mlflow.assistant.{name}_v1": value for name, value in ASSISTANT.items()}
    seen = {"selectedColumns": COLUMNS, "runsExpanded": {parent: True}}
    scope = f'MLflowLocalStorage-1.1-ExperimentPage-["{experiment}"]'
    kept[f"{scope}-ReactComponentState"] = json.dumps(seen | {"globalLineChartConfig": AXIS})
    scope = f"MLflowLocalStorage-1.1-RunPage-{runs[-1].info.run_id}-model"
    kept[f"{scope}-chartUIState"] = json.dumps({"globalLineChartConfig": AXIS})
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.set_default_timeout(PATIENCE)
    page.add_init_script(
        f"for (const [k, v] of Object.entries({json.dumps(kept)})) localStorage.setItem(k, v)"
    )
    return page


def shoot(page: Page, path: Path) -> None:
    """A screenshot of what is in sight, in 192 colours."""
    page.mouse.move(0, 0)  # off the charts, which show their tools beneath it
    time.sleep(SETTLE)
    page.screenshot(path=path)
    with Image.open(path) as image:
        image.convert("RGB").quantize(192, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


@contextmanager
def served(store: str) -> Iterator[str]:
    """MLflow's server on ``store``, for this machine alone; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program, url = Path(sys.executable).with_name("mlflow"), f"http://127.0.0.1:{port}"
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    lean = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen([program, "server", *options, "--backend-store-uri", store], env=lean)
    try:
        while server.poll() is None and not answers(url):
            time.sleep(0.5)
        yield url
    finally:
        server.terminate()
        server.wait()


def answers(url: str) -> bool:
    """Whether the server is up."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main()
