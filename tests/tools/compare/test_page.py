"""The page in a browser: the slider moves, the menus change the pictures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.tools.compare.conftest import Report

playwright = pytest.importorskip("playwright.sync_api")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@pytest.fixture
def page(report: Report) -> Iterator[playwright.Page]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("requestfailed", lambda request: page.problems.append(request.url))
        page.goto((report.folder / "index.html").as_uri())
        yield page
        assert page.problems == []
        browser.close()


def edge(sheet: playwright.Locator) -> float:
    """Return where left meets right, 0..1 of the width, as it is drawn."""
    line, frame = sheet.locator(".line").bounding_box(), sheet.locator(".frame").bounding_box()
    return (line["x"] + line["width"] / 2 - frame["x"]) / frame["width"]


def clipped(sheet: playwright.Locator) -> str:
    return sheet.locator("img.left").evaluate("image => getComputedStyle(image).clipPath")


def test_slider_follows_the_mouse(page):
    sheet = page.locator(".sheet").first
    sheet.scroll_into_view_if_needed()
    assert edge(sheet) == pytest.approx(0.5, abs=0.01)
    before = clipped(sheet)
    box = sheet.locator(".frame").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 60, steps=4)
    page.mouse.up()
    assert edge(sheet) == pytest.approx(0.8, abs=0.02)
    assert clipped(sheet) != before


def test_slider_follows_the_keys_and_only_its_own_photo_changes(page):
    first, second = page.locator(".sheet").all()
    second.locator("input").focus()
    page.keyboard.press("Home")
    assert edge(second) == pytest.approx(0, abs=0.01)
    page.keyboard.press("End")
    assert edge(second) == pytest.approx(1, abs=0.01)
    assert edge(first) == pytest.approx(0.5, abs=0.01)


def test_left_picture_is_seen_left_of_the_line_and_right_picture_right_of_it(page):
    sheet = page.locator(".sheet").first
    sheet.scroll_into_view_if_needed()
    left = sheet.locator("img.left").evaluate("image => image.getBoundingClientRect().width")
    assert left == pytest.approx(sheet.locator(".frame").bounding_box()["width"], abs=1)
    assert clipped(sheet).startswith("inset(0px calc(50%") or clipped(sheet).startswith("inset(0px 50%")


def test_menus_change_pictures_and_captions(page):
    sheet = page.locator(".sheet").nth(1)
    for side in ("left", "right"):
        menu, image = sheet.locator(f".pick-{side}"), sheet.locator(f"img.{side}")
        for index in range(menu.locator("option").count()):
            menu.select_option(index=index)
            option = menu.locator("option").nth(index)
            assert sheet.locator(f".caption-{side}").inner_text() == option.get_attribute("data-caption")
            assert image.get_attribute("src") == option.get_attribute("value")
            page.wait_for_function("image => image.complete && image.naturalWidth === 200", arg=image.element_handle())


def test_plot_is_shown(page):
    assert page.locator("img.plot").evaluate("image => image.complete && image.naturalWidth > 300")


def test_page_fits_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
