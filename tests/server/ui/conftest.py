"""The page in a real browser, over the real command as a process. Skipped where there is no Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.server.ensemble.test_choosing import SQUARES
from tests.server.ui.serving import KEY, Visit, served_page, visit

NAMES = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of this machine's Chromium."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    return found


# Of one module and no longer: as long as Playwright is open, its loop runs in this thread.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, headless=True, args=SWITCHES)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[str]:
    """Where a service without keys answers, by whose second policy blue squares are NSFW."""
    home = tmp_path_factory.mktemp("home")
    squares = home / "squares.toml"
    squares.write_text(SQUARES, encoding="utf-8")
    with served_page(home, "--allow-policy", str(squares)) as found:
        yield found


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[str]:
    """Where a service that wants a key and keeps nothing answers."""
    home = tmp_path_factory.mktemp("locked")
    with served_page(home, "--no-db", "--no-hosting", CLIPMOD_API_KEYS=KEY) as found:
        yield found


@pytest.fixture
def desk(browser: Browser, address: str) -> Iterator[Visit]:
    """A person at a desk, before the page."""
    with visit(browser, address) as one:
        yield one


@pytest.fixture
def phone(browser: Browser, address: str) -> Iterator[Visit]:
    """A person with a phone, in the dark."""
    with visit(browser, address, viewport=PHONE, is_mobile=True, has_touch=True, color_scheme="dark") as one:
        yield one


@pytest.fixture
def stranger(browser: Browser, locked: str) -> Iterator[Visit]:
    """A person before a service that wants a key."""
    with visit(browser, locked) as one:
        one.allow("401")
        yield one


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to put pictures into."""
    made = tmp_path / "holiday"
    made.mkdir()
    return made
