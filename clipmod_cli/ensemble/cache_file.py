"""The file of the evidence cache: SQLite of bounded size, for any number of processes, written in a thread.

It is a cache: an error costs time, never a result. Each entry has a checksum over itself and its key; one
that does not match is ignored. Knows no model and no picture.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from clipmod_cli.ensemble.cache import is_finite
from clipmod_cli.errors import OutputError
from clipmod_cli.types import Detection, Detections, Embedding, LabelScores, Seen

log = logging.getLogger(__name__)

BATCHES_BEHIND: Final = 64
"""Batches that wait to be written, so that memory is bounded: a disk that is slower slows the models."""
BUSY_S: Final = 2.0
"""Timeout for another process's write, which takes a few milliseconds."""
RETRY_S: Final = 0.02
"""Between two tries to connect while another process creates or leaves the file."""
EVICTED_SHARE: Final = 0.1
"""Of all entries, the oldest, each time the file is full."""
CHECKSUM_BYTES: Final = 8
"""Against errors of a disk, not against an attacker."""
DAY_S: Final = 86_400
KEYS_AT_ONCE: Final = 500
"""Old SQLite allows 999 variables in a statement."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS evidence (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, at INTEGER NOT NULL
)
"""


def default_path() -> Path:
    """Return the path of the file in the user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("clipmod", appauthor=False) / "evidence" / "evidence-1.sqlite"


class EvidenceFile:
    """Evidence by key, in one file; an `EvidenceStorage`.

    Args:
        path: the file; it and its folder are created, readable by the user alone.
        max_bytes: its size, some more while it is being written.
        days: older entries are deleted now; None keeps all.
    """

    def __init__(self, path: Path, max_bytes: int, *, days: float | None = None) -> None:
        self._path, self._max_bytes = path, max_bytes
        self._reader: sqlite3.Connection | None = None
        self._lock = threading.Lock()  # one thread submits batches, another one runs again what failed
        self._waiting: queue.Queue[Mapping[bytes, Seen] | None] = queue.Queue(BATCHES_BEHIND)
        self._writer = threading.Thread(target=self._write, name="clipmod-evidence", daemon=True)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._reader = _connect_or_replace(path)
            if days is not None:
                _erase(self._reader, time.time() - days * DAY_S)
        except (OSError, sqlite3.Error) as e:
            log.info("evidence is not kept in %s: %s", path, e)
            self._close_reader()
        else:
            self._writer.start()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Seen]:
        """Return what is stored under these keys and intact."""
        found: list[tuple[bytes, object]] = []
        with self._lock:
            try:
                for at in range(0, len(keys), KEYS_AT_ONCE):
                    found += self._select(keys[at : at + KEYS_AT_ONCE])
            except sqlite3.Error as e:
                log.warning("evidence of earlier runs cannot be read from %s any more: %s", self._path, e)
                self._close_reader()
        read = {key: _open(key, value) for key, value in found}
        return {key: seen for key, seen in read.items() if seen is not None}

    def put(self, seen: Mapping[bytes, Seen]) -> None:
        """Queue these for writing; waits where the disk cannot keep up."""
        if self._reader is not None and self._writer.is_alive():
            self._waiting.put(seen)

    def close(self) -> None:
        """Write what is queued, and close the file."""
        if self._writer.is_alive():
            self._waiting.put(None)
            self._writer.join()
        self._close_reader()

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _select(self, keys: Sequence[bytes]) -> list[tuple[bytes, object]]:
        if self._reader is None:
            return []
        marks = ",".join("?" * len(keys))
        return self._reader.execute(
            f"SELECT key, value FROM evidence WHERE key IN ({marks})",  # noqa: S608 — marks alone
            list(keys),
        ).fetchall()

    def _write(self) -> None:
        connection: sqlite3.Connection | None = None
        while (batch := self._waiting.get()) is not None:
            try:
                connection = connection or _connect(self._path)
                _insert(connection, batch)
                if _size_of(connection) > self._max_bytes:
                    _evict(connection)
            except (OSError, sqlite3.Error) as e:
                log.info("evidence could not be written to %s: %s", self._path, e)
        if connection is not None:
            connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    """Return a connection; waits while another process creates or leaves the file.

    SQLite itself does not wait for a change of the journal's mode.
    """
    until = time.monotonic() + BUSY_S
    while True:
        try:
            return _connect_now(path)
        except sqlite3.OperationalError as e:
            if not e.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() >= until:
                raise
            time.sleep(RETRY_S)


def _connect_now(path: Path) -> sqlite3.Connection:
    # One thread at a time uses it, but not always the one that opened it.
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")  # readers do not wait for a writer
        connection.execute("PRAGMA synchronous = NORMAL")  # a lost entry costs less than a wait for the disk
        connection.execute(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    with contextlib.suppress(OSError):
        os.chmod(path, 0o600)  # noqa: PTH101 — it is derived from private pictures
    return connection


def _connect_or_replace(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.OperationalError:  # it cannot be reached or is busy; its content may be fine
        raise
    except sqlite3.DatabaseError as e:
        log.warning("%s cannot be read (%s) and is replaced by an empty cache", path, e)
        for end in ("", "-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        return _connect(path)


def _insert(connection: sqlite3.Connection, seen: Mapping[bytes, Seen]) -> None:
    packed = {key: pack(one) for key, one in seen.items()}
    rows = [(key, _checksum(key, one) + one, int(time.time())) for key, one in packed.items()]
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT OR REPLACE INTO evidence (key, value, at) VALUES (?, ?, ?)", rows)


def _evict(connection: sqlite3.Connection) -> None:
    """Delete the oldest entries; the file keeps its size, and new entries take their place."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "DELETE FROM evidence WHERE id IN (SELECT id FROM evidence ORDER BY id LIMIT"
            " 1 + (SELECT CAST(count(*) * ? AS INTEGER) FROM evidence))",
            (EVICTED_SHARE,),
        )


