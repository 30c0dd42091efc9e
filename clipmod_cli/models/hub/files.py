"""Sizes and checksums of files; the sha256 of a large file is cached until it changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from pathlib import Path

from clipmod_cli.atomic import atomic_file

log = logging.getLogger(__name__)

SETTLED_S = 3.0
"""The hash of a file that changed more recently is not cached: the file may change again within one tick of
the file system's clock (2 s on FAT) and keep its time."""

_CHUNK = 1 << 20


def size_of(path: Path) -> int:
    """Return a file's size in bytes; 0 if it does not exist."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_id_of(path: Path) -> str:
    """Return git's id of a file with this content in hex (the hub's checksum of small files)."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def cached_sha256(path: Path) -> str:
    """Return the file's sha256 in hex, from the user's cache if the file did not change since.

    Raises:
        OSError: the file cannot be read.
    """
    from platformdirs import user_cache_path

    real = path.resolve()
    key = hashlib.sha256(os.fsencode(real)).hexdigest()
    entry = user_cache_path("clipmod", appauthor=False) / "hashes" / f"{key}.json"
    started = time.time()  # before `_state`: a write in the same tick afterwards has to count as recent
    before = _state(real)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        cached = json.loads(entry.read_text(encoding="utf-8"))
        if cached["state"] == before and len(cached["sha256"]) == 64:
            return str(cached["sha256"])
    digest = sha256_of(real)
    if _state(real) == before and started - max(before[-2:]) / 1e9 > SETTLED_S:
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(entry) as file:
                file.write(json.dumps({"state": before, "sha256": digest}).encode())
        except OSError as e:
            log.debug("cannot cache the hash of a file in %s: %s", entry.parent, e)
    return digest


def _state(path: Path) -> list[int]:
    """Return what changes when the file does; every write sets the last (ctime), which no program can set."""
    stat = path.stat()
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
