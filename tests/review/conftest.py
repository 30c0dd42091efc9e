"""The real command with its page in a real browser. Skipped where there is no Chromium."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response, expect

from tests.end_to_end.command import Command
from tests.end_to_end.conftest import clipmod
from tests.review.judged import file_line
from tests.server.ui.conftest import browser, chromium

__all__ = ["browser", "chromium", "clipmod"]

PATIENCE_S = 60
SETTLED = """
    (document.body.ariaBusy === 'false' || document.querySelector('dialog[open]') !== null)
        && [...document.images].every((one) => !one.src || one.complete)
"""


@dataclass
class ReviewVisit:
    """A page of a review, and everything that came to it."""

    page: Page
    process: subprocess.Popen[bytes]
    decisions: Path
    answers: list[Response] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What is shown."""
        return Path(self.page.locator("#name").inner_text()).name

    def press(self, *keys: str) -> None:
        """Press keys, each once the page has done what the one before asked for."""
        for key in keys:
            self.page.keyboard.press(key)
            self.settle()

    def settle(self) -> None:
        """Wait until the page has done what it was asked for, or asks something itself."""
        for _ in range(PATIENCE_S * 50):  # the page's policy forbids `wait_for_function`
            if self.page.evaluate(SETTLED):
                return
            self.page.wait_for_timeout(20)
        raise AssertionError("the page is busy")

    def counts(self, text: str) -> None:
        """Wait until the page says how far it is."""
        expect(self.page.locator("#counts")).to_contain_text(text)

    def of(self, path: str) -> list[Response]:
        """Return the answers to requests for this path."""
        return [one for one in self.answers if path in one.url]


@contextmanager
def started(clipmod: Command, folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Give the process of a review in a folder, and the link that it shows."""
    process = clipmod.start(
        ["review", "out.jsonl", "--decisions", "d.jsonl", *words], cwd=folder, stderr=subprocess.PIPE
    )
    try:
        yield process, link_in(process)
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def link_in(process: subprocess.Popen[bytes]) -> str:
    """Return the link that a review shows when it is ready."""
    said = b""
    assert process.stderr is not None
    for line in process.stderr:
        said += line
        if match := re.search(rb"http://127\.0\.0\.1:\d+/\?token=\S+", line):
            return match[0].decode()
    raise AssertionError(said.decode())


def ended(process: subprocess.Popen[bytes], number: int | None = None) -> int:
    """Return the exit code of a review, after a signal if one is given."""
    if number is not None:
        process.send_signal(number)
    return process.wait(timeout=PATIENCE_S)


Reviewed: TypeAlias = Callable[..., AbstractContextManager[ReviewVisit]]


@pytest.fixture
def reviewed(clipmod: Command, browser: Browser, tmp_path: Path) -> Reviewed:
    """Opens the page of a review over these files, which score from uncertain to certain."""

    @contextmanager
    def opened(
        files: Sequence[Path] = (), words: Sequence[str] = ("--audit", "0%"), **device: Any
    ) -> Iterator[ReviewVisit]:
        if files:
            lines = [file_line(one, 0.51 + 0.4 * at / len(files)) for at, one in enumerate(files)]
            (tmp_path / "out.jsonl").write_bytes(b"".join(lines))
        with started(clipmod, tmp_path, *words) as (process, link):
            context = browser.new_context(**device)
            visit = ReviewVisit(context.new_page(), process, tmp_path / "d.jsonl")
            watch(visit, link.partition("?")[0])
            visit.page.goto(link)
            visit.settle()
            yield visit
            close(context, visit)

    return opened


def watch(visit: ReviewVisit, here: str) -> None:
    """Note each answer, and what must not happen: complaints, and requests elsewhere."""
    page = visit.page
    page.set_default_timeout(PATIENCE_S * 1000)
    page.on("response", lambda answer: visit.answers.append(answer))  # noqa: PLW0108 - it sets an attribute
    page.on("pageerror", lambda error: visit.faults.append(str(error)))
    page.on(
        "console",
        lambda said: visit.faults.append(said.text) if said.type in {"error", "warning"} else None,
    )
    page.on(
        "request",
        lambda one: None if one.url.startswith((here, "data:")) else visit.faults.append(one.url),
    )


def close(context: BrowserContext, visit: ReviewVisit) -> None:
    """Close the page; nothing may have gone wrong on it."""
    context.close()
    assert visit.faults == []
    if visit.process.poll() is None:
        assert ended(visit.process, signal.SIGINT) == 130
