"""The entries of a tar archive, in order, from a stream that is read once.

`tarfile` reads extended headers of any size and keeps every entry in memory; here both are bounded.
Supports the old, ustar, GNU and pax dialects. A sparse file is listed but cannot be opened. Names stay
text; the choice of entries is left to `clipmod_cli.sources.archives.walk`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from clipmod_cli.errors import ItemError
from clipmod_cli.sources.archives.limits import TRUNCATED, ArchiveBudget, ContainerError
from clipmod_cli.sources.archives.streams import PIECE_BYTES, ArchiveEntry, EntryKind, PieceStream, clean_name

BLOCK_BYTES = 512
CHECKSUM = slice(148, 156)
SPARSE_CONTINUES, SPARSE_CONTINUES_AGAIN = 482, 504
"""Offsets of the flag of a continuation, in the GNU header of a sparse file and in a continuation."""

LINKS = b"12"
DEVICES = b"346"
FOLDERS = b"5"
OLD_REGULAR = b"\0"
VOLUME_LABEL = b"V"
EXTENDED, EXTENDED_GLOBAL = b"xX", b"g"
LONG_NAME, LONG_LINK = b"L", b"K"
SPARSE = b"S"
"""Every other type is a regular file, as POSIX wants for unknown ones."""

HOLES, SPARSE_NAME = b"GNU.sparse.", b"GNU.sparse.name"
PAX_KEYS = frozenset({b"path", b"size", SPARSE_NAME})
MAX_DIGITS = 20
"""Enough for 2**64."""

WIDE_NUMBER, NEGATIVE = 0x80, 0xFF
"""First bytes of GNU's base-256 numbers."""


@dataclass(slots=True)
class _Header:
    """One header; `pax` has the values of the extended headers before it."""

    kind: bytes
    name: bytes
    size: int
    continues: bool
    pax: dict[bytes, bytes]

    @property
    def sparse(self) -> bool:
        """Whether the file is stored without its holes."""
        return self.kind == SPARSE or HOLES in self.pax or SPARSE_NAME in self.pax


@dataclass(slots=True)
class _Content:
    """The content of one entry, to be read before the next entry."""

    source: PieceStream
    left: int

    def pieces(self) -> Iterator[bytes]:
        """Yield the content; raises ContainerError if the archive ends within."""
        while self.left:
            try:
                piece = self.source.read(min(self.left, PIECE_BYTES))
            except ItemError as error:
                raise ContainerError(error.code, error.message) from error
            if not piece:
                raise ContainerError("archive_error", TRUNCATED)
            self.left -= len(piece)
            yield piece


