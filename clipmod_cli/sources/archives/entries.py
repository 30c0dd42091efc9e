"""What the readers of the archive formats give: one entry after the other, not yet read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from clipmod_cli.sources.archives.streams import PieceStream

MAX_NAME_BYTES = 4096
"""No file system takes a longer path; a name of megabytes would be written into every record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveEntry:
    """One entry of an archive.

    Attributes:
        name: as text; what is not UTF-8 holds surrogate escapes. Never a path of this machine.
        kind: `link` has no content of its own, or should not have; `other` is a device or a pipe.
        size: the declared length in bytes, None if nothing is declared.
        whole: it is all that its archive holds, and so the user meant it by the archive's own name.
        open: gives the content; read before the next entry is asked for. Raises ItemError.
    """

    name: str
    kind: Literal["file", "folder", "link", "other"]
    size: int | None
    open: Callable[[], PieceStream]
    whole: bool = False


def clean_name(raw: bytes) -> bytes:
    """Return a name as programs see it: up to its first NUL, and of a length that a path may have."""
    return raw.partition(b"\0")[0][:MAX_NAME_BYTES]
