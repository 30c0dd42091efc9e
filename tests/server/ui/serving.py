"""The command as a process with the tiny models, and a person's visit to its page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, FilePayload, Locator, Page, Request, expect

from tests.end_to_end.command import SHAPES, TINY, TINY_ENSEMBLE
from tests.warm import warm

KEY = "a-key-that-is-long-enough"
PICTURES = TINY / "pictures"
PATIENCE_S = 60
WORDS = ("serve", "--policy", str(SHAPES), "--models", TINY_ENSEMBLE, "--port", "0", "--no-isolate")

expect.set_options(timeout=PATIENCE_S * 1000)


@contextmanager
def served_page(home: Path, *words: str, **variables: str) -> Iterator[str]:
    """Give the address of a service that runs as a process with a home of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CLIPMOD_", "HF_", "XDG_"))}
    folders = {f"XDG_{kind}_HOME": str(home / kind) for kind in ("DATA", "CONFIG", "CACHE")}
    warm(home / "CACHE")
    process = subprocess.Popen(
        [sys.executable, "-m", "clipmod_cli", *WORDS, *words, "--no-access-log", "--drain-s", "0"],
        env={**kept, **folders, "HOME": str(home), "HF_ENDPOINT": "http://127.0.0.1:9", **variables},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr:
        try:
            yield _address_in(process.stderr)
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143


def _address_in(lines: Any) -> str:
    said = ""
    for line in lines:
        said += line
        if match := re.search(r"listening at (http://\S+)", line):
            return match[1]
    raise AssertionError(said)


class Visit:
    """A page that is open, and everything that went wrong on it."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.faults: list[str] = []
        self._allowed: list[str] = []
        page.set_default_timeout(PATIENCE_S * 1000)
        page.on("console", lambda said: self._note(said.type in {"error", "warning"}, said.text))
        page.on("pageerror", lambda error: self._note(True, str(error)))
        page.on("dialog", lambda dialog: self._note(True, f"dialog: {dialog.message}"))
        page.on("request", self._check)
        page.on("filechooser", lambda _chooser: None)  # only who listens early sees them all

    def allow(self, text: str) -> None:
        """Take complaints with these words as they are meant."""
        self._allowed.append(text)

    def open(self) -> Page:
        """Open the page, and wait until it knows the service."""
        self.page.goto(f"{self.address}/ui")
        expect(self.page.locator("#limits")).to_contain_text("MB")
        return self.page

    def choose(self, *files: str | Path) -> None:
        """Choose files in the file dialog."""
        with self.page.expect_file_chooser() as chooser:
            self.page.locator("#choose").click()
        chooser.value.set_files([str(file) for file in files])

    def choose_made(self, made: dict[str, bytes]) -> None:
        """Choose files that are nowhere on the disk."""
        files = [FilePayload(name=n, mimeType="image/png", buffer=data) for n, data in made.items()]
        self.page.locator("#files").set_input_files(files)

    def finished(self, number: int) -> None:
        """Wait until all is done, and so many have a result."""
        word = "picture" if number == 1 else "pictures"
        expect(self.page.locator("#run-text")).to_have_text(re.compile(f"^{number} {word}: "))

    @property
    def cards(self) -> Locator:
        """The results."""
        return self.page.locator(".card")

    def card(self, name: str) -> Locator:
        """The result of one file."""
        return self.cards.filter(has=self.page.locator(".name").get_by_text(name, exact=True))

    def _note(self, wrong: bool, text: str) -> None:
        if wrong:
            self.faults.append(text)

    def _check(self, request: Request) -> None:
        here = request.url.startswith((f"{self.address}/", "blob:", "data:"))
        self._note(not here, f"a request elsewhere: {request.url}")

    @property
    def unexpected(self) -> list[str]:
        """What went wrong and was not meant to."""
        return [fault for fault in self.faults if not any(text in fault for text in self._allowed)]


@contextmanager
def visit(browser: Browser, address: str, **device: Any) -> Iterator[Visit]:
    """Give a visit with a profile of its own; nothing may have gone wrong on it in the end."""
    context = browser.new_context(accept_downloads=True, **device)
    try:
        one = Visit(context.new_page(), address)
        yield one
        assert one.unexpected == [], one.unexpected
    finally:
        context.close()
