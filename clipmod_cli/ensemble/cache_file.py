"""Evidence in one file of bounded size, for any number of processes: SQLite, written behind.

It is a cache: whatever goes wrong with it costs time, never a result. Each entry carries a checksum over
itself and its key, and one that does not match is as good as none. Knows no model and no picture.
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from clipmod_cli.errors import OutputError
from clipmod_cli.types import Detection, Detections, Embedding, LabelScores, Seen, is_finite

log = logging.getLogger(__name__)

BATCHES_BEHIND: Final = 64
"""Waiting to be written. A disk that is slower than the models then slows them, and memory stays bounded."""
BUSY_S: Final = 2.0
"""For another process's write, a few milliseconds each."""
LET_GO: Final = 0.1
"""Of all entries, the oldest, each time the file is full."""
CHECK_BYTES: Final = 8
"""Against a disk's mistakes, which are no adversary."""
DAY_S: Final = 86_400
KEYS_AT_ONCE: Final = 500
"""SQLite takes 999 variables in a statement where it is old."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS evidence (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, at INTEGER NOT NULL
)
"""


def default_path() -> Path:
    """Return where it is kept: the user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("clipmod", appauthor=False) / "evidence" / "evidence-1.sqlite"


class EvidenceFile:
    """Evidence under keys, in one file.

    Args:
        path: the file; it and its folder are made, for the user's eyes alone.
        most: bytes that it may take, some more while it is being written.
        days: what is older goes now; None keeps all.
    """

    def __init__(self, path: Path, most: int, *, days: float | None = None) -> None:
        self._path, self._most, self._days = path, most, days
        self._reading: sqlite3.Connection | None = self._open()
        self._lock = threading.Lock()  # one thread begins with batches, another one asks again what failed
        self._waiting: queue.Queue[Mapping[bytes, Seen] | None] = queue.Queue(BATCHES_BEHIND)
        self._writer = threading.Thread(target=self._write_behind, name="clipmod-evidence", daemon=True)
        if self._reading is not None:
            self._writer.start()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Seen]:
        """Return what is kept under these keys, as far as it is whole."""
        with self._lock:
            found = self._find(keys)
        read = {key: unpack(value[CHECK_BYTES:]) for key, value in found if _is_whole(key, value)}
        return {key: seen for key, seen in read.items() if seen is not None}

    def _find(self, keys: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        if self._reading is None:
            return []
        try:
            return [row for part in _parts(keys) for row in _select(self._reading, part)]
        except sqlite3.Error as e:
            self._give_up(e)
            return []

    def put(self, seen: Mapping[bytes, Seen]) -> None:
        """Have these written, behind the caller's back; waits where the disk cannot keep up."""
        if self._reading is not None and self._writer.is_alive():
            self._waiting.put(seen)

    def close(self) -> None:
        """Write what is waiting, and let the file go."""
        if self._writer.is_alive():
            self._waiting.put(None)
            self._writer.join()
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    def _open(self) -> sqlite3.Connection | None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return _open_without_old(self._path, self._days)
        except (OSError, sqlite3.Error) as e:
            log.info("what models saw is not kept in %s: %s", self._path, e)
            return None

    def _give_up(self, error: Exception) -> None:
        log.warning("what models saw in earlier runs cannot be read from %s any more: %s", self._path, error)
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    def _write_behind(self) -> None:
        writing: sqlite3.Connection | None = None
        while (batch := self._waiting.get()) is not None:
            try:
                writing = writing or _connect(self._path)
                _insert(writing, batch)
                if _size_of(writing) > self._most:
                    _let_go(writing)
            except (OSError, sqlite3.Error) as e:
                log.info("what models saw could not be kept in %s: %s", self._path, e)
        if writing is not None:
            writing.close()


def _connect(path: Path) -> sqlite3.Connection:
    # One thread at a time uses it, but not always the one that opened it.
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")  # those who read do not wait for who writes
        connection.execute("PRAGMA synchronous = NORMAL")  # no entry is worth a wait for the disk
        connection.execute(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    with contextlib.suppress(OSError):
        os.chmod(path, 0o600)  # noqa: PTH101 — it holds what can be told of private pictures
    return connection


def _connect_or_begin_anew(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.OperationalError:  # it cannot be reached or is busy, which says nothing of what is in it
        raise
    except sqlite3.DatabaseError as e:
        log.warning("%s cannot be read (%s) and is begun anew: it is only a cache", path, e)
        _remove(path)
        return _connect(path)


def _open_without_old(path: Path, days: float | None) -> sqlite3.Connection:
    connection = _connect_or_begin_anew(path)
    if days is not None:
        _erase(connection, time.time() - days * DAY_S)
    return connection


def _remove(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def _select(connection: sqlite3.Connection, keys: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    marks = ",".join("?" * len(keys))
    found: list[tuple[bytes, bytes]] = connection.execute(
        f"SELECT key, value FROM evidence WHERE key IN ({marks})",  # noqa: S608 — marks alone
        list(keys),
    ).fetchall()
    return found


def _insert(connection: sqlite3.Connection, seen: Mapping[bytes, Seen]) -> None:
    rows = []
    for key, one in seen.items():
        packed = pack(one)
        rows.append((key, _check(key, packed) + packed, int(time.time())))
    with _transaction(connection):
        connection.executemany("INSERT OR REPLACE INTO evidence (key, value, at) VALUES (?, ?, ?)", rows)


def _let_go(connection: sqlite3.Connection) -> None:
    """Delete the oldest entries; the file keeps its size, and what comes next takes their place."""
    with _transaction(connection):
        (count,) = connection.execute("SELECT count(*) FROM evidence").fetchone()
        connection.execute(
            "DELETE FROM evidence WHERE id IN (SELECT id FROM evidence ORDER BY id LIMIT ?)",
            (int(count * LET_GO) + 1,),
        )


def erase(path: Path, *, before: float | None = None) -> int:
    """Erase what was kept before a time (seconds since 1970), or all, for good; return how many entries.

    Raises:
        OutputError: it cannot be erased.
    """
    if not path.exists():
        return 0
    try:
        with contextlib.closing(_connect_or_begin_anew(path)) as connection:
            erased = _erase(connection, before)
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except (OSError, sqlite3.Error) as e:
        raise OutputError(
            f"what models saw cannot be erased from {path}: {e}. Remove the file yourself"
        ) from e
    return erased


def _erase(connection: sqlite3.Connection, before: float | None) -> int:
    connection.execute("PRAGMA secure_delete = ON")  # zeros go where an entry was
    with _transaction(connection):
        return connection.execute("DELETE FROM evidence WHERE ?1 IS NULL OR at < ?1", (before,)).rowcount


def _size_of(connection: sqlite3.Connection) -> int:
    """Return how many bytes of the file are in use."""
    pages, unused, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - unused) * size)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _parts(keys: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    return (keys[at : at + KEYS_AT_ONCE] for at in range(0, len(keys), KEYS_AT_ONCE))


def _check(key: bytes, packed: bytes) -> bytes:
    return hashlib.blake2b(key + packed, digest_size=CHECK_BYTES).digest()


def _is_whole(key: bytes, value: object) -> bool:
    return isinstance(value, bytes) and value[:CHECK_BYTES] == _check(key, value[CHECK_BYTES:])


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
    """Return the evidence that these bytes hold; None where they hold none that is sound."""
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
