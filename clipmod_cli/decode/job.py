"""One input on its way through decoding: what is to be done with it, and what has been learnt of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TypeAlias, TypedDict, Unpack

from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.types import Kind, Media, View

Gate: TypeAlias = Callable[[int], AbstractContextManager[None]]
"""Is asked with a number of pixels before they are decoded; holds the caller while too many are in flight."""


class MediaFields(TypedDict, total=False):
    """The fields of `Media` that decoding fills in."""

    kind: Kind
    sha256: str
    bytes: int
    mtime_ns: int | None
    width: int
    height: int
    format: str
    truncated: bool
    duration_s: float


class MediaBuilder:
    """A `Media` that grows while its input is read and decoded. Used by one thread."""

    def __init__(self, started: float) -> None:
        self.media = Media(started=started)

    def learn(self, **facts: Unpack[MediaFields]) -> None:
        """Write down what is now known."""
        self.media = replace(self.media, **facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeJob:
    """The bytes of one input, and all that decoding them needs.

    Attributes:
        name: of their format, as `formats.sniff` gives it.
        notes: where what is learnt on the way is written down.
    """

    data: bytes
    name: str
    views: Sequence[View]
    options: DecodeOptions
    notes: MediaBuilder
    gate: Gate
