"""All that was judged, as columns: an entry a content, copies together. Records are read when needed."""

from __future__ import annotations

import os
import tempfile
import threading
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias, get_args

from clipmod_cli.errors import UsageError
from clipmod_cli.output.reading.cards import RunCards, read_cards
from clipmod_cli.output.reading.files import RecordFile, check_file
from clipmod_cli.records import Record, read_name
from clipmod_cli.review.decisions import MachineJudgement, ReviewedFile, content_key
from clipmod_cli.review.sheet import OUTCOMES, Finding, Outcome, finding_of

ReviewKind: TypeAlias = Literal["nsfw", "review", "safe", "error"]
KINDS: Final[tuple[ReviewKind, ...]] = get_args(ReviewKind)

NOTHING: Final[Mapping[str, Any]] = dict.fromkeys(Record.model_fields)
"""What a compact record lacks is null."""


class OutputChangedError(UsageError):
    """An output was written again while it was reviewed: a decision would be on something else."""

    http_status = 409

    def __init__(self, name: str) -> None:
        """Say so."""
        super().__init__(f"{name} was written again meanwhile. End this review and start it again")


@dataclass(slots=True)
class ContentTable:
    """Contents by number, from 0, in the order of the records.

    Attributes:
        files: the outputs.
        cards: their run cards.
        policies: what these tell of the policy, by run_key.
        scores: unsafe scores; NaN where there is none. Likewise `thresholds` and `agreements`.
        outcomes: numbers of `OUTCOMES`.
        kinds: bits of `KINDS`.
        keys: see `decisions.content_key`.
        numbers: by key.
    """

    files: tuple[RecordFile, ...]
    cards: RunCards
    policies: Mapping[str, Mapping[str, Any]]
    scores: array[float] = field(default_factory=lambda: array("d"))
    thresholds: array[float] = field(default_factory=lambda: array("d"))
    agreements: array[float] = field(default_factory=lambda: array("d"))
    outcomes: bytearray = field(default_factory=bytearray)
    kinds: bytearray = field(default_factory=bytearray)
    keys: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    _places: array[int] = field(default_factory=lambda: array("q"))
    _copies: dict[int, array[int]] = field(default_factory=lambda: defaultdict(lambda: array("q")))
    _open: dict[int, IO[bytes]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        """Return the number of contents."""
        return len(self.keys)

    def records(self, number: int) -> Iterator[dict[str, Any]]:
        """Yield the records of a content: the one that counts, then those of copies."""
        for place in (self._places[number], *self._copies.get(number, ())):
            yield self._read(number, place)

    def record(self, number: int) -> dict[str, Any]:
        """Return the record that counts: of several, the first with the worst outcome."""
        return self._read(number, self._places[number])

    def finding(self, record: Mapping[str, Any]) -> Finding:
        """Return what a report tells of a record."""
        return finding_of({**record, "outcome": outcome_of(record)}, self.cards)

    def copies(self, number: int) -> int:
        """Return how many files have this content."""
        return 1 + len(self._copies.get(number, ()))

    def reviewed_file(self, record: Mapping[str, Any]) -> ReviewedFile:
        """Return the names of a record's file, as seen from here."""
        source = read_name(record["source"], record["source_b64"])
        member = None if record["member"] is None else read_name(record["member"], record["member_b64"])
        path = self.cards.path_of(source, record["run_id"])
        local = None if "://" in path else os.path.abspath(path)  # noqa: PTH100
        facts = {name: record[name] for name in ("bytes", "mtime_ns")}
        return ReviewedFile.of(source, member, local, **facts)

    def judgement(self, record: Mapping[str, Any]) -> MachineJudgement:
        """Return what the machine said of an input."""
        names = set(MachineJudgement.model_fields) - {"error", "review_reasons"}
        facts = {name: record[name] for name in names}
        error = record["error"]["code"] if record["error"] else None
        return MachineJudgement(**facts, review_reasons=record["review_reasons"] or [], error=error)

    def add(self, record: Mapping[str, Any], place: int) -> None:
        """Take one record in, which begins at a place."""
        key = _key_of(record)
        number = self.numbers.setdefault(key, len(self.keys))
        outcome = OUTCOMES.index(outcome_of(record))
        if number == len(self.keys):
            self.keys.append(key)
            self._places.append(place)
            self.outcomes.append(outcome)
            self.kinds.append(0)
            for column in (self.scores, self.thresholds, self.agreements):
                column.append(float("nan"))
        elif outcome < self.outcomes[number]:  # worse: this one counts
            self._copies[number].append(self._places[number])
            self._places[number], self.outcomes[number] = place, outcome
        else:
            self._copies[number].append(place)
            return
        self.kinds[number] = _kinds_of(record)
        self.scores[number] = _number(record["unsafe_score"])
        self.thresholds[number] = _number(record["threshold"])
        self.agreements[number] = _number(record["model_agreement"])

    def close(self) -> None:
        """Close the files."""
        for file in self._open.values():
            file.close()

    def _read(self, number: int, place: int) -> dict[str, Any]:
        """Return the record of a content at a place.

        Raises:
            UsageError: something else is there now.
        """
        file_number, offset = divmod(place, _PLACES)
        with self._lock:
            if file_number not in self._open:
                self._open[file_number] = self.files[file_number].path.open("rb")
            file = self._open[file_number]
            file.seek(offset)
            line = file.readline()
        try:
            record = self.parse(line)
            if _key_of(record) == self.keys[number]:
                return record
        except (ValueError, KeyError, TypeError):
            pass
        raise OutputChangedError(self.files[file_number].name)

    def parse(self, line: bytes) -> dict[str, Any]:
        """Return the fields of a record; what a compact one lacks is taken from the run card, or null."""
        from pydantic_core import from_json

        record = {**NOTHING, **from_json(line)}
        if record["threshold"] is None and (known := self.policies.get(record["run_key"])):
            record |= {"policy": known["name"], "policy_hash": known["hash"], "threshold": known["threshold"]}
        return record


_PLACES: Final = 1 << 48
"""A place is the number of its file times this, plus an offset."""


@contextmanager
def open_contents(names: Sequence[str]) -> Iterator[ContentTable]:
    """Give the contents of some outputs; withheld ones are left out.

    Raises:
        UsageError: a file cannot be read, or a line of it is not a record.
        OutputError: a temporary copy cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="clipmod-") as folder:
        files = tuple(check_file(name, Path(folder)) for name in names)
        cards = read_cards(names)
        table = ContentTable(files, cards, cards.policies)
        for number, checked in enumerate(files):
            _read_all(table, number, checked)
        try:
            yield table
        finally:
            table.close()


def _read_all(table: ContentTable, file_number: int, checked: RecordFile) -> None:
    offset = 0
    with checked.path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                table.add(table.parse(line), file_number * _PLACES + offset)
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(f"{checked.name} line {number} is not a clipmod record: {error}") from error
            offset += len(line)


def _key_of(record: Mapping[str, Any]) -> str:
    source = read_name(record["source"], record["source_b64"])
    member = None if record["member"] is None else read_name(record["member"], record["member_b64"])
    return content_key(record["sha256"], source, member)


def outcome_of(record: Mapping[str, Any]) -> Outcome:
    """Return the one outcome that a record counts under."""
    if record["status"] == "error":
        return "error"
    if record["final_decision"] == "NSFW":
        return "nsfw"
    if record["needs_review"]:
        return "review"
    return "safe" if record["final_decision"] == "Safe" else "undecided"


def _kinds_of(record: Mapping[str, Any]) -> int:
    """Return the bits of a record's kinds: what is NSFW may also need review."""
    found = {
        "error": record["status"] == "error",
        "nsfw": record["final_decision"] == "NSFW",
        "review": bool(record["needs_review"]),
        "safe": record["final_decision"] == "Safe",
    }
    return sum(1 << KINDS.index(kind) for kind in KINDS if found[kind])


def kind_bits(kinds: Sequence[ReviewKind]) -> int:
    """Return the bits of some kinds."""
    return sum(1 << KINDS.index(kind) for kind in set(kinds))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
