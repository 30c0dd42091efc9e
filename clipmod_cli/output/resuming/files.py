"""The file with the lines of an output: plain or compressed; while a table is not finished, a file beside it.

A compressed file is appended to by whole members (gzip) or frames (zstd), each of whole lines.
"""

from __future__ import annotations

import gzip
import io
import logging
import os
import sys
import zlib
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias

from clipmod_cli.errors import OutputMismatchError
from clipmod_cli.output.resuming.lines import LINE_START, foreign_line

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

log = logging.getLogger(__name__)

Compression: TypeAlias = Literal["none", "gzip", "zstd"]

PART: Final = ".jsonl.part"
"""What the name of the lines of an unfinished table has behind that of the table."""

RECORDS: Final = ".records.parquet"
"""What the name of the whole records of a CSV file has behind that of the CSV file."""

MAGIC: Final[dict[bytes, Compression]] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
MAGIC_BYTES: Final = 4
ENDINGS: Final[dict[str, Compression]] = {".gz": "gzip", ".zst": "zstd"}
PIECE_BYTES: Final = 1 << 16
MEMBER_LINES: Final = 1000
DAMAGE: Final = (zlib.error, gzip.BadGzipFile, zstd.ZstdError)


def part_path(output: Path) -> Path:
    """Return where the lines of a table are until its run ends."""
    return output.with_name(f"{output.name}{PART}")


def records_path(output: Path) -> Path:
    """Return where the records of a CSV file are kept, whole."""
    return output.with_name(f"{output.name}{RECORDS}")


def whole_records(output: Path) -> Path:
    """Return the file with the records of a finished output: of a CSV file the one beside it."""
    return records_path(output) if output.suffix.lower() == ".csv" else output


def beside(output: Path, ending: str) -> Path:
    """Return the path of a file that belongs to an output.

    Args:
        output: its own path, or that of its lines or records.
        ending: what the name of the file has behind that of the output.
    """
    return output.with_name(f"{output.name.removesuffix(PART).removesuffix(RECORDS)}{ending}")


def compression_of(path: Path) -> Compression:
    """Return how a file is compressed, by its content; of an empty or missing one by its ending."""
    try:
        with path.open("rb") as file:
            head = file.read(MAGIC_BYTES)
    except FileNotFoundError:
        head = b""
    if not head:
        return ENDINGS.get(path.suffix.lower(), "none")
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "none")


def open_lines(path: Path, start: int = 0) -> IO[bytes]:
    """Open the lines of an output for reading; seeking backwards in a compressed one reads it again.

    Args:
        path: the output.
        start: where to begin, in bytes of the file: where a member begins.

    Raises:
        OSError: it cannot be read.
    """
    file = path.open("rb")
    file.seek(start)
    kind = compression_of(path)
    if kind == "none" or start >= os.fstat(file.fileno()).st_size:  # zstd does not read an empty file
        return file
    return _Reader(decompressing(file, kind), file)


class _Reader(io.BufferedReader):
    """Closes the compressed file, too."""

    def __init__(self, stream: Any, file: IO[bytes]) -> None:
        super().__init__(stream, PIECE_BYTES)
        self._file = file

    def close(self) -> None:
        super().close()
        self._file.close()


def decompressing(file: IO[bytes], kind: Compression) -> Any:
    """Return the uncompressed content of a file as a stream."""
    match kind:
        case "none":
            return file
        case "gzip":
            return gzip.GzipFile(fileobj=file)
        case "zstd":
            return zstd.ZstdFile(file)


def compressing(file: IO[bytes], kind: Compression) -> AbstractContextManager[Any]:
    """Give a stream whose content is written to a file as one member; the file stays open."""
    match kind:
        case "none":
            return nullcontext(file)
        case "gzip":
            return gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
        case "zstd":
            stream = zstd.ZstdFile(file, "w", options={zstd.CompressionParameter.checksum_flag: 1})
            stream.write(b"")  # so that there is a frame, also without content
            return stream


def member_of(lines: bytes, kind: Compression) -> bytes:
    """Return lines as one member."""
    content = io.BytesIO()
    with compressing(content, kind) as stream:
        stream.write(lines)
    return content.getvalue()


def append_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Append lines to an output, and return when they are on the disk.

    Raises:
        OSError: they cannot be written; the next run removes a torn one.
    """
    kind, rest = compression_of(path), iter(lines)
    with path.open("ab") as file:
        while some := b"".join(islice(rest, MEMBER_LINES)):
            file.write(some if kind == "none" else member_of(some, kind))
        file.flush()
        os.fsync(file.fileno())


def check_compression(path: Path, kind: Compression) -> None:
    """Check that an output is compressed as it is to be, and remove a torn last member of a compressed one.

    A kill or a full disk leaves such a member. A missing or empty file is left as it is.

    Args:
        path: the output.
        kind: how it is to be compressed.

    Raises:
        OutputMismatchError: it is compressed otherwise, holds lines of another program or is damaged.
        OSError: it cannot be read or written.
    """
    if not path.exists() or not path.stat().st_size:
        return
    if compression_of(path) != kind and not _is_torn_magic(path, kind):
        ending = {"none": ".jsonl", "gzip": ".jsonl.gz", "zstd": ".jsonl.zst"}[kind]
        raise OutputMismatchError(
            f"{path} has not the content of a {ending} file, so it is left alone. Name another output, or "
            "--overwrite"
        )
    if kind == "none":
        return
    with path.open("r+b") as file:
        try:
            end, head = _last_end(file, kind)
        except DAMAGE as error:
            raise OutputMismatchError(
                f"{path} is damaged ({error}), so it is left alone. Name another output, or --overwrite"
            ) from error
        size = file.seek(0, os.SEEK_END)
        if end == size:
            return
        if end == 0 and not head.startswith(LINE_START[: len(head)]):
            raise foreign_line(path, 1)
        file.truncate(end)
        os.fsync(file.fileno())
    log.warning(
        "the last %d bytes of %s are torn, as after a kill, and were removed: their inputs are judged again",
        size - end,
        path,
    )


def _is_torn_magic(path: Path, kind: Compression) -> bool:
    if path.stat().st_size >= MAGIC_BYTES:
        return False
    return any(one == kind and magic.startswith(path.read_bytes()) for magic, one in MAGIC.items())


def _last_end(file: IO[bytes], kind: Compression) -> tuple[int, bytes]:
    """Return where the last whole member ends, and how the content of the first one begins."""
    end, position, head = 0, 0, b""
    member = _new_member(kind)
    while piece := file.read(PIECE_BYTES):
        position += len(piece)
        while piece:
            text = member.decompress(piece)
            head = head or text[: len(LINE_START)]
            if not member.eof:
                break
            piece = member.unused_data
            end = position - len(piece)
            member = _new_member(kind)
    return end, head


def _new_member(kind: Compression) -> Any:
    return zlib.decompressobj(wbits=31) if kind == "gzip" else zstd.ZstdDecompressor()
