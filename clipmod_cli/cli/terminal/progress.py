"""Progress of a run and of downloads on stderr: a bar on a terminal, else a line every 30 seconds."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, Literal, TypeAlias

from clipmod_cli.cli.terminal.stdout import say

LINE_EVERY_S = 30.0
"""Often enough to show that a long run is alive, and a log stays readable."""

NOT_OF_A_LIBRARY: Final = {"disable": False}
"""Bars of libraries are disabled by a variable (`silence_libraries`)."""

Style = Literal["auto", "plain", "json", "none"]

Received: TypeAlias = Callable[[], int]
"""Returns the bytes downloaded so far."""


class RunProgress:
    """Progress of a run. This base class shows nothing; none writes to stdout."""

    parts = ""
    """How many parts are done, as text: `12 of 50 parts`; empty where there are none."""

    def advance(self, flagged: int, errors: int, count: int = 1) -> None:
        """Count more inputs; the other numbers are those so far."""

    def set_total(self, total: int) -> None:
        """Set the number of inputs, once it is known. Called by another thread."""

    def hidden(self) -> AbstractContextManager[None]:
        """Return a context in which something else can be written to the same terminal."""
        return contextlib.nullcontext()

    def close(self) -> None:
        """Stop showing progress."""


class ProgressBar(RunProgress):
    """A tqdm bar with rate and, once the total is known, time left."""

    def __init__(self, done: int, received: Received | None = None) -> None:
        """Show the bar; `done` inputs were judged by an earlier run."""
        from tqdm import tqdm

        self._done = done
        self._received = received
        self._start = time.monotonic()
        self._bar = tqdm(
            unit=" inputs", file=sys.stderr, dynamic_ncols=True, smoothing=0.1, **NOT_OF_A_LIBRARY
        )

    def advance(self, flagged: int, errors: int, count: int = 1) -> None:
        """Move the bar."""
        shown = f"nsfw={flagged}, errors={errors}"
        if self.parts:
            shown += f", {self.parts}"
        if self._received is not None:
            shown += f", {amount(self._received(), time.monotonic() - self._start)}"
        self._bar.set_postfix_str(shown, refresh=False)
        self._bar.update(count)

    def set_total(self, total: int) -> None:
        """Set the bar's length."""
        self._bar.total = max(total - self._done, self._bar.n)
        self._bar.refresh()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Clear the bar's line while the context lasts."""
        with self._bar.external_write_mode(file=sys.stderr):
            yield

    def close(self) -> None:
        """Leave the bar on the screen."""
        self._bar.close()


class PlainLines(RunProgress):
    """One plain or JSON line at an interval, the first one after the first interval."""

    def __init__(
        self, done: int, *, as_json: bool, every_s: float = LINE_EVERY_S, received: Received | None = None
    ) -> None:
        """Start to count; `done` inputs were judged by an earlier run."""
        self._before = done
        self._received = received
        self._as_json = as_json
        self._every_s = every_s
        self._start = self._last_line = time.monotonic()
        self._count = 0
        self._total: int | None = None

    def advance(self, flagged: int, errors: int, count: int = 1) -> None:
        """Print a line if the interval is over."""
        self._count += count
        now = time.monotonic()
        if now - self._last_line >= self._every_s:
            self._last_line = now
            say(self._line(now, flagged, errors))

    def set_total(self, total: int) -> None:
        """Set the total, from which lines show the time left."""
        self._total = total

    def _line(self, now: float, flagged: int, errors: int) -> str:
        seconds = max(now - self._start, 1e-9)
        rate = self._count / seconds
        done = self._before + self._count
        left_s = None if self._total is None else max(0, self._total - done) / rate
        facts: dict[str, Any] = {
            "done": done,
            "total": self._total,
            "nsfw": flagged,
            "errors": errors,
            "per_second": round(rate, 2),
            "left_s": None if left_s is None else round(left_s),
        }
        if self.parts:
            facts["parts"] = self.parts
        downloaded = ""
        if self._received is not None:
            size = self._received()
            facts |= {"received_bytes": size, "received_bytes_per_second": round(size / seconds)}
            downloaded = f", {amount(size, seconds)}"
        if self._as_json:
            return json.dumps({"progress": facts})
        of = f" of {self._total}" if self._total is not None else ""
        left = f", {duration(left_s)} left" if left_s is not None else ""
        parts = f", {self.parts}" if self.parts else ""
        counts = f"{flagged} nsfw, {errors} errors"
        return f"clipmod: {done}{of} inputs{parts}, {counts}, {rate:.1f}/s{downloaded}{left}"


def choose_progress(
    style: Style, *, quiet: bool, piped: bool = False, done: int, received: Received | None = None
) -> RunProgress:
    """Return the progress display; `auto` is a bar if stderr is a terminal, else plain lines.

    Args:
        style: of the settings.
        quiet: show nothing.
        piped: another program reads stdout; a bar would overwrite the lines that it prints.
        done: inputs that an earlier run has judged.
        received: returns the bytes downloaded so far; None if there are no downloads.
    """
    if quiet or style == "none":
        return RunProgress()
    if style == "auto" and sys.stderr.isatty() and not piped:
        return ProgressBar(done, received)
    return PlainLines(done, as_json=style == "json", received=received)


def silence_libraries() -> None:
    """Disable the progress bars of libraries; call it before they are imported."""
    os.environ.update(TQDM_DISABLE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")


class DownloadBar(AbstractContextManager["DownloadBar"]):
    """Shows one file at a time (`models.hub.client.DownloadProgress`)."""

    def __init__(self, *, quiet: bool) -> None:
        """Show nothing yet."""
        self._quiet = quiet
        self._name: str | None = None
        self._bar: Any = None
        self._last_line = time.monotonic()

    def advance(self, name: str, done: int, total: int) -> None:
        """Show that `done` of `total` bytes of a file are downloaded."""
        if self._quiet:
            return
        if name != self._name:
            self._start(name, done, total)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
        elif done >= total or time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._last_line = time.monotonic()
            say(f"clipmod: {name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")

    def say(self, sentence: str) -> None:
        """Show a sentence."""
        if not self._quiet:
            self._close()
            say(f"clipmod: {sentence}")

    def __exit__(self, *_: object) -> None:
        """Leave the bar on the screen."""
        self._close()

    def _start(self, name: str, done: int, total: int) -> None:
        self._close()
        self._name = name
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                desc=name, initial=done, total=total, unit="B", unit_scale=True, file=sys.stderr,
                **NOT_OF_A_LIBRARY,
            )  # fmt: skip

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = self._name = None


def amount(size: int, seconds: float) -> str:
    """Return downloaded bytes and their rate over a time as text: `412.0 MB, 3.2 MB/s`."""
    return f"{size / 1e6:.1f} MB, {size / 1e6 / max(seconds, 1e-9):.1f} MB/s"


def counted(number: int, noun: str) -> str:
    """Return a number with what it counts: `1 input`, `2 inputs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a time as text: `1 h 05 min`, `3 min 20 s`, `4.1 s`."""
    if seconds >= 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"
    if seconds >= 60:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    return f"{seconds:.1f} s"
