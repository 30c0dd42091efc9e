"""One input while it is decoded: its bytes, the options, its media facts so far, and its sampled frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeAlias

from clipmod_cli.decode.formats import Format
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.types import Geometry, Media, ViewInputs

Gate: TypeAlias = Callable[[int], AbstractContextManager[None]]
"""Called with a number of pixels before they are decoded; blocks while too many are in flight."""


Shot: TypeAlias = tuple[int, float, ViewInputs]
"""(number, time in seconds, view) of one view of a sampled frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeJob:
    """The bytes of one input and everything that decoding them needs.

    Attributes:
        media: filled in on the way.
        most_scale: the most by which a JPEG's sides are divided.
    """

    data: bytes
    format: Format
    geometries: Sequence[Geometry]
    options: DecodeOptions
    media: Media
    gate: Gate
    most_scale: int = 8
