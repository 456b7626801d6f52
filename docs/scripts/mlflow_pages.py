"""The screenshots of docs/mlflow.md: MLflow's own pages on a store that holds a study.

    python docs/scripts/mlflow_pages.py sqlite:///mlflow.db docs/screenshots --study demo

Needs Chromium on the PATH.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow import MlflowClient
from PIL import Image
from playwright.sync_api import Page, sync_playwright

DESKTOP, PHONE = (1440, 810), (390, 844)
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
    given.output.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(given.store)
    experiments = [found.experiment_id for found in client.search_experiments()]
    query = f"tags.study = '{given.study}'"
    runs = client.search_runs(experiments, query, order_by=["metrics.num_params"])
    children = [run for run in runs if "kind" not in run.data.tags]
    with served(given.store) as url, sync_playwright() as playwright:
        program = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        site = f"{url}/#/experiments/{children[0].info.experiment_id}"
        for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
            page = browser.new_page(viewport={"width": size[0], "height": size[1]})
            page.set_default_timeout(PATIENCE)
            remember(page, children[0])
            (on_desktop if name == "desktop" else on_phone)(page, url, site, children, given)
        browser.close()


def on_desktop(page: Page, url: str, site: str, runs: list[Any], given: Any) -> None:
    """The list of runs, their charts, two compared, one's machine and its model."""
    largest, smallest = runs[-1], runs[0]
    mode = "workflowType=machine_learning"
    page.goto(f"{site}/runs?{mode}")
    page.get_by_text(smallest.info.run_name).first.wait_for()
    shoot(page, given.output / "runs.png")
    query = quote(f"tags.study = '{given.study}' and metrics.num_params > 0")
    page.goto(f"{site}/runs?{mode}&compareRunsMode=CHART&searchFilter={query}")
    page.get_by_placeholder("Search metric charts").fill("val/(nats|top1)$")
    shoot(page, given.output / "charts.png")
    ids = json.dumps([smallest.info.run_id, largest.info.run_id])
    experiments = json.dumps([smallest.info.experiment_id])
    page.goto(f"{url}/#/compare-runs?runs={ids}&experiments={experiments}&{mode}")
    page.get_by_text("Show diff only").first.click()
    page.get_by_text("Run details").evaluate("found => found.scrollIntoView()")
    shoot(page, given.output / "compare.png")
    page.goto(f"{site}/runs/{smallest.info.run_id}/system-metrics?{mode}")
    page.get_by_text("cpu_utilization").first.wait_for()
    shoot(page, given.output / "system.png")
    (model,) = smallest.outputs.model_outputs
    page.goto(f"{site}/models/{model.model_id}?{mode}")
    page.get_by_text("About this logged model").wait_for()
    shoot(page, given.output / "model.png")


def on_phone(page: Page, url: str, site: str, runs: list[Any], given: Any) -> None:
    """A run's page."""
    page.goto(f"{site}/runs/{runs[0].info.run_id}?workflowType=machine_learning")
    page.get_by_text("About this run").wait_for()
    page.get_by_role("button", name="Toggle sidebar").click()
    shoot(page, given.output / "run-phone.png")


def remember(page: Page, run: Any) -> None:
    """The list's columns, the study unfolded, charts over FLOPs, the assistant closed: as the
    browser of somebody who has clicked so keeps them."""
    experiment, parent = run.info.experiment_id, run.data.tags["mlflow.parentRunId"]
    key = f'MLflowLocalStorage-1.1-ExperimentPage-["{experiment}"]-ReactComponentState'
    kept = {f"mlflow.assistant.{name}_v1": value for name, value in ASSISTANT.items()}
    axis = {"xAxisKey": "metric", "selectedXAxisMetricKey": "log10_flops", "lineSmoothness": 0}
    seen = {"selectedColumns": COLUMNS, "runsExpanded": {parent: True}}
    kept[key] = json.dumps(seen | {"globalLineChartConfig": axis})
    page.add_init_script(
        f"for (const [k, v] of Object.entries({json.dumps(kept)})) localStorage.setItem(k, v)"
    )


def shoot(page: Page, path: Path) -> None:
    """A screenshot of what is in sight, in 64 colours."""
    time.sleep(SETTLE)
    page.screenshot(path=path)
    with Image.open(path) as image:
        image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


@contextmanager
def served(store: str) -> Iterator[str]:
    """MLflow's server on ``store``, for this machine alone; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program, url = Path(sys.executable).with_name("mlflow"), f"http://127.0.0.1:{port}"
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    server = subprocess.Popen([program, "server", *options, "--backend-store-uri", store])
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