def erase(path: Path, *, before: float | None = None) -> int:
    """Erase all entries, or those older than `before` (seconds since 1970); return how many.

    Raises:
        OutputError: if the file cannot be changed.
    """
    if not path.exists():
        return 0
    try:
        with contextlib.closing(_connect_or_replace(path)) as connection:
            erased = _erase(connection, before)
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except (OSError, sqlite3.Error) as e:
        raise OutputError(f"evidence cannot be erased from {path}: {e}. Remove the file yourself") from e
    return erased


def _erase(connection: sqlite3.Connection, before: float | None) -> int:
    connection.execute("PRAGMA secure_delete = ON")  # overwrites deleted entries with zeros
    return connection.execute("DELETE FROM evidence WHERE ?1 IS NULL OR at < ?1", (before,)).rowcount


def _size_of(connection: sqlite3.Connection) -> int:
    """Return how many bytes of the file are in use."""
    pages, unused, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - unused) * size)


def _checksum(key: bytes, packed: bytes) -> bytes:
    return hashlib.blake2b(key + packed, digest_size=CHECKSUM_BYTES).digest()


def _open(key: bytes, value: object) -> Seen | None:
    """Return the evidence of an entry; None if it is damaged."""
    if not isinstance(value, bytes) or value[:CHECKSUM_BYTES] != _checksum(key, value[CHECKSUM_BYTES:]):
        return None
    return unpack(value[CHECKSUM_BYTES:])


_EMBEDDING: Final = b"e"
_LABELS: Final = b"l"
_DETECTIONS: Final = b"d"


def pack(seen: Seen) -> bytes:
    """Return the evidence as bytes: its kind, then float32 numbers or JSON."""
    match seen:
        case Embedding(vector=vector):
            return _EMBEDDING + np.ascontiguousarray(vector, dtype="<f4").tobytes()
        case LabelScores(scores=scores):
            return _LABELS + _json({name: float(score) for name, score in scores.items()})
        case Detections(found=found):
            return _DETECTIONS + _json([[one.label, float(one.score), *map(int, one.box)] for one in found])
    raise AssertionError(f"unknown evidence {seen!r}")


def unpack(packed: bytes) -> Seen | None:
    """Return the evidence in these bytes; None if they are not valid."""
    try:
        seen = _read(packed[:1], packed[1:])
    except (ValueError, TypeError, AttributeError):
        return None
    return seen if seen is not None and is_finite(seen) else None


def _read(kind: bytes, rest: bytes) -> Seen | None:
    if kind == _EMBEDDING:
        return Embedding(vector=np.frombuffer(rest, dtype="<f4").astype(np.float32)) if rest else None
    if kind == _LABELS:
        return LabelScores(scores={str(name): float(score) for name, score in json.loads(rest).items()})
    if kind == _DETECTIONS:
        return Detections(found=tuple(_detection(*one) for one in json.loads(rest)))
    return None


def _detection(label: str, score: float, x: int, y: int, width: int, height: int) -> Detection:
    return Detection(label=str(label), score=float(score), box=(int(x), int(y), int(width), int(height)))


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
