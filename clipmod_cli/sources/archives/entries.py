"""The entries that the readers of the archive formats yield."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from clipmod_cli.sources.archives.streams import PieceStream

MAX_NAME_BYTES = 4096
"""No file system allows a longer path; a name of megabytes would be written into every record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveEntry:
    """One entry of an archive, not read yet.

    Attributes:
        name: as text; what is not UTF-8 holds surrogate escapes. Never a path of this machine.
        kind: `link` should have no content of its own; `other` is a device or a pipe.
        size: the declared length in bytes, None if nothing is declared.
        whole: it is the only content of a compressed file, so no filter applies to it.
        open: returns the content, to be read before the next entry. Raises ItemError.
    """

    name: str
    kind: Literal["file", "folder", "link", "other"]
    size: int | None
    open: Callable[[], PieceStream]
    whole: bool = False


def clean_name(raw: bytes) -> bytes:
    """Return a name up to its first NUL, at most `MAX_NAME_BYTES` long."""
    return raw.partition(b"\0")[0][:MAX_NAME_BYTES]
