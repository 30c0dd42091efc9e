"""Files in the data folder of the service: whole or not there, and for their owner alone."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path

import platformdirs

from clipmod_cli.settings import Settings

log = logging.getLogger(__name__)


def data_folder(settings: Settings) -> Path:
    """Return where pictures and predictions are kept."""
    if settings.data_dir:
        return Path(settings.data_dir).expanduser()
    return Path(platformdirs.user_data_dir("clipmod", appauthor=False))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read; it appears by rename, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        part.replace(path)
    except OSError:
        remove(part)
        raise


def remove(path: Path) -> None:
    """Remove a file, if it is there and can be."""
    try:
        path.unlink(missing_ok=True)
    except OSError as e:
        log.debug("%s cannot be removed: %s", path, e)
