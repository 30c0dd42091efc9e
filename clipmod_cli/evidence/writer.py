"""Writes evidence while a run goes on: takes it from the stream, and seals it in parts.

A part appears whole. What a kill cost is known to the next run by its records without evidence: it judges
these inputs again. So an output and its evidence always tell of the same inputs.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.errors import OutputError, OutputMismatchError
from clipmod_cli.evidence.folder import (
    locked,
    parts_of,
    read_rows,
    read_superseded,
    write_part,
    write_superseded,
)
from clipmod_cli.evidence.identity import EvidenceIdentity, read_identity, write_identity
from clipmod_cli.evidence.rows import ItemEvidence, to_row, vectors_of
from clipmod_cli.results import Settled
from clipmod_cli.types import Evidence, Failure, Item

PART_VIEWS: Final = 4_096
"""Views in a part: 23 MB with the three models of the ensemble."""
PART_SECONDS: Final = 300.0
"""A part is sealed after this time, so that a kill costs no more work than this."""
_KEY_COLUMNS: Final = ("source", "source_b64", "member", "member_b64", "media")


@dataclass(slots=True)
class EvidenceWriter:
    """Writes the evidence of a run to a folder, which it locks. Call `close` at the end.

    Build it with `open`. All methods raise OutputError if the folder cannot be written.
    """

    folder: Path
    identity: EvidenceIdentity
    directory: str | None
    _lock: ExitStack = field(repr=False)
    _stored: _StoredRows = field(repr=False)
    _current: ItemEvidence | None = field(default=None, repr=False)
    _rows: list[dict[str, Any]] = field(default_factory=list, repr=False)
    _vectors: dict[str, list[NDArray[np.float16] | None]] = field(default_factory=dict, repr=False)
    _views: int = 0
    _sealed_at: float = field(default_factory=time.monotonic)

    @classmethod
    def open(
        cls, folder: Path, identity: EvidenceIdentity, *, directory: str | None, overwrite: bool
    ) -> Self:
        """Return a writer that adds to a folder, which is created if it is missing.

        Args:
            folder: of this run alone until `close`.
            identity: what this run's evidence is.
            directory: to which the sources are relative; None if they are URLs.
            overwrite: delete the evidence that is there.

        Raises:
            OutputMismatchError: it holds evidence of other models, weights or decoding.
            EvidenceError: it holds something else.
            OutputError: another process is writing to it.
        """
        found = read_identity(folder)
        difference = None if found is None or overwrite else found.difference(identity)
        if difference is not None:
            raise OutputMismatchError(
                f"{folder} holds evidence of {difference}. Name another folder, or --overwrite"
            )
        with ExitStack() as stack:
            stack.enter_context(locked(folder))
            try:
                if overwrite:
                    _clear(folder)
                if found is None or overwrite:
                    write_identity(folder, identity)
            except OSError as e:
                raise OutputError(f"cannot write evidence to {folder}: {e.strerror}") from e
            stored = _StoredRows.read(folder)
            return cls(folder, identity, directory, stack.pop_all(), stored)

    def has_evidence_of(self, record: Mapping[str, Any]) -> bool:
        """Return whether there is evidence of a record that no other record has claimed, and claim it."""
        return self._stored.claim(_key(record, record))

    def begin(self, records: int) -> None:
        """Supersede the evidence that no record claimed: those inputs are judged again, or are gone.

        Args:
            records: how many the output has.

        Raises:
            OutputMismatchError: it has none, but there is evidence: that of another output.
        """
        unclaimed = self._stored.unclaimed()
        if unclaimed and not records:
            raise OutputMismatchError(
                f"{self.folder} holds the evidence of another output. Go on with that one (-o), "
                "name another folder, or --overwrite"
            )
        if unclaimed:
            superseded = defaultdict(frozenset, read_superseded(self.folder))
            for part, rows in unclaimed.items():
                superseded[part] |= rows
            write_superseded(self.folder, superseded)

    def add(self, seen: Evidence | Failure) -> None:
        """Add what was seen of the next frame; frames of an item come one after the other."""
        if self._current is None or self._current.item is not seen.item:
            self._current = ItemEvidence(item=seen.item, directory=self.directory)
        self._current.add(seen)

    def add_recheck(
        self, item: Item, spans: Sequence[tuple[float, float]], seen: Sequence[Evidence | Settled]
    ) -> None:
        """Add what was seen of an item's frames in these spans, after its other frames."""
        if self._current is None or self._current.item is not item:
            raise AssertionError("a recheck of an item follows its frames")
        self._current.recheck_spans = spans
        self._current.recheck = [one for one in seen if isinstance(one, Evidence)]

    def finish(self, item: Item) -> None:
        """Take the evidence of an item that was judged into the next part."""
        done, self._current = self._current, None
        if done is None or done.item is not item:
            raise AssertionError("an item was judged without evidence")
        self._rows.append(to_row(done, self.identity.members, self._views))
        views = [*done.views, *done.recheck]
        for member in self.identity.members:
            if member.kind == "text-image":
                self._vectors.setdefault(member.name, []).extend(vectors_of(views, member))
        self._views += len(views)
        if self._views >= PART_VIEWS or time.monotonic() - self._sealed_at >= PART_SECONDS:
            self._seal()

    def close(self) -> None:
        """Seal the last part, and unlock the folder; a second call does nothing."""
        try:
            self._seal()
        finally:
            self._lock.close()

    def _seal(self) -> None:
        self._sealed_at = time.monotonic()
        if not self._rows:
            return
        rows, vectors = self._rows, {name: _matrix(found) for name, found in self._vectors.items()}
        # what cannot be written is not tried again: the next run judges inputs without evidence again
        self._rows, self._vectors, self._views = [], {}, 0
        write_part(self.folder, rows, vectors)


