"""What an existing output holds already: which inputs need not be judged again.

A record's key is (source, member, its how-manieth occurrence). That of a file or an object also
needs its size and modification time as they were; what changed, and what failed in a way that
may pass, is judged anew. Sixteen bytes and a counter are kept for each record.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.errors import OutputError, OutputMismatchError
from clipmod_cli.output.rewrite import Rewrite
from clipmod_cli.records import SCHEMA_NAME, read_name, write_name
from clipmod_cli.sources.registry import Sources
from clipmod_cli.types import Failure, Item

BEGINNING = f'{{"schema":"{SCHEMA_NAME}"'.encode()
"""How every record's line begins: by it a torn one is told from another program's file."""
_NEEDED: dict[str, Any] = {
    "run_key": str,
    "policy": str,
    "threshold": float | int,
    "source": str,
    "source_b64": str | None,
    "member": str | None,
    "member_b64": str | None,
    "models_used": list | None,
    "bytes": int | None,
    "mtime_ns": int | None,
    "sha256": str | None,
    "error": dict | None,
    "status": str,
    "final_decision": str | None,
    "needs_review": bool | None,
    "ensemble_category": str | None,
}
"""What is looked at when a run goes on. A whole check of each record would take ten times as long."""


@dataclass
class Done:
    """The inputs whose records stand, as a multiset of keyed hashes.

    Attributes:
        salt: a secret of this run, so that nobody can choose names whose hashes collide.
        high: `(n,)` uint64, sorted: the upper half of each key's hash, each key once.
        low: `(n,)` uint64, the lower half.
        left: `(n,)` how many records of each key are still to be matched by an input.
        kept: how many records stand.
        dropped: how many records will be judged anew.
        reopened: hashes of the archives that hold one of these, whatever record they have themselves.
    """

    salt: bytes = field(default_factory=lambda: secrets.token_bytes(16), repr=False)
    high: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    low: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    left: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, dtype=np.uint32))
    kept: int = 0
    dropped: int = 0
    reopened: set[tuple[int, int]] = field(default_factory=set)

    def reopens(self, given: Item | Failure) -> bool:
        """Return whether this input is an archive of which a member is to be judged anew."""
        source = (given.item if isinstance(given, Failure) else given).source
        return bool(self.reopened) and _hash(self.salt, _bytes_of(*write_name(source)), None) in self.reopened

    def take(self, given: Item | Failure) -> bool:
        """Return whether this input's record stands; counts its occurrence."""
        item = given.item if isinstance(given, Failure) else given
        member = None if item.member is None else _bytes_of(*write_name(item.member))
        high, low = _hash(self.salt, _bytes_of(*write_name(item.source)), member)
        at = int(np.searchsorted(self.high, np.uint64(high)))
        while at < len(self.high) and self.high[at] == high:
            if self.low[at] == low:
                if not self.left[at]:
                    return False
                self.left[at] -= 1
                return True
            at += 1
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeOptions:
    """What to do with an existing output.

    Attributes:
        overwrite: discard its content.
        resume: continue it, refuse it, or continue it after comparing the hashes of its inputs.
        kept: called with the fields of each record that stays in it.
    """

    overwrite: bool
    resume: Literal["yes", "no", "verify"]
    kept: Callable[[dict[str, Any]], None]


def clear_or_refuse(path: Path, options: ResumeOptions) -> None:
    """Empty an existing output with `overwrite`, or refuse one that must not be continued.

    Raises:
        OutputMismatchError: it has content, and `resume` is `no`.
        OutputError: it cannot be written.
    """
    try:
        if options.overwrite and path.exists():
            os.truncate(path, 0)
        elif options.resume == "no" and path.exists() and path.stat().st_size:
            raise OutputMismatchError(
                f"{path} exists; --overwrite discards its content, --resume continues it"
            )
    except OSError as e:
        raise OutputError(f"cannot write to {path}: {e.strerror}") from e


