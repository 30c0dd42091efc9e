"""The report in a real browser. Skipped where there is no Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page

from tests.end_to_end.command import Command
from tests.reading.conftest import all_lines
from tests.reading.test_report import HOSTILE, PICTURES, record_of
from tests.server.ui.conftest import browser, chromium

__all__ = ["browser", "chromium"]

NAMES = ("red-circle.jpg", "two  spaces .webp", "ünï.gif", HOSTILE)
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def report(clipmod: Command, tmp_path: Path) -> Path:
    """A report of four pictures and of ten inputs that are not here."""
    lines = []
    for index, (name, made) in enumerate(zip(NAMES, sorted(PICTURES.iterdir()), strict=False)):
        shutil.copy(made, tmp_path / name)
        lines.append(record_of(tmp_path / name, index))
    (tmp_path / "out.jsonl").write_bytes(b"".join([*lines, *all_lines()]))
    page = tmp_path / "sheet.html"
    assert clipmod("report", tmp_path / "out.jsonl", "-o", page).code == 0
    return page


@contextmanager
def opened(browser: Browser, report: Path, **how: Any) -> Iterator[Page]:
    """Give the page in a browser without script; it must ask for nothing and break no rule of its own."""
    context = browser.new_context(java_script_enabled=False, **how)
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(report.as_uri())
    yield page
    assert [url[:40] for url in asked if not url.startswith("data:image/jpeg")] == [report.as_uri()[:40]]
    assert said == []
    context.close()


def tick(page: Page, name: str) -> Locator:
    return page.get_by_role("checkbox", name=name)


def listed(page: Page) -> list[str]:
    """Return the lines that one click on the list selects."""
    page.locator("main").click()
    return str(page.evaluate("getSelection().toString()")).splitlines()


def test_ticking_gives_a_list_to_copy(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        folder = report.parent
        page.get_by_label("List: ticked").check()
        assert page.get_by_text("Nothing is ticked yet.").is_visible()
        page.get_by_label("Sheet").check()
        for name in NAMES:
            tick(page, str(folder / name)).check()
        page.get_by_label("List: ticked").check()
        assert sorted(listed(page)) == sorted(str(folder / name) for name in NAMES)
        page.get_by_label("List: others").check()
        others = listed(page)
        assert "photos/0.jpg" in others
        assert not {str(folder / name) for name in NAMES} & set(others)
        page.get_by_role("button", name="Untick all").click()
        assert page.get_by_role("heading", name="What clipmod found").is_visible()
        assert not page.get_by_role("checkbox", checked=True).count()


def test_a_name_that_is_no_line_of_text_is_not_listed(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        assert (
            page.get_by_text("cannot be copied as text").count() == 2
        )  # a newline, a byte that is not UTF-8
        page.get_by_label("List: others").check()
        assert not [line for line in listed(page) if "\\" in line]


def test_the_keyboard_is_enough(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        tick(page, str(report.parent / NAMES[0])).focus()
        page.keyboard.press("Space")
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.locator("input[value=sheet]:focus").count():
                break
        page.keyboard.press("ArrowRight")
        assert page.get_by_label("List: ticked").is_checked()
        assert listed(page) == [str(report.parent / NAMES[0])]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(browser: Browser, report: Path, scheme: Any) -> None:
    with opened(browser, report, viewport=PHONE, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        ground, ink = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        dark = [sum(map(int, colour[4:-1].split(","))) < 300 for colour in (ground, ink)]
        assert dark == ([True, False] if scheme == "dark" else [False, True])


def test_thumbnails_are_shown(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        pictures = page.get_by_role("img", name="blurred thumbnail")
        assert pictures.count() == len(NAMES)
        for picture in pictures.all():
            picture.scroll_into_view_if_needed()
        widths = page.evaluate("[...document.images].map(picture => picture.naturalWidth)")
        assert min(widths) > 100


def test_paper_has_no_bar(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        page.emulate_media(media="print")
        assert not page.get_by_role("button", name="Untick all").is_visible()
        assert page.get_by_role("heading", name="What clipmod found").is_visible()
