"""Judged pictures, kept for `/image/{image_id}` without their metadata.

    DATA/hosted/IMAGE_ID         the picture
    DATA/hosted/IMAGE_ID.json    its `HostedRow`

The sidecar is written last and removed last: a picture without one is being written, or is what a crash left.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final, Literal, TypeAlias

from pydantic import TypeAdapter

from clipmod_cli.decode.formats import picture_formats
from clipmod_cli.output.history.rows import HostedRow
from clipmod_cli.output.history.run import data_folder
from clipmod_cli.server.configuration import MB
from clipmod_cli.server.hosting.folder import QuotaFolder
from clipmod_cli.server.hosting.metadata.errors import UnstrippableError
from clipmod_cli.server.hosting.metadata.strip import strip_metadata
from clipmod_cli.server.hosting.quota import AnswerPins, KeptFile, QuotaLedger
from clipmod_cli.settings.definition import Settings

log = logging.getLogger(__name__)

NotHosted: TypeAlias = Literal["off", "denied", "metadata", "quota", "storage"]
"""Why a judged picture is not hosted: hosting is off; a bank denies its content; its metadata cannot be
removed; it is larger than the quota, or than the pictures of unfinished answers leave of it; it cannot be
written."""

ID_BYTES: Final = 16
"""128 bits: cannot be guessed."""

IMAGE_ID: Final = re.compile(rf"[0-9a-f]{{{2 * ID_BYTES}}}")
"""The only form of an id that becomes a path."""

_WRITTEN: Final = re.compile(rf"\.?{IMAGE_ID.pattern}(\.json)?(\.\w+\.part)?")
"""The names of files in the folder, finished or not."""

MEDIA_TYPES: Final = {known.name: known.mime for known in picture_formats()}
"""By the format of the content; no other types are sent."""

_SIDECAR: Final = ".json"
_SIDECARS: Final = TypeAdapter(HostedRow)


class HostedPictures(QuotaFolder):
    """The folder of hosted pictures, under ids that cannot be guessed."""

    def __init__(
        self, folder: Path, expiry_s: float, ledger: QuotaLedger, *, keep_metadata: bool = False
    ) -> None:
        """Set the limits; with `keep_metadata` pictures are kept as they were sent."""
        super().__init__(folder, expiry_s, ledger)
        self.keep_metadata = keep_metadata

    def keep(
        self, data: bytes, *, name: str, format_name: str, sha256: str, pins: AnswerPins
    ) -> HostedRow | NotHosted:
        """Store a picture, or return why it is not stored."""
        if format_name not in MEDIA_TYPES:
            return "metadata"
        try:
            shown = data if self.keep_metadata else strip_metadata(data, format_name)
        except UnstrippableError as e:
            log.debug("a picture is not hosted: %s", e)
            return "metadata"
        now = _now()
        one = HostedRow(
            image_id=secrets.token_hex(ID_BYTES),
            name=name,
            format=format_name,
            sha256=sha256,
            bytes=len(shown),
            hosted_at=now,
            expires_at=now + timedelta(seconds=self.expiry_s),
        )
        try:
            written = self.write(one.image_id, len(shown), (shown, _SIDECARS.dump_json(one)), pins)
        except OSError as e:
            log.warning("cannot write a hosted picture: %s", e.strerror or e)
            return "storage"
        return one if written else "quota"

    def open_file(self, image_id: str) -> tuple[HostedRow, IO[bytes]] | None:
        """Return a picture of this or another process and its open file; None if there is none any more."""
        one = self._row(image_id)
        if one is None:
            return None
        try:
            return one, self.paths(image_id)[0].open("rb")
        except OSError:  # removed meanwhile
            return None

    def delete(self, image_id: str) -> bool:
        """Remove a picture of this or another process; return whether there was one.

        Raises:
            OSError: it cannot be removed.
        """
        if self._row(image_id) is None:
            return False
        picture, sidecar = self.paths(image_id)
        try:
            picture.unlink()
        except FileNotFoundError:  # another request or process was first
            return False
        sidecar.unlink(missing_ok=True)
        self.ledger.drop(image_id)
        return True

    def count(self) -> int:
        """Return how many pictures of all processes there are that are not known to have expired."""
        names = {path.name for path in self.folder.iterdir()}
        return len(set(self.complete(names)).difference(self.ledger.expired(time.time())))

    def paths(self, key: str) -> tuple[Path, ...]:
        """Return the picture and its sidecar."""
        return self.folder / key, self.folder / f"{key}{_SIDECAR}"

    def complete(self, names: set[str]) -> Iterator[str]:
        """Yield the ids of the pictures that have a sidecar."""
        return (name for name in names if IMAGE_ID.fullmatch(name) and f"{name}{_SIDECAR}" in names)

    def incomplete(self, names: set[str]) -> Iterator[str]:
        """Yield what killed writers left; any other file is not from clipmod."""
        whole = {name for key in self.complete(names) for name in (key, f"{key}{_SIDECAR}")}
        return (name for name in names - whole if _WRITTEN.fullmatch(name))

    def read(self, key: str) -> KeptFile | None:
        """Return a picture's size and times by its sidecar."""
        one = _read_sidecar(self.paths(key)[1])
        if one is None:
            return None
        times = one.hosted_at.timestamp(), one.expires_at.timestamp()
        return KeptFile(size=one.bytes, written_at=times[0], expires_at=times[1])

    def _row(self, image_id: str) -> HostedRow | None:
        """Return the sidecar of a picture that has not expired."""
        if not IMAGE_ID.fullmatch(image_id):
            return None
        one = _read_sidecar(self.paths(image_id)[1])
        if one is not None and one.expires_at <= _now():
            self.forget(image_id)
            return None
        return one


def hosting_of(settings: Settings) -> HostedPictures | None:
    """Return the hosted pictures; None if hosting is off or the folder cannot be used."""
    if settings.no_hosting:
        return None
    hosting = HostedPictures(
        data_folder(settings) / "hosted",
        settings.image_expiry_hours * 3600,
        QuotaLedger(settings.hosting_mb * MB, settings.hosting_files),
        keep_metadata=settings.keep_metadata,
    )
    try:
        hosting.open()
    except OSError as e:
        log.warning("cannot host pictures in %s (%s); serving without hosting", hosting.folder, e)
        return None
    return hosting


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


def _read_sidecar(path: Path) -> HostedRow | None:
    """Return a valid sidecar."""
    try:
        one = _SIDECARS.validate_json(path.read_bytes())
        valid = one.image_id == path.stem and one.format in MEDIA_TYPES and one.expires_at > one.hosted_at
    except (OSError, ValueError, TypeError):  # TypeError: a time without a zone
        return None
    return one if valid else None
