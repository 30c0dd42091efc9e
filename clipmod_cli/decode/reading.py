"""Reads an input's bytes without trusting the file: not a device, not too large, never hanging.

Leaves what the bytes mean to the others.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from clipmod_cli.decode.job import MediaBuilder
from clipmod_cli.decode.limits import DecodeLimits
from clipmod_cli.errors import ErrorCode, ItemError
from clipmod_cli.types import Item

_OPEN_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
)
"""Without O_NONBLOCK opening a FIFO waits for a writer for ever. Windows lacks the first two."""

_CHUNK_BYTES = 1 << 20
"""Most pictures come in one; memory for the largest allowed file is not asked for beforehand."""

_CODES: dict[int | None, ErrorCode] = {
    errno.ENOENT: "not_found",
    errno.ENOTDIR: "not_found",
    errno.ENAMETOOLONG: "not_found",
    errno.EACCES: "permission_denied",
    errno.EPERM: "permission_denied",
    errno.ENXIO: "not_a_regular_file",
    errno.EISDIR: "not_a_regular_file",
}
"""What a failed `open` means; anything else is `read_error` and may pass. ENXIO is a socket's answer."""


def read_item(item: Item, limits: DecodeLimits, notes: MediaBuilder) -> bytes:
    """Return the item's bytes, at most `limits.max_file_bytes` of them; raises ItemError.

    Size, time of change and SHA-256 are noted as soon as each is known.
    """
    if item.data is not None:
        data = item.data
        notes.learn(bytes=len(data), mtime_ns=item.mtime_ns)
        _check_length(len(data), limits)
    elif item.member is None:
        data = _read_file(item.spilled or item.source, limits, notes)
    else:
        raise ItemError("archive_error", "the bytes of this archive member were not extracted")
    notes.learn(bytes=len(data))
    if not data:
        raise ItemError("empty_file", "the file is empty")
    notes.learn(sha256=hashlib.sha256(data).hexdigest())
    return data


def _read_file(path: str, limits: DecodeLimits, notes: MediaBuilder) -> bytes:
    with open_regular(path) as (descriptor, status):
        notes.learn(bytes=status.st_size, mtime_ns=status.st_mtime_ns)
        _check_length(status.st_size, limits)
        return _read_all(descriptor, limits)


@contextmanager
def open_regular(path: str) -> Iterator[tuple[int, os.stat_result]]:
    """Give (a descriptor to read from, what the system knows of it) of a regular file.

    Raises ItemError, also for an OSError in the block.
    """
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
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


def _read_all(descriptor: int, limits: DecodeLimits) -> bytes:
    """Return what is in the file; its size is checked again, for it may be growing."""
    chunks: list[bytes] = []
    length = 0
    while chunk := os.read(descriptor, _CHUNK_BYTES):
        chunks.append(chunk)
        length += len(chunk)
        _check_length(length, limits)
    return b"".join(chunks)


def _check_length(length: int, limits: DecodeLimits) -> None:
    if length > limits.max_file_bytes:
        raise ItemError(
            "file_too_large", f"the file is larger than the limit of {limits.max_file_bytes / 1e6:g} MB"
        )


def _as_item_error(error: OSError) -> ItemError:
    reason = error.strerror or str(error)
    return ItemError(_CODES.get(error.errno, "read_error"), f"the file cannot be read: {reason.lower()}")
