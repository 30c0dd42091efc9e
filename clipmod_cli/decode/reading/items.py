"""Reads an input's bytes: from a regular file only, within the size limit, never blocking."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from clipmod_cli.decode.formats import HEAD_BYTES, Format, sniff
from clipmod_cli.decode.limits import DecodeLimits
from clipmod_cli.decode.reading.boxes import Read, iso_format
from clipmod_cli.errors import ErrorCode, ItemError
from clipmod_cli.types import Item, Media

_OPEN_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
)
"""Without O_NONBLOCK opening a FIFO blocks until there is a writer. Windows lacks the first two."""

_CHUNK_BYTES = 1 << 20
"""Most pictures fit in one chunk; the memory for the largest allowed file is never allocated beforehand."""

WEB = ("http://", "https://")

_CODES: dict[int | None, ErrorCode] = {
    errno.ENOENT: "not_found",
    errno.ENOTDIR: "not_found",
    errno.ENAMETOOLONG: "not_found",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
    errno.ENXIO: "not_a_regular_file",
    errno.EISDIR: "not_a_regular_file",
}
"""Error codes of a failed `open`; all others are `read_error`, which is retryable. ENXIO: a socket."""


def read_item(item: Item, limits: DecodeLimits, media: Media) -> tuple[bytes, Format | None]:
    """Return the item's bytes and their format; of a video only the first bytes. Opens its file once.

    Size, modification time, format and SHA-256 are written into `media` as soon as each is known.

    Raises:
        ItemError: if it cannot be read, is empty or is larger than `limits.max_file_bytes`.
    """
    if item.data is not None:
        data, known = item.data, _identify_bytes(item.data)
        media.bytes, media.mtime_ns = len(data), item.mtime_ns
    elif item.member is None:
        data, known = _read_file(item.spilled or item.source, limits, media)
    else:
        raise ItemError("archive_error", "the bytes of this archive member were not extracted")
    if known is not None and known.kind == "video":
        return data[:HEAD_BYTES], known
    _check_length(len(data), limits)
    media.bytes = len(data)
    if not data:
        raise ItemError("empty_file", "the file is empty")
    media.sha256 = hashlib.sha256(data).hexdigest()
    media.format = known.name if known is not None else None
    return data, known


def hash_item(item: Item) -> str | None:
    """Return the SHA-256 of an item's bytes, in hexadecimal; None if they cannot be read."""
    if item.data is not None:
        return hashlib.sha256(item.data).hexdigest()
    return hash_path(item.spilled or item.source)


def hash_path(path: str) -> str | None:
    """Return the SHA-256 of a regular file's bytes, in hexadecimal; None if they cannot be read."""
    digest = hashlib.sha256()
    try:
        with open_regular(path) as (descriptor, _):
            while chunk := os.read(descriptor, _CHUNK_BYTES):
                digest.update(chunk)
    except ItemError:
        return None
    return digest.hexdigest()


def _identify_bytes(data: bytes) -> Format | None:
    return _identify(data, lambda at, count: data[at : at + count], len(data))


def _identify(head: bytes, read: Read, length: int) -> Format | None:
    """Return the format of a file: by its first bytes, and where those have a brand by what is in it."""
    known = sniff(head)
    return iso_format(known, read, length) if head[4:8] == b"ftyp" else known


def _read_file(path: str, limits: DecodeLimits, media: Media) -> tuple[bytes, Format | None]:
    """Return the file's bytes, of a video the first ones; its size is checked again, for it may grow."""
    with open_regular(path) as (descriptor, status):
        media.bytes, media.mtime_ns = status.st_size, status.st_mtime_ns
        chunk = os.read(descriptor, _CHUNK_BYTES)
        known = _identify(chunk, lambda at, count: os.pread(descriptor, count, at), status.st_size)
        if known is not None and known.kind == "video":
            return chunk, known
        _check_length(status.st_size, limits)
        chunks: list[bytes] = []
        length = 0
        while chunk:
            chunks.append(chunk)
            length += len(chunk)
            _check_length(length, limits)
            chunk = os.read(descriptor, _CHUNK_BYTES)
        return b"".join(chunks), known


@contextmanager
def open_regular(path: str) -> Iterator[tuple[int, os.stat_result]]:
    """Yield a regular file's (descriptor, `fstat` result).

    Raises ItemError, also for an OSError in the block.
    """
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except FileNotFoundError as error:
        hint = "; `clipmod urls` judges URLs" if path.startswith(WEB) else ""
        raise ItemError("not_found", f"no such file{hint}") from error
    except OSError as error:
        raise _as_item_error(error) from error
    except ValueError as error:  # a NUL or a lone surrogate: no file can have such a name
        raise ItemError("not_found", "no file can have this name") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ItemError("not_a_regular_file", "this is a folder, a device or a pipe, not a file")
        yield descriptor, status
    except OSError as error:
        raise _as_item_error(error) from error
    finally:
        os.close(descriptor)


def _check_length(length: int, limits: DecodeLimits) -> None:
    if length > limits.max_file_bytes:
        raise ItemError(
            "file_too_large", f"the file is larger than the limit of {limits.max_file_bytes / 1e6:g} MB"
        )


def _as_item_error(error: OSError) -> ItemError:
    reason = error.strerror or str(error)
    return ItemError(_CODES.get(error.errno, "read_error"), f"the file cannot be read: {reason.lower()}")
