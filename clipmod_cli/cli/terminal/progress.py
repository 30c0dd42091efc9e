"""How far a run is: a bar on a terminal, else one plain or JSON line now and then, on stderr."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TypeAlias

LINE_EVERY_S = 30.0
"""Often enough to see that a night's run lives, seldom enough for a log to stay readable."""

Style = Literal["auto", "plain", "json", "none"]

Received: TypeAlias = Callable[[], int]
"""Gives the bytes that have been downloaded so far."""


class RunProgress(Protocol):
    """Told of every result; never writes to stdout."""

    def advance(self, flagged: int, errors: int) -> None:
        """One more input is done; the numbers are those so far."""
        ...

    def set_total(self, total: int) -> None:
        """How many inputs there are, once that is known. Called by another thread."""
        ...

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """Step aside while something else is written to the same terminal."""
        ...

    def close(self) -> None:
        """Say no more."""
        ...


class NoProgress:
    """Says nothing."""

    def advance(self, flagged: int, errors: int) -> None:
        """Say nothing."""

    def set_total(self, total: int) -> None:
        """Say nothing."""

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """Step aside: there is nothing in the way."""
        return contextlib.nullcontext()

    def close(self) -> None:
        """Say nothing."""


class ProgressBar:
    """A tqdm bar with rate and, once the total is known, time left."""

    def __init__(self, done: int, received: Received | None = None) -> None:
        """Show the bar; `done` inputs were judged by an earlier run."""
        from tqdm import tqdm

        self._done = done
        self._received = received
        self._begun = time.monotonic()
        self._bar = tqdm(unit=" inputs", file=sys.stderr, dynamic_ncols=True, smoothing=0.1, initial=0)

    def advance(self, flagged: int, errors: int) -> None:
        """Move the bar."""
        shown = f"nsfw={flagged}, errors={errors}"
        if self._received is not None:
            shown += f", {amount(self._received(), time.monotonic() - self._begun)}"
        self._bar.set_postfix_str(shown, refresh=False)
        self._bar.update()

    def set_total(self, total: int) -> None:
        """Let the bar show a share and the time left."""
        self._bar.total = max(total - self._done, self._bar.n)
        self._bar.refresh()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Clear the bar's line for as long as the context lasts."""
        with self._bar.external_write_mode(file=sys.stderr):
            yield

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


class PlainLines:
    """One line now and then, for logs and machines. The first comes after the first interval."""

    def __init__(
        self, done: int, *, as_json: bool, every_s: float = LINE_EVERY_S, received: Received | None = None
    ) -> None:
        """Begin to count; `done` inputs were judged by an earlier run."""
        self._before = done
        self._received = received
        self._as_json = as_json
        self._every_s = every_s
        self._begun = self._said = time.monotonic()
        self._count = 0
        self._total: int | None = None

    def advance(self, flagged: int, errors: int) -> None:
        """Say a line if the last one is long enough ago."""
        self._count += 1
        now = time.monotonic()
        if now - self._said >= self._every_s:
            self._said = now
            print(self._line(now, flagged, errors), file=sys.stderr, flush=True)  # noqa: T201

    def set_total(self, total: int) -> None:
        """Let lines say how much is left."""
        self._total = total

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """Step aside: whole lines are never in the way."""
        return contextlib.nullcontext()

    def close(self) -> None:
        """Say no more."""

    def _line(self, now: float, flagged: int, errors: int) -> str:
        seconds = max(now - self._begun, 1e-9)
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
        came = ""
        if self._received is not None:
            size = self._received()
            facts |= {"received_bytes": size, "received_bytes_per_second": round(size / seconds)}
            came = f", {amount(size, seconds)}"
        if self._as_json:
            return json.dumps({"progress": facts})
        of = f" of {self._total}" if self._total is not None else ""
        left = f", {duration(left_s)} left" if left_s is not None else ""
        return f"clipmod: {done}{of} inputs, {flagged} nsfw, {errors} errors, {rate:.1f}/s{came}{left}"


def choose_progress(style: Style, *, quiet: bool, done: int, received: Received | None = None) -> RunProgress:
    """Return how progress is shown: `auto` is a bar where stderr is a terminal, else plain lines.

    Args:
        style: what was asked for.
        quiet: show nothing.
        done: inputs that an earlier run has judged.
        received: the bytes that have been downloaded so far, if there are downloads.
    """
    if quiet or style == "none":
        return NoProgress()
    if style == "auto" and sys.stderr.isatty():
        return ProgressBar(done, received)
    return PlainLines(done, as_json=style == "json", received=received)


def amount(size: int, seconds: float) -> str:
    """Return how much has come in a time, in bytes and seconds, as people read it: `412.0 MB, 3.2 MB/s`."""
    return f"{size / 1e6:.1f} MB, {size / 1e6 / max(seconds, 1e-9):.1f} MB/s"


def duration(seconds: float) -> str:
    """Return a time as people read it: `1 h 05 min`, `3 min 20 s`, `4.1 s`."""
    if seconds >= 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"
    if seconds >= 60:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    return f"{seconds:.1f} s"
