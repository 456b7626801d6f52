"""A fit's report on a phone: nothing stands on its figures' titles, and its axes can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from agent_scaling.scaling.fit import analyse
from agent_scaling.scaling.report.page import write_report
from agent_scaling.scaling.runs.table import tidy
from tests.scaling.synthetic import known_cells

pytestmark = pytest.mark.browser


def test_a_finger_has_no_mode_bar_and_axes_of_flops_have_marks(page: Page, tmp_path: Path) -> None:
    runs = tidy(known_cells(0.02, 4, budgets=4, sizes=4), "test")
    fitted = {"origin": {"source": "csv", "path": "runs.csv"}}
    fitted |= analyse(runs, [3e17], bootstraps=0, seed=0)
    address = write_report(runs, fitted, tmp_path).as_uri()
    browser = page.context.browser
    assert browser
    with browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True) as context:
        shown = context.new_page()
        shown.goto(address)
        figure = shown.locator("#laws-optimum_loss")
        expect(figure.locator(".main-svg").first).to_be_visible()
        expect(figure.locator(".modebar")).to_have_count(0)
        marks = figure.locator(".xtick text").all_text_contents()
        assert {"1e14", "1e15", "1e16", "1e17"} <= set(marks)
        assert shown.evaluate("document.documentElement.scrollWidth") == 390


def test_a_figure_is_as_wide_as_the_page_and_can_be_saved(page: Page, tmp_path: Path) -> None:
    runs = tidy(known_cells(0.02, 4, budgets=4, sizes=4), "test")
    fitted = {"origin": {"source": "csv", "path": "runs.csv"}}
    fitted |= analyse(runs, [3e17], bootstraps=0, seed=0)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(write_report(runs, fitted, tmp_path).as_uri())
    figure = page.locator("#profiles-loss")
    expect(figure.locator(".main-svg").first).to_be_visible()
    box = figure.bounding_box()
    assert box
    assert box["width"] > 1000
    for kind, start in (("svg", b"<svg"), ("png", b"\x89PNG")):
        with page.expect_download() as saved:
            page.locator(f'[data-save="profiles-loss"][data-kind="{kind}"]').click()
        assert saved.value.suggested_filename == f"profiles-loss.{kind}"
        assert Path(saved.value.path()).read_bytes().startswith(start)
