"""The error of a file whose metadata cannot be removed, and the limit of what is walked in one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from clipmod_cli.decode.contents.chunks import MAX_CHUNKS

T = TypeVar("T")


class UnstrippableError(ValueError):
    """A file whose metadata cannot be removed: of a format that is not known here, or damaged."""


def limited(parts: Iterable[T], most: int = MAX_CHUNKS) -> Iterator[T]:
    """Yield the parts of a file.

    Raises:
        UnstrippableError: there are more than `most`, which only hostile files have.
    """
    walked = iter(parts)
    yield from islice(walked, most)
    if next(walked, None) is not None:
        raise UnstrippableError("it has too many parts")
