"""How a download tells that it moves; drawing it is the front end's business."""

from __future__ import annotations

from typing import Protocol


class DownloadProgress(Protocol):
    """What a download calls, from the thread that called for the download."""

    def advance(self, name: str, done: int, total: int) -> None:
        """`done` of `total` bytes of the file `name` are here."""
        ...

    def say(self, sentence: str) -> None:
        """Something happened that a person wants to know."""
        ...


class SilentProgress:
    """Tells nobody."""

    def advance(self, name: str, done: int, total: int) -> None:
        """Do nothing."""

    def say(self, sentence: str) -> None:
        """Do nothing."""


SILENT = SilentProgress()
