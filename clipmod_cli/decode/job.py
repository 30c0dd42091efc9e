"""One input while it is decoded: its bytes, the options, and its media facts so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TypeAlias

from clipmod_cli.decode.formats import Format
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.types import Kind, Media, View

Gate: TypeAlias = Callable[[int], AbstractContextManager[None]]
"""Called with a number of pixels before they are decoded; blocks while too many are in flight."""


@dataclass(slots=True)
class MediaBuilder:
    """The fields of a `Media`, filled in while its input is read and decoded. Used by one thread."""

    started: float
    kind: Kind = "image"
    sha256: str | None = None
    bytes: int | None = None
    mtime_ns: int | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    truncated: bool = False
    duration_s: float | None = None

    def build(self) -> Media:
        """Return the facts so far."""
        return Media(**asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeJob:
    """The bytes of one input and everything that decoding them needs.

    Attributes:
        media: filled in on the way.
    """

    data: bytes
    format: Format
    views: Sequence[View]
    options: DecodeOptions
    media: MediaBuilder
    gate: Gate
