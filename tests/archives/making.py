"""Makes archives, honest and hostile, and looks into them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backports import zstd
from backports.zstd import zipfile as zstd_zipfile

from clipmod_cli.sources.archives.items import open_input, read_archive
from clipmod_cli.sources.archives.limits import ArchiveLimits
from clipmod_cli.sources.archives.walk import ArchiveMember

GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"
TEXT = b"words"
BLOCK = 512

Files = Sequence[tuple[str, bytes]]
"""(name, content) of the members to be made."""

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd.compress,
}

ZIP_METHODS = (0, 8, 12, 14, 93)


def picture(number: int) -> bytes:
    """Return bytes that begin like a picture, other ones for each number."""
    return GIF + b"%d" % number


def make_zip(files: Files, method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    """Return a zip archive; names may come twice."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zstd_zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.filterwarnings("ignore", "Duplicate name")
        archive.comment = comment
        for name, data in files:
            archive.writestr(zstd_zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def make_tar(files: Files, dialect: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=dialect) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def tar_entry(name: bytes, kind: bytes = b"0", data: bytes = b"", size: bytes | None = None) -> bytes:
    """Return one entry of a tar archive, its header written by hand; `size` is the field as it is."""
    header = bytearray(BLOCK)
    header[: len(name)] = name
    header[100:108] = b"0000644\0"
    header[124:136] = size.ljust(12, b"\0") if size is not None else b"%011o\0" % len(data)
    header[156:157] = kind
    header[257:265] = b"ustar\x0000"
    return sealed(header) + data + bytes(-len(data) % BLOCK)


def sealed(header: bytearray) -> bytes:
    """Return a tar header with its checksum."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def pax_record(key: bytes, value: bytes) -> bytes:
    """Return one record of an extended header."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


TAR_END = bytes(2 * BLOCK)


@dataclass(frozen=True)
class Seen:
    """What looking into an archive came to."""

    found: list[ArchiveMember]
    skipped: Counter[str]

    @property
    def members(self) -> list[tuple[str, bytes]]:
        """(name, bytes) of those that could be had."""
        return [(one.name, one.data) for one in self.found if one.error is None and one.name is not None]

    @property
    def names(self) -> list[str]:
        """The names of those that could be had."""
        return [name for name, _ in self.members]

    @property
    def lost(self) -> list[tuple[str | None, str]]:
        """(name, code) of those that could not."""
        return [(one.name, one.error.code) for one in self.found if one.error is not None]

    @property
    def said(self) -> str:
        """All messages."""
        return "\n".join(one.error.message for one in self.found if one.error is not None)


def look(path: Path, limits: ArchiveLimits | None = None) -> Seen:
    """Look into the archive at a path."""
    archive = open_input(str(path)).archive
    assert archive is not None, "no archive"
    skipped = Counter[str]()
    try:
        return Seen(list(read_archive(archive, skipped=skipped, limits=limits)), skipped)
    finally:
        archive.file.close()


def look_at(data: bytes, folder: Path, limits: ArchiveLimits | None = None, name: str = "it") -> Seen:
    """Look into the archive that these bytes are."""
    path = folder / name
    path.write_bytes(data)
    return look(path, limits)
