"""Pictures that were judged, kept for a while under an address that nobody can guess.

Files and a small JSON beside each lie in one folder that only its owner can read. What a request names
is looked up in an index and never becomes a path. A file that somebody else removed is simply gone.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from clipmod_cli.output.history.serve_rows import HostedRow
from clipmod_cli.output.history.spool import make_private
from clipmod_cli.server.kept.data_files import data_folder, remove, write_whole
from clipmod_cli.server.request_limits import MB
from clipmod_cli.settings import Settings

log = logging.getLogger(__name__)

ID_BYTES: Final = 16
"""128 bits: nobody finds one by trying."""

MEDIA_TYPES: Final = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
}
"""By the format of the content; other types than these are never sent."""

_SIDECAR: Final = ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedPicture:
    """One kept picture; times in seconds since 1970.

    Attributes:
        format: of its content, as `JPEG`.
    """

    image_id: str
    name: str
    format: str
    sha256: str
    size: int
    hosted_at: float
    expires_at: float

    @property
    def row(self) -> HostedRow:
        """What the store keeps of it."""
        return HostedRow(
            image_id=self.image_id,
            sha256=self.sha256,
            name=self.name,
            format=self.format,
            bytes=self.size,
            hosted_at=datetime.fromtimestamp(self.hosted_at, UTC),
            expires_at=datetime.fromtimestamp(self.expires_at, UTC),
        )


@dataclass
class HostedPictures:
    """The folder of kept pictures. Safe to use from any thread; all calls block.

    Attributes:
        quota_bytes: of all together; the oldest go.
    """

    folder: Path
    expiry_s: float
    quota_bytes: int
    _index: dict[str, HostedPicture] = field(default_factory=dict, repr=False)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def open(self) -> None:
        """Make the folder, and learn what is in it.

        Raises:
            OSError: it cannot be made or read.
        """
        make_private(self.folder)
        found = sorted(_read_sidecars(self.folder), key=lambda one: one.hosted_at)
        with self._lock:
            self._index = {one.image_id: one for one in found}
            self._bytes = sum(one.size for one in found)
            gone = list(self._over_quota())
        for old in gone:
            self._remove(old)
        self.sweep()

    def keep(self, data: bytes, *, name: str, format_name: str, sha256: str) -> HostedPicture | None:
        """Return the kept picture; None where it cannot be kept, which is logged."""
        if format_name not in MEDIA_TYPES or len(data) > self.quota_bytes:
            return None
        now = time.time()
        one = HostedPicture(
            image_id=secrets.token_hex(ID_BYTES),
            name=name,
            format=format_name,
            sha256=sha256,
            size=len(data),
            hosted_at=now,
            expires_at=now + self.expiry_s,
        )
        try:
            write_whole(self.folder / one.image_id, data)
            write_whole(self.folder / f"{one.image_id}{_SIDECAR}", json.dumps(asdict(one)).encode())
        except OSError as e:
            self._remove(one)
            log.warning("a picture could not be kept for /image: %s", e.strerror or e)
            return None
        self._enter(one)
        return one

    def open_file(self, image_id: str) -> tuple[HostedPicture, IO[bytes]] | None:
        """Return a kept picture and its open file; None if there is none, or its time is over."""
        with self._lock:
            one = self._index.get(image_id)
        if one is None:
            return None
        if one.expires_at <= time.time():
            self._forget(one)
            return None
        try:
            return one, (self.folder / one.image_id).open("rb")
        except OSError:  # `clipmod stats forget`, or another process's quota
            self._forget(one)
            return None

    def sweep(self) -> None:
        """Remove what is over its time."""
        now = time.time()
        with self._lock:
            over = [one for one in self._index.values() if one.expires_at <= now]
        for one in over:
            self._forget(one)

    def __len__(self) -> int:
        """Return how many pictures are kept."""
        with self._lock:
            return len(self._index)

    @property
    def size(self) -> int:
        """How many bytes of pictures are kept."""
        with self._lock:
            return self._bytes

    def _enter(self, one: HostedPicture) -> None:
        """Put it into the index; the oldest make room."""
        with self._lock:
            self._index[one.image_id] = one
            self._bytes += one.size
            gone = list(self._over_quota())
        for old in gone:
            self._remove(old)

    def _over_quota(self) -> Iterator[HostedPicture]:
        while self._bytes > self.quota_bytes:
            oldest = self._index.pop(next(iter(self._index)))
            self._bytes -= oldest.size
            yield oldest

    def _forget(self, one: HostedPicture) -> None:
        with self._lock:
            if self._index.pop(one.image_id, None) is not None:
                self._bytes -= one.size
        self._remove(one)

    def _remove(self, one: HostedPicture) -> None:
        # the sidecar last: if this is cut off, what is left is found by it
        for name in (one.image_id, f"{one.image_id}{_SIDECAR}"):
            remove(self.folder / name)


def hosting_of(settings: Settings) -> HostedPictures | None:
    """Return where pictures are kept; None where none are, or the folder cannot be had."""
    if settings.no_hosting:
        return None
    expiry_s = settings.image_expiry_hours * 3600
    hosting = HostedPictures(data_folder(settings) / "hosted", expiry_s, settings.hosting_mb * MB)
    try:
        hosting.open()
    except OSError as e:
        log.warning("pictures cannot be kept in %s (%s); the service goes on without", hosting.folder, e)
        return None
    return hosting


def _read_sidecars(folder: Path) -> Iterator[HostedPicture]:
    """Yield what the folder holds; remove halves that a crash left."""
    names = {path.name for path in folder.iterdir()}
    for name in sorted(names):
        path = folder / name
        if name.endswith(".part"):
            remove(path)
        elif name.endswith(_SIDECAR):
            one = _read_sidecar(path)
            if one is not None and one.image_id in names:
                yield one
            else:
                remove(path)
        elif f"{name}{_SIDECAR}" not in names:
            remove(path)


def _read_sidecar(path: Path) -> HostedPicture | None:
    try:
        told = json.loads(path.read_bytes())
        one = HostedPicture(**told)
        sound = one.image_id == path.stem and one.format in MEDIA_TYPES and one.expires_at > one.hosted_at
    except (OSError, ValueError, TypeError):
        return None
    return one if sound else None
