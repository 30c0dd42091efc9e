"""A large file's sha256, computed once and kept in the user's cache until the file changes.

Hashing 1.7 GB takes 2 to 5 seconds, which each start would pay for a model in a folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from pathlib import Path

from clipmod_cli.models.cache import sha256_of

log = logging.getLogger(__name__)

SETTLED_S = 3.0
"""A file changed more recently than this may change again within one tick of its clock (2 s on FAT), and
would look the same: its hash is not kept."""


def own_folder() -> Path:
    """Return where hashes are kept."""
    from platformdirs import user_cache_path

    return user_cache_path("clipmod", appauthor=False) / "hashes"


def sha256_once(path: Path) -> str:
    """Return the file's sha256 in hex, as it was kept if nothing says that the file changed since.

    Raises:
        OSError: the file cannot be read.
    """
    real = path.resolve()
    kept = own_folder() / f"{hashlib.sha256(os.fsencode(real)).hexdigest()}.json"
    begun = (
        time.time()
    )  # before the state: what is written in the same tick afterwards has to count as recent
    before = _state(real)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(kept.read_text(encoding="utf-8"))
        if known["state"] == before and len(known["sha256"]) == 64:
            return str(known["sha256"])
    digest = sha256_of(real)
    if _state(real) == before and begun - max(before[-2:]) / 1e9 > SETTLED_S:
        _keep(kept, {"state": before, "sha256": digest})
    return digest


def _state(path: Path) -> list[int]:
    """Return what changes when the file does: writing to it sets the last, which nobody can set back."""
    told = path.stat()
    return [told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns]


def _keep(path: Path, document: dict[str, object]) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(document), encoding="utf-8")
        fresh.replace(path)
    except OSError as e:
        log.debug("the hash of a file cannot be kept in %s: %s", path.parent, e)
        with contextlib.suppress(OSError):
            fresh.unlink()
