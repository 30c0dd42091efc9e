"""Removing and replacing lines of an output by an atomic rewrite."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

from clipmod_cli.atomic import atomic_file
from clipmod_cli.output.resuming.files import compressing, compression_of, open_lines

CHUNK: Final = 1 << 20


def remove_ranges(
    path: Path,
    ranges: Sequence[int],
    *,
    torn: int | None,
    in_place_of: Callable[[int, bytes], bytes] = lambda _start, _line: b"",
) -> None:
    """Remove byte ranges from a file by an atomic rewrite: a kill leaves the old file or the new one.

    Args:
        path: the file.
        ranges: start and end of each range in turn, ascending, in bytes of the uncompressed content.
        torn: where a torn last line starts, which is removed too.
        in_place_of: called with the start and the bytes of each range; returns what comes in their place.

    Raises:
        OSError: it cannot be written, for example because the disk is full; the file is unchanged.
    """
    kind = compression_of(path)
    if not ranges and torn is None:
        return
    if torn is not None and not ranges and kind == "none":  # a copy of a long output may not fit on the disk
        os.truncate(path, torn)
        return
    mode = path.stat().st_mode & 0o7777
    with (
        open_lines(path) as source,
        atomic_file(path, mode=mode, sync=True) as whole,
        compressing(whole, kind) as file,
    ):
        for start, end in zip(ranges[::2], ranges[1::2], strict=True):
            _copy(source, file, start - source.tell())
            file.write(in_place_of(start, source.read(end - start)))
        if torn is None:
            shutil.copyfileobj(source, file)
        else:
            _copy(source, file, torn - source.tell())


def _copy(source: IO[bytes], target: IO[bytes], length: int) -> None:
    while length and (chunk := source.read(min(length, CHUNK))):
        target.write(chunk)
        length -= len(chunk)
