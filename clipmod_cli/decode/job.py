"""One input while it is decoded: its bytes, the options, its media facts so far, and its sampled frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.decode.formats import Format
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.results import BankDecision
from clipmod_cli.types import Geometry, Media, ViewInputs

Gate: TypeAlias = Callable[[int], AbstractContextManager[None]]
"""Called with a number of pixels before they are decoded; blocks while too many are in flight."""


Compare: TypeAlias = Callable[[str], BankDecision | None]
"""Called with the SHA-256 of an input before it is decoded; returns what banks decide, None if nothing."""


class KnownContentError(Exception):
    """Ends the decoding of an input whose content is in a bank."""

    def __init__(self, by: BankDecision) -> None:
        """Keep what the banks decide."""
        super().__init__(by.decided_by)
        self.by = by


Shot: TypeAlias = tuple[int, float, ViewInputs]
"""(number, time in seconds, view) of one view of a sampled frame."""


PixelTest: TypeAlias = Callable[[NDArray[np.uint8]], bool]
"""Called with the stored pixels of a picture, uint8 `(h, w, 3)`."""


def in_no_bank(_sha256: str) -> None:
    """Return None: nothing is compared."""


def any_picture(_pixels: NDArray[np.uint8]) -> bool:
    """Return True: every picture is shown to the models."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeJob:
    """The bytes of one input and everything that decoding them needs.

    Attributes:
        media: filled in on the way.
        compare: called with the SHA-256 of the whole input; never with that of a part of it.
        is_wanted: called with each reading of the first picture; returns whether it is shown to the models.
        most_scale: the most by which a JPEG's sides are divided.
    """

    data: bytes
    format: Format
    geometries: Sequence[Geometry]
    options: DecodeOptions
    media: Media
    gate: Gate
    compare: Compare = in_no_bank
    most_scale: int = 8
    is_wanted: PixelTest = any_picture

    def note_hash(self, sha256: str) -> None:
        """Note the SHA-256 of the input.

        Raises:
            KnownContentError: banks decide.
        """
        self.media.sha256 = sha256
        if (by := self.compare(sha256)) is not None:
            raise KnownContentError(by)