def read_done(path: Path, run_key: str, *, verify: bool, kept: Callable[[dict[str, Any]], None]) -> Done:
    """Return what stands in an existing output, after dropping from it what does not.

    A torn last line is cut off; the lines that will be judged anew are dropped by one atomic rewrite.

    Args:
        path: the output; it may be missing or empty. The caller holds its lock.
        run_key: that of this run.
        verify: hash every file again instead of trusting size and time.
        kept: called with each record that stands.

    Raises:
        OutputMismatchError: if another run or another program wrote it.
        OutputError: if it cannot be read or rewritten.
    """
    done = Done()
    hashes = _Hashes()
    sources = Sources()
    try:
        with contextlib.suppress(FileNotFoundError), Rewrite(path) as rewrite:
            for number, line in enumerate(rewrite.lines(), 1):
                if not line.endswith(b"\n"):
                    if number == 1 and not _begins_a_record(line):
                        raise _not_ours(path, number)
                    rewrite.cut()
                    break
                record = _parse(line, number, path, run_key)
                if not _stands(record, sources, verify=verify):
                    rewrite.drop()
                    done.dropped += 1
                    if record["member"] is not None:
                        done.reopened.add(_hash(done.salt, _key_of(record)[0], None))
                    continue
                rewrite.keep(line)
                done.kept += 1
                kept(record)
                hashes.add(_hash(done.salt, *_key_of(record)))
    except OSError as e:
        raise OutputError(f"cannot read or rewrite {path}: {e.strerror}") from e
    keys, counts = np.unique(hashes.all(), axis=0, return_counts=True)
    done.high, done.low = np.ascontiguousarray(keys[:, 0]), np.ascontiguousarray(keys[:, 1])
    done.left = counts.astype(np.uint32)
    return done


CHUNK = 65536
"""Hashes held as Python integers, which are five times as large, before they become an array."""


@dataclass
class _Hashes:
    chunk: list[tuple[int, int]] = field(default_factory=list)
    arrays: list[NDArray[np.uint64]] = field(default_factory=list)

    def add(self, pair: tuple[int, int]) -> None:
        self.chunk.append(pair)
        if len(self.chunk) == CHUNK:
            self._pack()

    def all(self) -> NDArray[np.uint64]:
        self._pack()
        return np.concatenate(self.arrays)

    def _pack(self) -> None:
        self.arrays.append(np.array(self.chunk, dtype=np.uint64).reshape(-1, 2))
        self.chunk = []


def _parse(line: bytes, number: int, path: Path, run_key: str) -> dict[str, Any]:
    from pydantic_core import from_json

    try:
        record = from_json(line)
        ours = _is_record(record)
    except ValueError:  # no JSON, or no base64
        ours = False
    if not ours:
        raise _not_ours(path, number)
    if record["run_key"] != run_key:
        raise OutputMismatchError(
            f"{path} was written with other models, policy or settings ({_described(record)}). "
            "Name another output, or --overwrite, or use the same settings to go on"
        )
    return dict(record)


def _is_record(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("schema") != SCHEMA_NAME:
        return False
    if not all(key in value and isinstance(value[key], kind) for key, kind in _NEEDED.items()):
        return False
    _key_of(value)
    error = value["error"]
    return error is None or (isinstance(error.get("retryable"), bool) and isinstance(error.get("code"), str))


def _not_ours(path: Path, number: int) -> OutputMismatchError:
    return OutputMismatchError(
        f"{path} line {number} is not a clipmod record, so this file is left alone. "
        "Name another output, or --overwrite"
    )


def _begins_a_record(torn: bytes) -> bool:
    return torn.startswith(BEGINNING[: len(torn)])


def _described(record: dict[str, Any]) -> str:
    models = ", ".join(map(str, record["models_used"] or ["none"]))
    return f"policy {record['policy']}, threshold {record['threshold']}, models {models}"


def _key_of(record: dict[str, Any]) -> tuple[bytes, bytes | None]:
    """Return the bytes of the source's and the member's names; raises ValueError for broken base64."""
    member = record["member"]
    return (
        _bytes_of(record["source"], record["source_b64"]),
        None if member is None else _bytes_of(member, record["member_b64"]),
    )


def _bytes_of(text: str, encoded: str | None) -> bytes:
    return text.encode() if encoded is None else b64decode(encoded, validate=True)


def _stands(record: dict[str, Any], sources: Sources, *, verify: bool) -> bool:
    error = record["error"]
    if error and error["retryable"]:
        return False
    path = read_name(record["source"], record["source_b64"])
    return sources.find(path).is_unchanged(record, path, verify=verify)


def _hash(salt: bytes, source: bytes, member: bytes | None) -> tuple[int, int]:
    tail = b"" if member is None else b"\0" + member
    digest = hashlib.blake2b(source + tail, key=salt, digest_size=16).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
