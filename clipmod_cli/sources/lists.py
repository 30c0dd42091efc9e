"""Lists of paths, one a line or separated by NUL bytes, read as they arrive."""

from __future__ import annotations

import os
from collections.abc import Iterator

from clipmod_cli.errors import UsageError

CHUNK_BYTES = 65536
STDIN = 0


def read_list(name: str, *, null: bool) -> Iterator[str]:
    """Yield the paths of a list as soon as they arrive; `-` is stdin. Empty ones are left out.

    With `null` a name may hold newlines. A name that is not UTF-8 holds surrogate escapes. A listed
    file named `-` becomes `./-`, since the source `-` is stdin.

    Raises:
        UsageError: if the list cannot be read.
    """
    # os.read, not sys.stdin: a thread blocked in a buffered stdin would hang the interpreter's exit,
    # and os.read returns a slow producer's lines at once.
    try:
        descriptor = STDIN if name == "-" else os.open(name, os.O_RDONLY)
    except OSError as e:
        raise UsageError(f"cannot read the list {name}: {e.strerror}") from e
    try:
        for part in _split(descriptor, name, b"\0" if null else b"\n"):
            if part:
                yield "./-" if part == b"-" else os.fsdecode(part)
    finally:
        if descriptor != STDIN:
            os.close(descriptor)


def _split(descriptor: int, name: str, separator: bytes) -> Iterator[bytes]:
    rest = b""
    while chunk := _read(descriptor, name):
        *whole, rest = (rest + chunk).split(separator)
        yield from whole
    yield rest


def _read(descriptor: int, name: str) -> bytes:
    try:
        return os.read(descriptor, CHUNK_BYTES)
    except OSError as e:
        raise UsageError(f"cannot read the list {name}: {e.strerror}") from e