def _matrix(vectors: Sequence[NDArray[np.float16] | None]) -> NDArray[np.float16]:
    """Return them as `(n, d)`; zeros where a member was not asked."""
    size = next((len(vector) for vector in vectors if vector is not None), 0)
    absent = np.zeros(size, dtype=np.float16)
    rows = [absent if vector is None else vector for vector in vectors]
    return np.stack(rows) if rows else np.zeros((0, size), dtype=np.float16)


def _clear(folder: Path) -> None:
    for path in [*folder.glob("part-*"), folder / "superseded.json"]:
        path.unlink(missing_ok=True)


_Place = tuple[str, int]
"""A part's file name and the number of a row in it."""


@dataclass(slots=True)
class _StoredRows:
    """Rows that are stored, by key, the newest last."""

    places: dict[bytes, list[_Place]]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return all rows of a folder that count."""
        gone, places = read_superseded(folder), defaultdict[bytes, list[_Place]](list)
        for part in parts_of(folder):
            name = part.rows.name
            left = gone.get(name, frozenset())
            for number, row in enumerate(read_rows(part, _KEY_COLUMNS)):
                if number not in left:
                    places[_key(row, row["media"] or {})].append((name, number))
        return cls(dict(places))

    def claim(self, key: bytes) -> bool:
        """Take one row of this key away; return whether there was one."""
        places = self.places.get(key)
        if not places:
            return False
        places.pop()
        return True

    def unclaimed(self) -> dict[str, frozenset[int]]:
        """Return the rows that are left, by part."""
        left = defaultdict[str, set[int]](set)
        for name, number in self._left():
            left[name].add(number)
        return {name: frozenset(numbers) for name, numbers in left.items()}

    def _left(self) -> Iterator[_Place]:
        for places in self.places.values():
            yield from places


def _key(names: Mapping[str, Any], media: Mapping[str, Any]) -> bytes:
    """Return what identifies an input and its content, in a record as in a row."""
    parts = [names[name] for name in ("source", "source_b64", "member", "member_b64")]
    parts += [media.get(name) for name in ("sha256", "bytes", "mtime_ns")]
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()
