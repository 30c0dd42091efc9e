"""The decisions of people: an append-only file of JSON lines whose fold is what holds now.

Each line is one decision on one content, whatever its copies are called; a later line on the same content
replaces an earlier one, and `undo` takes it back. Lines are never changed. Nothing here reads a picture.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias

from pydantic import Field, ValidationError
from pydantic_core import from_json, to_json

from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.output.jsonl import FileSink, open_file
from clipmod_cli.output.lock import OutputLock
from clipmod_cli.records import read_name, write_name
from clipmod_cli.records.parts import RowModel

DECISION_SCHEMA: Final = "clipmod-decision/1"
LINE_START: Final = f'{{"schema":"{DECISION_SCHEMA}"'.encode()
MOST_BYTES: Final = 1 << 24
"""Of a first line that is looked at; one has names of all copies."""

DecisionLabel: TypeAlias = Literal["unsafe", "safe", "unsure", "minor", "undo"]
"""`minor`: it may show a minor, and is withheld from every queue, list, sheet and export. `undo` takes the
decision before it back."""

QueueOrder: TypeAlias = Literal["uncertain", "severity", "random"]
QueueReason: TypeAlias = Literal["queue", "audit"]


class ReviewedFile(RowModel):
    """One name of a reviewed content."""

    source: str = Field(description="As in the record")
    source_b64: str | None = Field(default=None, description="Base64 of its bytes, if they are not UTF-8")
    member: str | None = Field(default=None, description="Name inside the archive")
    member_b64: str | None = Field(default=None, description="Base64 of its bytes, if they are not UTF-8")
    path: str | None = Field(
        default=None, description="Absolute path of the local file, an archive's for a member; null for a URL"
    )
    path_b64: str | None = Field(default=None, description="Base64 of its bytes, if they are not UTF-8")
    bytes: int | None = Field(default=None, description="Size when it was judged")
    mtime_ns: int | None = Field(default=None, description="Modification time when it was judged")

    @classmethod
    def of(cls, source: str, member: str | None, path: str | None, **facts: Any) -> Self:
        """Return a file of these names, which may hold any byte (as `os.fsdecode` gives them).

        Args:
            source: as in the record.
            member: likewise.
            path: absolute; None where there is no local file.
            facts: further fields.
        """
        names: dict[str, Any] = {}
        for key, name in (("source", source), ("member", member), ("path", path)):
            names[key], names[f"{key}_b64"] = write_name(name) if name is not None else (None, None)
        return cls(**names, **facts)

    @property
    def exact_source(self) -> str:
        """The source; bytes that are not UTF-8 are surrogate escapes."""
        return read_name(self.source, self.source_b64)

    @property
    def exact_member(self) -> str | None:
        """The member likewise."""
        return None if self.member is None else read_name(self.member, self.member_b64)

    @property
    def exact_path(self) -> str | None:
        """The path likewise."""
        return None if self.path is None else read_name(self.path, self.path_b64)


class MachineJudgement(RowModel):
    """What the machine had said when a person decided; the fields of the record."""

    final_decision: Literal["NSFW", "Safe"] | None = None
    needs_review: bool | None = None
    review_reasons: list[str] = Field(default_factory=list)
    unsafe_score: float | None = None
    threshold: float | None = None
    ensemble_category: str | None = None
    model_agreement: float | None = None
    policy: str | None = None
    policy_hash: str | None = None
    run_id: str | None = None
    error: str | None = Field(default=None, description="The error code, if it could not be judged")


class ReviewDecision(ReviewedFile):
    """One line of a file of decisions."""

    schema_: Literal["clipmod-decision/1"] = Field(default=DECISION_SCHEMA, alias="schema")
    at: str = Field(description="When, ISO 8601 in UTC")
    who: str = Field(description="Who decided")
    label: DecisionLabel
    category: str | None = Field(default=None, description="Category of the policy, if one was chosen")
    sha256: str | None = Field(default=None, description="SHA-256 of the bytes")
    copies: list[ReviewedFile] = Field(
        default_factory=list,
        description="Further files of the same bytes; the decision holds for them too",
    )
    why: QueueReason = Field(description="`audit`: drawn at random from all that was judged")
    order: QueueOrder = Field(description="Of the queue")
    priority: float | None = Field(
        default=None, description="Place in that order, smallest first; null if the queue has it not"
    )
    probability: float = Field(description="With which the draw had reached it, 0..1; 1 in a sorted queue")
    seed: str = Field(description="Of the draw")
    together: int = Field(default=1, description="How many were decided at once")
    stack: str | None = Field(
        default=None, description="SHA-256 of what represents the near copies that it is one of"
    )
    near_copy_of: str | None = Field(
        default=None, description="SHA-256 of the near copy that was shown large when both were decided"
    )
    seconds: float = Field(description="How long it was shown")
    judged: MachineJudgement = Field(default_factory=MachineJudgement)

    @property
    def key(self) -> str:
        """What identifies the content: see `content_key`."""
        return content_key(self.sha256, self.exact_source, self.exact_member)

    @property
    def files(self) -> list[ReviewedFile]:
        """All files for which it holds, itself first."""
        return [self, *self.copies]

    def to_line(self) -> bytes:
        """Return the line, newline included; its schema comes first."""
        return to_json({"schema": self.schema_, **self.model_dump()}) + b"\n"


def content_key(sha256: str | None, source: str, member: str | None) -> str:
    """Return what identifies a content: its hash, or its names where there is no hash."""
    return sha256 or f"{source}\0{member or ''}"


@dataclass(slots=True)
class DecisionState:
    """What a file of decisions comes to.

    Attributes:
        current: the decision that holds for each content, in the order in which they were made; `undo` never.
        seed: of the draw; None if there is no line.
        torn: the last line was not written whole, as by a writer that was killed, and is left out.
    """

    current: dict[str, ReviewDecision] = field(default_factory=dict)
    seed: str | None = None
    torn: bool = False

    def add(self, decision: ReviewDecision) -> None:
        """Take one more line in; what is withheld stays so until it is undone."""
        self.seed = decision.seed
        before = self.current.get(decision.key)
        if before is not None and before.label == "minor" and decision.label != "undo":
            return
        self.current.pop(decision.key, None)
        if decision.label != "undo":
            self.current[decision.key] = decision

    def labelled(self, *labels: DecisionLabel) -> list[ReviewDecision]:
        """Return the decisions with these labels, in order."""
        return [one for one in self.current.values() if one.label in labels]


def are_decisions(path: Path) -> bool:
    """Return whether a file is one of decisions, by its first line; an empty or missing one is not."""
    try:
        with path.open("rb") as file:
            line = file.readline(MOST_BYTES)
    except OSError:
        return False
    if line.startswith(LINE_START):
        return True
    try:  # another program may have written it again
        fields = from_json(line)
    except ValueError:
        return False
    return isinstance(fields, dict) and fields.get("schema") == DECISION_SCHEMA


def read_decisions(path: Path) -> DecisionState:
    """Return what a file of decisions comes to.

    Raises:
        UsageError: it cannot be read, or a line is no decision.
    """
    state = DecisionState()
    for decision in _read(path, state):
        state.add(decision)
    return state


def _read(path: Path, state: DecisionState) -> Iterator[ReviewDecision]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield ReviewDecision.model_validate_json(line)
                except ValidationError as error:
                    if not line.endswith(b"\n") and _begins_well(line):
                        state.torn = True
                        return
                    raise UsageError(
                        f"{path} line {number} is not a decision of `clipmod review`: {_first_fault(error)}"
                    ) from error
    except OSError as error:
        raise UsageError(f"cannot read the decisions in {path}: {error.strerror or error}") from error


def _begins_well(line: bytes) -> bool:
    return line[: len(LINE_START)] == LINE_START[: len(line)]


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))


class DecisionFile:
    """A file of decisions that this process alone writes. A context manager.

    Attributes:
        state: what it comes to, kept up to date.
    """

    def __init__(self, path: Path) -> None:
        """Set the path; nothing is opened yet."""
        self.path = path
        self.state = DecisionState()
        self._lock = OutputLock(path)
        self._sink: FileSink | None = None

    def __enter__(self) -> Self:
        """Lock and read the file; it is created if it does not exist, and a torn last line is removed.

        Raises:
            UsageError: it holds something else.
            OutputError: another process writes it, or it cannot be written.
        """
        self._lock.__enter__()
        try:
            if self.path.exists():
                self.state = read_decisions(self.path)
                _mend_end(self.path, torn=self.state.torn)
            self._sink = open_file(self.path)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file and release the lock."""
        try:
            if self._sink is not None:
                self._sink.close()
        finally:
            self._lock.__exit__(kind, error, trace)

    def append(self, decisions: Sequence[ReviewDecision]) -> None:
        """Write decisions that were made together, and return when they are on the disk.

        Raises:
            OutputError: they cannot be written; then none of them holds.
        """
        if self._sink is None:
            raise AssertionError("the file of decisions is not open")
        self._sink.write(b"".join(one.to_line() for one in decisions))
        self._sink.sync()
        for one in decisions:
            self.state.add(one)


def _mend_end(path: Path, *, torn: bool) -> None:
    """Remove a torn last line; end a whole one with a newline, for the next one to begin behind it."""
    try:
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if not size:
                return
            file.seek(size - 1)
            if file.read(1) == b"\n":
                return
            if torn:
                file.truncate(_last_newline(file, size) + 1)
            else:
                file.write(b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _last_newline(file: Any, size: int) -> int:
    """Return the offset of the last newline, -1 without one."""
    step = 1 << 16
    for end in range(size, 0, -step):
        start = max(end - step, 0)
        file.seek(start)
        if (found := file.read(end - start).rfind(b"\n")) >= 0:
            return start + int(found)
    return -1
