"""The walk through an archive and those nested in it: which entries are inputs, and their bytes.

`clipmod_cli.sources.archives.items` opens files and handles errors that end the outermost archive.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import BinaryIO

from clipmod_cli.decode.formats import HEAD_BYTES, format_by_extension, sniff
from clipmod_cli.decode.reading.boxes import iso_format
from clipmod_cli.decode.unread import UNREAD_HEAD_BYTES, UNREAD_SKIPPED, sniff_unread, unread_format
from clipmod_cli.errors import ErrorCode, ItemError
from clipmod_cli.sources.archives.limits import ArchiveBudget, ContainerError, RatioMeter
from clipmod_cli.sources.archives.streams import ArchiveEntry, FileWindow, PieceStream, unpacked
from clipmod_cli.sources.archives.tar_reader import TarReader
from clipmod_cli.sources.archives.zip_reader import zip_entries

SEPARATOR = "!/"
"""Between a nested archive's name and its member's, as in the URLs of Java and of Commons VFS."""

COMPRESSED_SUFFIXES = frozenset({".gz", ".bz2", ".xz", ".zst"})
"""Removed from the name of a compressed file for the name of its content."""


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A member that is or may be an input, or why it cannot be read; nameless, why the archive cannot."""

    name: str | None
    data: bytes = field(default=b"", repr=False)
    error: ItemError | None = None


def lost(name: str | None, code: ErrorCode, message: str) -> ArchiveMember:
    """Return the result for a member, or an archive, that cannot be read."""
    return ArchiveMember(name, error=ItemError(code, message))


def archive_kind(head: bytes) -> str | None:
    """Return the archive format of a file that begins with `head`, None if it is not an archive."""
    known = sniff(head)
    return known.name if known is not None and known.kind == "archive" else None


@dataclass(frozen=True, slots=True)
class Container:
    """An open archive, the outermost or a nested one; its `file` is to be closed. Used by one thread.

    Attributes:
        kind: its format, as `sniff` names it.
        name: without folders and without the archives around it.
        names: the members from the outermost archive down to this one; empty for the outermost.
    """

    file: BinaryIO
    size: int
    kind: str
    name: str
    names: tuple[str, ...] = ()
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class ArchiveWalk:
    """One walk through an outermost archive; counts the skipped members by reason.

    `skip_reason` is called with a name, that of a nested member after its archive's and a slash. Members of
    formats that are not read are errors if `record_unread`, else counted.
    """

    budget: ArchiveBudget
    skip_reason: Callable[[str], str | None]
    skipped: Counter[str]
    record_unread: bool = True

    def inside(self, archive: Container) -> Iterator[ArchiveMember]:
        """Yield the inputs in one archive; raises BudgetExceeded, and ItemError where it cannot go on."""
        for entry in self._entries(archive):
            names = (*archive.names, entry.name)
            if not entry.whole and (reason := self.skip_reason("/".join(names))):
                self.skipped[reason] += 1
            elif entry.kind == "other":
                self.skipped["other type"] += 1
            else:
                yield from self._entry(entry, names)

    def _entries(self, archive: Container) -> Iterable[ArchiveEntry]:
        if archive.kind == "ZIP":
            return zip_entries(archive.file, archive.size, self.budget)
        limits = self.budget.limits
        window = FileWindow(archive.file, 0, archive.size)
        meter = RatioMeter(self.budget, limits.free_bytes)
        if archive.kind == "TAR":
            return TarReader(PieceStream(window.pieces(meter), window), self.budget).entries()
        stream = PieceStream(unpacked(window, archive.kind, meter))
        if archive_kind(stream.peek(HEAD_BYTES)) == "TAR":
            meter.free = limits.free_stream_bytes
            return TarReader(stream, self.budget).entries()
        self.budget.count_entry()
        name = _name_inside(archive.name)
        return [ArchiveEntry(name=name, kind="file", size=None, whole=True, open=lambda: stream)]

    def _entry(self, entry: ArchiveEntry, names: tuple[str, ...]) -> Iterator[ArchiveMember]:
        """Yield an entry, or the inputs in it; nothing if it is no input."""
        name = SEPARATOR.join(names)
        try:
            stream = entry.open()
            head = stream.peek(UNREAD_HEAD_BYTES)
            reason = self._skip_reason(head, entry)
            if reason and head[4:8] != b"ftyp":
                self.skipped[reason] += 1
                return
            kind = archive_kind(head)
            data = self._read(entry, stream, depth=len(names) if kind else 0)
            if reason and iso_format(None, lambda at, count: data[at : at + count], len(data)) is None:
                self.skipped[reason] += 1  # sound, as its brand says
                return
        except ContainerError:
            raise
        except ItemError as error:
            yield lost(name, error.code, f"the member cannot be read: {error.message}")
            return
        if kind:
            nested = Container(io.BytesIO(data), len(data), kind, PurePath(entry.name).name, names)
            yield from self._nested(nested)
        else:
            yield ArchiveMember(name, data)

    def _skip_reason(self, head: bytes, entry: ArchiveEntry) -> str | None:
        """Return why an entry that begins with `head` is skipped, None if it is an input.

        Raises ItemError if its format is not read.
        """
        if sniff(head) is not None:
            return None
        link = entry.kind == "link"
        unread = sniff_unread(head) if link else unread_format(head, entry.name)
        if unread is not None:
            if (reason := unread.counted_as) is None and self.record_unread:
                raise unread.error()
            return reason or UNREAD_SKIPPED
        if link:
            return "link"
        return "other type" if format_by_extension(entry.name) is None else None

    def _read(self, entry: ArchiveEntry, stream: PieceStream, depth: int) -> bytes:
        """Return the content; `depth` is that of an archive, 0 for other members."""
        limits = self.budget.limits
        if depth >= limits.max_depth:
            raise ItemError(
                "archive_limit", f"archives are nested deeper than the limit of {limits.max_depth}"
            )
        most = limits.max_member_bytes
        data = stream.read(most + 1) if (entry.size or 0) <= most else None
        if data is None or len(data) > most:
            raise ItemError("file_too_large", f"it is larger than the limit of {most / 1e6:g} MB")
        return data

    def _nested(self, archive: Container) -> Iterator[ArchiveMember]:
        count = 0
        try:
            for count, found in enumerate(self.inside(archive), 1):  # noqa: B007 — counts them
                yield found
        except ItemError as error:
            message = f"the rest of the archive cannot be read: {error.message}"
            yield lost(SEPARATOR.join(archive.names), error.code, message)
            return
        if not count:
            self.skipped["empty archive"] += 1


def _name_inside(name: str) -> str:
    path = PurePath(name)
    return path.stem if path.suffix.lower() in COMPRESSED_SUFFIXES else name
