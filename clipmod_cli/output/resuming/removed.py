"""Records that a run removes to judge their inputs again; they come back if it does not judge them.

A list may be another one, `--limit` may end the run before, a file may be deleted: without its old record
such an input would have none. Until the run ends they are in a hidden file beside the output, which the next
run takes back if this one is killed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, Protocol

from clipmod_cli.atomic import atomic_file, remove_unfinished
from clipmod_cli.errors import OutputMismatchError
from clipmod_cli.output.resuming.files import append_lines, open_lines
from clipmod_cli.output.resuming.keys import KeyCounts
from clipmod_cli.output.resuming.lines import LINE_START, foreign_line, parse_line
from clipmod_cli.output.resuming.rewrite import remove_ranges

_RUNS: Final = "clipmod_runs"


def removed_path(output: Path) -> Path:
    """Return where the removed records of an output are while a run judges their inputs."""
    return output.with_name(f".{output.name}.removed")


def keep_removed(output: Path, ranges: Sequence[int], runs: Iterable[str]) -> None:
    """Store lines of an output before they are removed from it.

    Args:
        output: the path.
        ranges: start and end of each line in turn, ascending.
        runs: the run_ids of all its records.

    Raises:
        OSError: they cannot be written.
    """
    mode = output.stat().st_mode & 0o7777
    with atomic_file(removed_path(output), mode=mode, sync=True) as kept, open_lines(output) as source:
        kept.write(json.dumps({_RUNS: sorted(runs)}).encode() + b"\n")
        for start, end in zip(ranges[::2], ranges[1::2], strict=True):
            source.seek(start)
            kept.write(source.read(end - start))


class Removed(Protocol):
    """What is known of the inputs of removed records."""

    def hash_record(self, record: Mapping[str, Any]) -> bytes:
        """Return the sixteen bytes of a record's input."""
        ...

    def hash_source(self, record: Mapping[str, Any]) -> bytes:
        """Return the sixteen bytes of a record's file, which may be an archive."""
        ...

    @property
    def has_ended(self) -> bool:
        """Whether the run has come to all its inputs."""
        ...

    def was_listed(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record's input is a folder that the run listed."""
        ...


def put_back(
    output: Path,
    inputs: Removed,
    *,
    start: int | None = None,
    on_back: Callable[[dict[str, Any]], None] = lambda _: None,
) -> int:
    """Append the removed records whose inputs have no new one, and forget the others; return how many.

    Args:
        output: the path; the caller holds its lock and has no other descriptor of it.
        inputs: what is known of them.
        start: where the new records start, in bytes of the file; if left out they are those of other runs
            than before.
        on_back: called with the fields of each record that is appended.

    Raises:
        OutputMismatchError: the output holds lines of another program.
        OSError: a file cannot be read or written; nothing is lost.
    """
    path, count = removed_path(output), 0
    remove_unfinished(path)
    if not path.exists() or not output.exists():
        path.unlink(missing_ok=True)
        return 0
    with path.open("rb") as removed:
        runs = frozenset(json.loads(removed.readline())[_RUNS])
        left = _Left(removed, inputs)
        for line in _whole_lines(output, start or 0):
            record = _parse(line, output)
            # A run may have been killed before it removed them, or while they came back.
            if start is not None or record["run_id"] not in runs or left.is_one(line):
                left.take(record)

        def returning() -> Iterator[bytes]:
            nonlocal count
            for line, record in left.records():
                count += 1
                on_back(record)
                yield line

        append_lines(output, returning())
    path.unlink()
    return count


class _Left:
    """The removed records whose inputs have no new one."""

    def __init__(self, removed: IO[bytes], inputs: Removed) -> None:
        self._file, self._inputs = removed, inputs
        keys, digests, archives = bytearray(), bytearray(), bytearray()
        for line, record in self._all():
            keys += inputs.hash_record(record)
            digests += _digest(line)
            archives += inputs.hash_source(record)
        self._keys, self._digests = KeyCounts.of(keys), KeyCounts.of(digests)
        self._sources = KeyCounts.of(archives)
        self._judged, self._opened = set[bytes](), set[bytes]()  # of these sources, and with members

    def is_one(self, line: bytes) -> bool:
        """Return whether a line is one of those that were removed."""
        return _digest(line) in self._digests

    def take(self, record: Mapping[str, Any]) -> None:
        """Count an input's new record."""
        self._keys.take(self._inputs.hash_record(record))
        source = self._inputs.hash_source(record)
        if source in self._sources:
            self._judged.add(source)
            if record["member"] is not None:
                self._opened.add(source)

    def records(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Yield lines and fields of as many records of each input as have no new one.

        Not those of inputs that are none any more: a folder or an archive that can be read now, a member
        that its archive does not hold any more.
        """
        for line, record in self._all():
            source = self._inputs.hash_source(record)
            if record["member"] is None:
                is_none_now = source in self._opened or self._inputs.was_listed(record)
            else:
                is_none_now = self._inputs.has_ended and source in self._judged
            if self._keys.take(self._inputs.hash_record(record)) and not is_none_now:
                yield line, record

    def _all(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        self._file.seek(0)
        self._file.readline()
        for line in self._file:
            yield line, _parse(line, Path(self._file.name))


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()


def _whole_lines(output: Path, start: int) -> Iterator[bytes]:
    """Yield the lines from `start` on, and remove a torn last one: after the last, appending is safe."""
    torn, end = None, start
    with open_lines(output, start) as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                if not line.startswith(LINE_START[: len(line)]):
                    raise foreign_line(output, number)
                torn = end
                break
            end += len(line)
            yield line
    remove_ranges(output, (), torn=torn)


def _parse(line: bytes, path: Path) -> dict[str, Any]:
    record = parse_line(line)
    if record is None:
        raise OutputMismatchError(
            f"{path} holds a line that is no clipmod record. Move it away, or --overwrite"
        )
    return record
