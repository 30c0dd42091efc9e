"""Reading an existing output: which inputs have a record already, so that they are not judged again.

A record's key is (source, member, number of its occurrence). The record of a file or an object counts only
while size and modification time are unchanged. Records of changed inputs and of retryable errors are removed
from the output. Each other record takes sixteen bytes and a counter of memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from array import array
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.atomic import atomic_file
from clipmod_cli.errors import OutputError, OutputMismatchError
from clipmod_cli.records import SCHEMA_NAME, read_name, write_name
from clipmod_cli.sources.registry import Sources
from clipmod_cli.types import Failure, Item

CHUNK: Final = 1 << 20
LINE_START = f'{{"schema":"{SCHEMA_NAME}"'.encode()
"""The start of every record's line; a torn line without it belongs to another program's file."""
HASH = np.dtype("S16")
"""Sixteen bytes. numpy strips zeros at the end, by which hashes of one length stay distinct."""
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
    "review_reasons": list | None,
    "ensemble_category": str | None,
}
"""The fields that resuming reads. Checking all fields of each record would take ten times as long."""


@dataclass
class DoneInputs:
    """The inputs that have a record in the output: a multiset of keyed hashes.

    Attributes:
        salt: a secret of this run, so that names with equal hashes cannot be chosen on purpose.
        hashes: `(n,)` of 16 bytes, sorted: each key's hash once.
        unmatched: `(n,)` how many records of each key no input has matched yet.
        count: how many records stay in the output.
        retry_count: how many records were removed because their inputs have to be judged again.
        retry_archives: hashes of the archives that contain one of these inputs.
    """

    salt: bytes = field(default_factory=lambda: secrets.token_bytes(16), repr=False)
    hashes: NDArray[np.bytes_] = field(default_factory=lambda: np.zeros(0, dtype=HASH))
    unmatched: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, dtype=np.uint32))
    count: int = 0
    retry_count: int = 0
    retry_archives: set[bytes] = field(default_factory=set)

    def has_members_to_retry(self, given: Item | Failure) -> bool:
        """Return whether this input is an archive with a member that has to be judged again."""
        source = (given.item if isinstance(given, Failure) else given).source
        archives = self.retry_archives
        return bool(archives) and _hash(self.salt, _bytes_of(*write_name(source)), None) in archives

    def match(self, given: Item | Failure) -> bool:
        """Return whether a record of this input is left, and use that record up."""
        item = given.item if isinstance(given, Failure) else given
        member = None if item.member is None else _bytes_of(*write_name(item.member))
        key = np.array(_hash(self.salt, _bytes_of(*write_name(item.source)), member), dtype=HASH)
        at = int(np.searchsorted(self.hashes, key))
        if at == len(self.hashes) or self.hashes[at] != key or not self.unmatched[at]:
            return False
        self.unmatched[at] -= 1
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeOptions:
    """What to do with an existing output.

    Attributes:
        overwrite: discard its content.
        resume: continue it, refuse it, or continue it after comparing the hashes of its inputs.
        on_done: called with the fields of each record that stays in it.
    """

    overwrite: bool
    resume: Literal["yes", "no", "verify"]
    on_done: Callable[[dict[str, Any]], None]


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


def read_done(
    path: Path, run_key: str, *, verify: bool, on_done: Callable[[dict[str, Any]], None]
) -> DoneInputs:
    """Return the inputs that need not be judged again, after removing all other records from the output.

    Args:
        path: the output; it may be missing or empty. The caller holds its lock.
        run_key: that of this run.
        verify: compare hashes of files in place of size and modification time.
        on_done: called with each record that stays.

    Raises:
        OutputMismatchError: another run or another program wrote it.
        OutputError: it cannot be read or rewritten.
    """
    done = DoneInputs()
    hashes, removed = bytearray(), array("Q")
    torn = None
    sources = Sources()
    try:
        with contextlib.suppress(FileNotFoundError):
            with path.open("rb") as file:
                end = 0
                for number, line in enumerate(file, 1):
                    start, end = end, end + len(line)
                    if not line.endswith(b"\n"):
                        if number == 1 and not line.startswith(LINE_START[: len(line)]):
                            raise _foreign(path, number)
                        torn = start
                        break
                    record = _parse(line, number, path, run_key)
                    if _is_done(record, sources, verify=verify):
                        done.count += 1
                        on_done(record)
                        hashes.extend(_hash(done.salt, *_key_of(record)))
                        continue
                    removed.extend((start, end))
                    done.retry_count += 1
                    if record["member"] is not None:
                        done.retry_archives.add(_hash(done.salt, _key_of(record)[0], None))
            remove_ranges(path, removed, torn=torn)
    except OSError as e:
        raise OutputError(f"cannot read or rewrite {path}: {e.strerror}") from e
    done.hashes, counts = np.unique(np.frombuffer(hashes, dtype=HASH), return_counts=True)
    done.unmatched = counts.astype(np.uint32)
    return done


def _parse(line: bytes, number: int, path: Path, run_key: str) -> dict[str, Any]:
    from pydantic_core import from_json

    try:
        record = from_json(line)
        valid = _is_record(record)
    except ValueError:  # not JSON, or not base64
        valid = False
    if not valid:
        raise _foreign(path, number)
    if record["run_key"] != run_key:
        models = ", ".join(map(str, record["models_used"] or ["none"]))
        raise OutputMismatchError(
            f"{path} was written with other models, policy or settings (policy {record['policy']}, "
            f"threshold {record['threshold']}, models {models}). "
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


def _foreign(path: Path, number: int) -> OutputMismatchError:
    return OutputMismatchError(
        f"{path} line {number} is not a clipmod record, so this file is left alone. "
        "Name another output, or --overwrite"
    )


def _key_of(record: dict[str, Any]) -> tuple[bytes, bytes | None]:
    """Return the bytes of the source's and the member's names; raises ValueError for broken base64."""
    member = record["member"]
    return (
        _bytes_of(record["source"], record["source_b64"]),
        None if member is None else _bytes_of(member, record["member_b64"]),
    )


def _bytes_of(text: str, encoded: str | None) -> bytes:
    return text.encode() if encoded is None else b64decode(encoded, validate=True)


def _is_done(record: dict[str, Any], sources: Sources, *, verify: bool) -> bool:
    error = record["error"]
    if error and error["retryable"]:
        return False
    path = read_name(record["source"], record["source_b64"])
    return sources.find(path).is_unchanged(record, path, verify=verify)


def _hash(salt: bytes, source: bytes, member: bytes | None) -> bytes:
    tail = b"" if member is None else b"\0" + member
    return hashlib.blake2b(source + tail, key=salt, digest_size=16).digest()


def remove_ranges(path: Path, ranges: Sequence[int], *, torn: int | None) -> None:
    """Remove byte ranges from a file by an atomic rewrite: a kill leaves the old file or the new one.

    Args:
        path: the file.
        ranges: start and end of each range in turn, ascending.
        torn: where a torn last line starts, which is removed too.

    Raises:
        OSError: it cannot be written, for example because the disk is full; the file is unchanged.
    """
    if not ranges:
        if torn is not None:  # in place: a copy of a long output may not fit on the disk
            os.truncate(path, torn)
        return
    mode = path.stat().st_mode & 0o7777
    with atomic_file(path, mode=mode, sync=True) as file, path.open("rb") as source:
        for start, end in zip(ranges[::2], ranges[1::2], strict=True):
            _copy(source, file, start - source.tell())
            source.seek(end)
        if torn is None:
            shutil.copyfileobj(source, file)
        else:
            _copy(source, file, torn - source.tell())


def _copy(source: IO[bytes], target: IO[bytes], length: int) -> None:
    while length and (chunk := source.read(min(length, CHUNK))):
        target.write(chunk)
        length -= len(chunk)