@dataclass(slots=True)
class TarReader:
    """Reads a decompressed tar archive."""

    source: PieceStream
    budget: ArchiveBudget
    global_pax: dict[bytes, bytes] = field(default_factory=dict)

    def entries(self) -> Iterator[ArchiveEntry]:
        """Yield the entries; each must be read before the next. Behind the last there may only be zeros.

        Raises BudgetExceeded, and ItemError where the rest cannot be read (ContainerError within a member).
        """
        while (header := self._next()) is not None:
            content = _Content(self.source, header.size)
            name = clean_name(header.pax.get(SPARSE_NAME) or header.name)
            text = name.decode(errors="surrogateescape")
            open_content = partial(_open, header, content)
            if header.kind not in FOLDERS + VOLUME_LABEL:
                kind: EntryKind = "link" if header.kind in LINKS else "file"
                if header.kind in DEVICES:
                    kind = "other"
                yield ArchiveEntry(name=text, kind=kind, size=header.size, open=open_content)
            self.source.skip(content.left + -header.size % BLOCK_BYTES)
        while rest := self.source.read(PIECE_BYTES):
            if rest.strip(b"\0"):
                raise ItemError("archive_error", "it has data after its end mark, which some programs read")

    def _next(self) -> _Header | None:
        """Return the next entry's header, None at the end mark; raises ItemError."""
        own: dict[bytes, bytes] = {}
        while (header := self._read_header()) is not None:
            if header.kind in EXTENDED:
                own |= _parse_pax(self._read_extended(header.size))
            elif header.kind == EXTENDED_GLOBAL:
                self.global_pax |= _parse_pax(self._read_extended(header.size))
            elif header.kind == LONG_NAME:
                own[b"path"] = clean_name(self._read_extended(header.size))
            elif header.kind == LONG_LINK:
                self._read_extended(header.size)
            else:
                return self._complete(header, {**self.global_pax, **own})
        return None

    def _read_header(self) -> _Header | None:
        block = self.source.read(BLOCK_BYTES)
        if not block:
            raise ItemError("archive_error", "it has no end mark: it may be truncated")
        if len(block) < BLOCK_BYTES:
            raise ItemError("archive_error", TRUNCATED)
        if not block.strip(b"\0"):
            return None
        self.budget.count_entry()
        return _parse_header(block)

    def _complete(self, header: _Header, pax: dict[bytes, bytes]) -> _Header:
        """Return a header with the values of the extended ones; skips the list of its holes."""
        header.pax = pax
        header.name = pax.get(b"path") or header.name
        if size := pax.get(b"size"):
            header.size = _digits(size, 10)
        more = header.kind == SPARSE and header.continues
        while more:
            block = self.source.read(BLOCK_BYTES)
            self.budget.count_entry()
            more = len(block) == BLOCK_BYTES and block[SPARSE_CONTINUES_AGAIN] != 0
        if header.kind in LINKS:
            header.size = 0  # some programs write the size of the target, without its content
        elif header.size and header.kind in FOLDERS + DEVICES + VOLUME_LABEL:
            raise ItemError(
                "archive_error", "a folder or device in it has content, which programs read differently"
            )
        return header

    def _read_extended(self, size: int) -> bytes:
        if size > self.budget.limits.max_header_bytes:
            raise ItemError("archive_limit", f"it has an extended header of {size:,} bytes")
        data = self.source.read(size)
        if len(data) < size:
            raise ItemError("archive_error", TRUNCATED)
        self.source.skip(-size % BLOCK_BYTES)
        return data


def _open(header: _Header, content: _Content) -> PieceStream:
    if header.sparse:
        raise ItemError(
            "archive_error", "it is stored as a sparse file, which is not supported: unpack the archive"
        )
    return PieceStream(content.pieces())


def _parse_header(block: bytes) -> _Header:
    _check_sum(block)
    name = clean_name(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := clean_name(block[345:500])):
        name = prefix + b"/" + name
    kind = block[156:157]
    if kind == OLD_REGULAR and name.endswith(b"/"):
        kind = FOLDERS
    return _Header(kind, name, _number(block[124:136]), block[SPARSE_CONTINUES] != 0, {})


def _check_sum(block: bytes) -> None:
    rest = block[: CHECKSUM.start] + block[CHECKSUM.stop :]
    plain = sum(rest) + (CHECKSUM.stop - CHECKSUM.start) * ord(" ")
    stored = _number(block[CHECKSUM])
    # Some old programs added the bytes as signed ones.
    if stored != plain and stored != plain - 256 * sum(byte > 127 for byte in rest):
        raise ItemError("archive_error", "a header in it is damaged")


def _number(digits: bytes) -> int:
    if digits[0] == NEGATIVE:
        raise ItemError("archive_error", "a header in it is damaged")
    if digits[0] & WIDE_NUMBER:
        return int.from_bytes(digits[1:], "big") | (digits[0] ^ WIDE_NUMBER) << 8 * (len(digits) - 1)
    return _digits(digits.partition(b"\0")[0].strip(b" ") or b"0", 8)


def _digits(text: bytes, base: int) -> int:
    if text.strip(b"01234567" if base == 8 else b"0123456789") or len(text) > MAX_DIGITS:
        raise ItemError("archive_error", "a header in it is damaged")
    return int(text, base)


def _parse_pax(data: bytes) -> dict[bytes, bytes]:
    """Return path and size of an extended header, and whether the file is sparse."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data) and data[at]:
        space = data.find(b" ", at, at + MAX_DIGITS)
        end = at + _digits(data[at : max(space, at)] or b"x", 10)
        if not space < end - 1 < len(data):
            raise ItemError("archive_error", "a header in it is damaged")
        key, _, value = data[space + 1 : end - 1].partition(b"=")
        if key in PAX_KEYS:
            found[key] = value
        elif key.startswith(HOLES):
            found[HOLES] = value
        at = end
    return found
