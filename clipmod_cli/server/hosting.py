"""Hosted pictures and prediction files: written atomically, readable by their owner only, expiring."""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final

import platformdirs
from pydantic import TypeAdapter

from clipmod_cli.atomic import atomic_file
from clipmod_cli.decode.formats import picture_formats
from clipmod_cli.output.history.rows import HostedRow
from clipmod_cli.output.history.spool import PRIVATE_FILE, make_private
from clipmod_cli.server.configuration import MB
from clipmod_cli.settings.definition import Settings

log = logging.getLogger(__name__)


def data_folder(settings: Settings) -> Path:
    """Return the folder of hosted pictures and prediction files."""
    if settings.data_dir:
        return Path(settings.data_dir).expanduser()
    return Path(platformdirs.user_data_dir("clipmod", appauthor=False))


def _write(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read."""
    with atomic_file(path, mode=PRIVATE_FILE) as file:
        file.write(data)


def remove(path: Path) -> None:
    """Remove a file; errors are only logged."""
    try:
        path.unlink(missing_ok=True)
    except OSError as e:
        log.debug("%s cannot be removed: %s", path, e)


FOLDER: Final = "predictions"
_ENDING: Final = "_prediction.json"
_STEM_CHARS: Final = 60
"""Of a picture's name: within the limits of file systems."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9-]+")


@dataclass(frozen=True)
class Predictions:
    """The folder of prediction files: answers as JSON, kept as long as hosted pictures. All calls block."""

    folder: Path
    expiry_s: float

    def name_for(self, image: str) -> str:
        """Return a new unique file name, as answers print it, with safe characters of the image's name."""
        return f"{FOLDER}/{stem_of(image)}_{secrets.token_hex(8)}{_ENDING}"

    def write(self, name: str, answer: bytes) -> bool:
        """Write an answer to a name from `name_for`; return whether that succeeded."""
        try:
            _write(self.folder / name.removeprefix(f"{FOLDER}/"), answer)
        except OSError as e:
            log.warning("cannot write a prediction file: %s", e.strerror or e)
            return False
        return True

    def sweep(self) -> None:
        """Remove expired files."""
        oldest = time.time() - self.expiry_s
        try:
            for path in self.folder.glob(f"*{_ENDING}*"):
                if path.stat().st_mtime < oldest:
                    remove(path)
        except OSError as e:
            log.debug("cannot list old predictions: %s", e)


def stem_of(image: str) -> str:
    """Return a picture's name as part of a file name: letters, digits and dashes of its last part."""
    last = re.split(r"[/\\]", image)[-1]
    stem = last.rpartition(".")[0] or last
    return _UNSAFE.sub("_", stem)[:_STEM_CHARS].strip("_") or "image"


def predictions_of(settings: Settings) -> Predictions | None:
    """Return the prediction files; None if they are off or the folder cannot be used."""
    if settings.no_predictions:
        return None
    made = Predictions(data_folder(settings) / FOLDER, settings.image_expiry_hours * 3600)
    try:
        make_private(made.folder)
    except OSError as e:
        log.warning("cannot write predictions to %s (%s); serving without prediction files", made.folder, e)
        return None
    made.sweep()
    return made


ID_BYTES: Final = 16
"""128 bits: cannot be guessed."""

MEDIA_TYPES: Final = {known.name: known.mime for known in picture_formats()}
"""By the format of the content; no other types are sent."""

_SIDECAR: Final = ".json"
_SIDECARS: Final = TypeAdapter(HostedRow)


@dataclass
class HostedPictures:
    """The folder of hosted pictures, under ids that cannot be guessed. Safe to use from any thread; blocks.

    Each file has a JSON sidecar. Requested ids are looked up in an index and never become a path. Files that
    another process removes are treated as expired.

    Attributes:
        quota_bytes: of all together; the oldest are evicted.
    """

    folder: Path
    expiry_s: float
    quota_bytes: int
    _index: dict[str, HostedRow] = field(default_factory=dict, repr=False)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def open(self) -> None:
        """Create the folder, or read the pictures in it.

        Raises:
            OSError: it cannot be created or read.
        """
        make_private(self.folder)
        found = sorted(_read_sidecars(self.folder), key=lambda one: one.hosted_at)
        with self._lock:
            self._index = {one.image_id: one for one in found}
            self._bytes = sum(one.bytes for one in found)
            evicted = list(self._evict())
        for old in evicted:
            self._remove(old)
        self.sweep()

    def keep(self, data: bytes, *, name: str, format_name: str, sha256: str) -> HostedRow | None:
        """Store a picture; None if it cannot be stored, which is logged."""
        if format_name not in MEDIA_TYPES or len(data) > self.quota_bytes:
            return None
        now = _now()
        one = HostedRow(
            image_id=secrets.token_hex(ID_BYTES),
            name=name,
            format=format_name,
            sha256=sha256,
            bytes=len(data),
            hosted_at=now,
            expires_at=now + timedelta(seconds=self.expiry_s),
        )
        try:
            _write(self.folder / one.image_id, data)
            _write(self.folder / f"{one.image_id}{_SIDECAR}", _SIDECARS.dump_json(one))
        except OSError as e:
            self._remove(one)
            log.warning("cannot write a hosted picture: %s", e.strerror or e)
            return None
        self._enter(one)
        return one

    def open_file(self, image_id: str) -> tuple[HostedRow, IO[bytes]] | None:
        """Return a picture and its open file; None if there is none or it has expired."""
        with self._lock:
            one = self._index.get(image_id)
        if one is None:
            return None
        if one.expires_at <= _now():
            self._forget(one)
            return None
        try:
            return one, (self.folder / one.image_id).open("rb")
        except OSError:  # `clipmod stats forget`, or another process's quota
            self._forget(one)
            return None

    def sweep(self) -> None:
        """Remove expired pictures."""
        now = _now()
        with self._lock:
            expired = [one for one in self._index.values() if one.expires_at <= now]
        for one in expired:
            self._forget(one)

    def __len__(self) -> int:
        """Return the number of pictures."""
        with self._lock:
            return len(self._index)

    @property
    def size(self) -> int:
        """Bytes of all pictures."""
        with self._lock:
            return self._bytes

    def _enter(self, one: HostedRow) -> None:
        """Put it into the index; evict the oldest over the quota."""
        with self._lock:
            self._index[one.image_id] = one
            self._bytes += one.bytes
            evicted = list(self._evict())
        for old in evicted:
            self._remove(old)

    def _evict(self) -> Iterator[HostedRow]:
        while self._bytes > self.quota_bytes:
            oldest = self._index.pop(next(iter(self._index)))
            self._bytes -= oldest.bytes
            yield oldest

    def _forget(self, one: HostedRow) -> None:
        with self._lock:
            if self._index.pop(one.image_id, None) is not None:
                self._bytes -= one.bytes
        self._remove(one)

    def _remove(self, one: HostedRow) -> None:
        # the sidecar last: after a crash the rest is found by it
        for name in (one.image_id, f"{one.image_id}{_SIDECAR}"):
            remove(self.folder / name)


def hosting_of(settings: Settings) -> HostedPictures | None:
    """Return the hosted pictures; None if hosting is off or the folder cannot be used."""
    if settings.no_hosting:
        return None
    expiry_s = settings.image_expiry_hours * 3600
    hosting = HostedPictures(data_folder(settings) / "hosted", expiry_s, settings.hosting_mb * MB)
    try:
        hosting.open()
    except OSError as e:
        log.warning("cannot host pictures in %s (%s); serving without hosting", hosting.folder, e)
        return None
    return hosting


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


def _read_sidecars(folder: Path) -> Iterator[HostedRow]:
    """Yield the pictures of the folder; remove what a crash left incomplete."""
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


def _read_sidecar(path: Path) -> HostedRow | None:
    try:
        one = _SIDECARS.validate_json(path.read_bytes())
        valid = one.image_id == path.stem and one.format in MEDIA_TYPES and one.expires_at > one.hosted_at
    except (OSError, ValueError, TypeError):  # TypeError: a time without a zone
        return None
    return one if valid else None
