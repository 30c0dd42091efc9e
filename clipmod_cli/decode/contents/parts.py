"""What is found in a file: parts that can be decoded, and whether there is more than those."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from clipmod_cli.decode.formats import Format
from clipmod_cli.decode.reading.boxes import Read, Span

Role: TypeAlias = Literal["preview", "map"]
"""What a file declares a picture to be: the same one again (thumbnail, preview, the still of a sequence), or
data about it (gain map, depth map, alpha)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A further picture or film in a file.

    Attributes:
        offset: where it begins in the file.
        length: in bytes.
        format: what it is decoded as.
        role: what the file declares it to be; None where nothing is declared.
        patches: (offset in the part, bytes) that are written over a copy of it, so that a decoder shows
            another picture than the file's first: the primary item's number, the first page's place.
    """

    offset: int
    length: int
    format: Format
    role: Role | None = None
    patches: tuple[tuple[int, bytes], ...] = ()

    @property
    def end(self) -> int:
        """Where it ends in the file."""
        return self.offset + self.length

    def within(self, offset: int) -> Part:
        """Return the part as it lies in a file that holds this file at `offset`."""
        return replace(self, offset=self.offset + offset)

    def read_from(self, read: Read) -> bytes:
        """Return the bytes to decode."""
        found = read(self.offset, self.length)
        if not self.patches:
            return found
        copy = bytearray(found)
        for at, written in self.patches:
            copy[at : at + len(written)] = written
        return bytes(copy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The structure of a file, as its own format has it.

    Attributes:
        end: where the structure ends; what follows is trailing bytes.
        hidden: spans inside it that hold no pixels of the file's own picture: metadata, unknown chunks.
        parts: further pictures that the structure itself declares.
        roles: declared roles by offset, of pictures that are found by their signatures.
        trailing_role: of all others behind the end.
        unread: it holds pictures that are not decoded.
    """

    end: int
    hidden: tuple[Span, ...] = ()
    parts: tuple[Part, ...] = ()
    roles: tuple[tuple[int, Role], ...] = ()
    trailing_role: Role | None = None
    unread: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a file holds beside its own picture or film.

    Attributes:
        parts: to be decoded as further frames.
        unread: there is more, which is not decoded (`other_content`).
    """

    parts: tuple[Part, ...] = ()
    unread: bool = False
