"""What a measurement is asked for, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clipmod_cli.errors import UsageError
from clipmod_cli.settings import Settings

SIZE: Final = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
DEFAULT_SIZE: Final = "1280x853"
MAX_PIXELS: Final = 50_000_000
"""More is refused by decoding too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a measurement is asked for.

    Attributes:
        random_weights: no weights are looked for.
        folder: own pictures; None has some drawn.
        count: pictures in an end-to-end run; None takes as many as there is time for.
        size: (width, height) of drawn pictures.
        repeats: of each measurement.
    """

    settings: Settings
    random_weights: bool
    folder: Path | None
    count: int | None
    size: tuple[int, int]
    repeats: int


def read_size(text: str) -> tuple[int, int]:
    """Return the (width, height) in a text such as 1280x853.

    Raises:
        UsageError: if it is none, or too large.
    """
    found = SIZE.fullmatch(text)
    if found is None:
        raise UsageError(f"--size {text!r} is not WIDTHxHEIGHT, as in {DEFAULT_SIZE}")
    width, height = int(found[1]), int(found[2])
    if width * height > MAX_PIXELS:
        raise UsageError(f"--size {text} is more than {MAX_PIXELS // 10**6} megapixels")
    return width, height


def check_count(value: int | None, flag: str) -> None:
    """Refuse a count that is not above 0.

    Raises:
        UsageError: naming the flag.
    """
    if value is not None and value < 1:
        raise UsageError(f"{flag} {value} is below 1")
