"""The seam `ConditionalBucket`: what a run in parts needs of an object store. One implementation a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Final, Literal, Protocol, TypeAlias

from clipmod_cli.sources.stores.base import ObjectStore

ABSENT: Final = ""
"""In place of a tag: the condition that there is no object of this key."""

PIECE_BYTES: Final = 64_000_000
"""Of an upload in pieces, and the largest file of a single request: a piece is in memory while it is sent."""

WRITER: Final = "clipmod-writer"
"""The object metadata that tells who has sent a conditional write."""

Written: TypeAlias = Literal["yes", "no", "conflict"]
"""Whether a conditional write took place; `conflict`: not now, since another one was in progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHead:
    """What is known of an object without its content.

    Attributes:
        writer: what its conditional write was sent with; None of another write.
        age_s: seconds since it was written, by the store's clock.
    """

    writer: str | None
    age_s: float


class ConditionalBucket(Protocol):
    """A bucket whose writes may depend on what is there. Methods raise what the store's client raises.

    Any thread may call any method.

    Attributes:
        scheme: of its names, as `s3`.
    """

    scheme: str

    @property
    def objects(self) -> ObjectStore:
        """Its listings, and reading of objects by piece."""
        ...

    def read(self, key: str) -> tuple[bytes, str] | None:
        """Return the whole content and the tag of this version; None if there is no such object."""
        ...

    def head(self, key: str) -> ObjectHead | None:
        """Return what is known of an object; None if there is none."""
        ...

    def write(self, key: str, content: bytes, *, only_if: str | None = None, writer: str = "") -> Written:
        """Write an object whole.

        Args:
            key: its name.
            content: of the object.
            only_if: write only if the object has this tag, or is `ABSENT`; None to write in any case.
            writer: what `head` tells afterwards.
        """
        ...

    def upload(self, key: str, file: IO[bytes], size: int) -> None:
        """Write an object of more than `PIECE_BYTES` in pieces; it appears whole or not at all."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object; no error if there is none."""
        ...

    def condition_name(self, only_if: str) -> str:
        """Return the store's own name for a condition."""
        ...
