"""Files in the data folder of the service: written atomically, readable by their owner only."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path

import platformdirs

from clipmod_cli.settings.definition import Settings

log = logging.getLogger(__name__)


def data_folder(settings: Settings) -> Path:
    """Return the folder of hosted pictures and prediction files."""
    if settings.data_dir:
        return Path(settings.data_dir).expanduser()
    return Path(platformdirs.user_data_dir("clipmod", appauthor=False))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file atomically, readable by its owner only.

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
    """Remove a file; errors are only logged."""
    try:
        path.unlink(missing_ok=True)
    except OSError as e:
        log.debug("%s cannot be removed: %s", path, e)
