"""Download progress on stderr: a bar on a terminal, else a plain line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

from clipmod_cli.cli.terminal.progress import LINE_EVERY_S
from clipmod_cli.cli.terminal.summary import say


class DownloadBar:
    """Shows one file at a time (`models.hub.progress.DownloadProgress`)."""

    def __init__(self, *, quiet: bool) -> None:
        """Show nothing yet."""
        self._quiet = quiet
        self._name: str | None = None
        self._bar: Any = None
        self._said = time.monotonic()

    def advance(self, name: str, done: int, total: int) -> None:
        """Show that `done` of `total` bytes of a file are here."""
        if self._quiet:
            return
        if name != self._name:
            self._begin(name, done, total)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
        elif done >= total or time.monotonic() - self._said >= LINE_EVERY_S:
            self._said = time.monotonic()
            say(f"clipmod: {name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")

    def say(self, sentence: str) -> None:
        """Show a sentence."""
        if not self._quiet:
            self._close()
            say(f"clipmod: {sentence}")

    def _begin(self, name: str, done: int, total: int) -> None:
        self._close()
        self._name = name
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(desc=name, initial=done, total=total, unit="B", unit_scale=True, file=sys.stderr)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = self._name = None

    def __enter__(self) -> Self:
        """Begin to show."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it stands."""
        self._close()
