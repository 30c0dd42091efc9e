"""Reading an existing output: which inputs have a record already, so that they are not judged again.

A record's key is (source, member, number of its occurrence); a local file is the same whatever path named
it. The record of a file or an object counts only while size and modification time are unchanged. Records of
changed inputs and of errors that may pass are removed from the output, and come back at the end of the run
if it did not judge their inputs; those of inputs that are gone stay, and count no more. Each record takes
sixteen bytes and a counter of memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from array import array
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from clipmod_cli.errors import ERROR_CODES, ErrorCode, OutputError, OutputMismatchError
from clipmod_cli.output.resuming.files import open_lines
from clipmod_cli.output.resuming.keys import KeyCounts
from clipmod_cli.output.resuming.lines import (
    LINE_START,
    describe_record,
    foreign_line,
    outcome_of,
    parse_line,
)
from clipmod_cli.output.resuming.moved import MovedFiles
from clipmod_cli.output.resuming.names import InputNames, Scope, working_directory
from clipmod_cli.output.resuming.removed import keep_removed, put_back
from clipmod_cli.output.resuming.rewrite import remove_ranges
from clipmod_cli.records import read_name, write_name
from clipmod_cli.sources.base import Skipped
from clipmod_cli.sources.registry import Sources
from clipmod_cli.types import Failure, Item

JUDGE: Final = "judge"
Redecision: TypeAlias = bytes | Literal["judge"] | None
"""What banks make of a record that is there: another line, none since its input has to be judged again
(`JUDGE`), or None: it stays."""

_Action: TypeAlias = Literal["done", "gone", "retry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConditions:
    """What the errors and names of a run depend on, beside its `run_key`.

    Attributes:
        directory: the working directory, to which its paths are relative; None if its inputs are URLs.
        abilities: what it could read that another run may not, as `decoder:av` (`ErrorInfo.cured_by`).
        folders: that it named, each as it was named, and with links resolved; none if they come from lists.
    """

    directory: str | None = field(default_factory=working_directory)
    abilities: frozenset[str] = frozenset()
    folders: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeOptions:
    """What to do with an existing output.

    Attributes:
        overwrite: discard its content.
        resume: continue it, refuse it, or continue it after comparing the hashes of its inputs.
        on_done: called with the fields of each record that stays in it and counts.
        conditions: of this run.
        earlier: of the runs that wrote it, by run_id; one that is missing is taken to be as this one, without
            abilities.
        sources: the files and folders that this run names; None if they come from lists.
        retry: codes of errors to try again, or `errors` for all.
        difference: how it was written otherwise, for the message that refuses it.
        redecide: called with each record that stays and the name of its input; see `Redecision`.
        has_evidence: called with each record that stays; without its evidence the input is judged again.
    """

    overwrite: bool = False
    resume: Literal["yes", "no", "verify"] = "yes"
    on_done: Callable[[dict[str, Any]], None] = lambda _: None
    conditions: RunConditions = field(default_factory=RunConditions)
    earlier: Mapping[str, RunConditions] = field(default_factory=dict)
    sources: Sequence[str] | None = None
    retry: frozenset[str] = frozenset()
    difference: str = ""
    redecide: Callable[[Mapping[str, Any], str], Redecision] = lambda _record, _source: None
    has_evidence: Callable[[Mapping[str, Any]], bool] = lambda _: True


@dataclass
class DoneInputs:
    """The inputs that have a record in the output: a multiset of keyed hashes.

    Attributes:
        salt: a secret of this run, so that names with equal hashes cannot be chosen on purpose.
        directory: the working directory of this run; None if its inputs are URLs.
        earlier: the conditions of the runs that wrote the output, by run_id.
        unmatched: hashes of the keys of records that no input has matched yet.
        outcomes: hashes of key, content and outcome of each removed record.
        count: how many records stay in the output and count.
        gone: start and end in the output of each record whose input is gone, in turn.
        moved_count: how many records stay and do not count, since `clipmod apply` moved their inputs.
        retry_count: how many records were removed because their inputs have to be judged again.
        redecided_count: how many of those that stay were decided again by banks.
        stale_count: how many were decided by banks that do not hold them any more, and stay all the same,
            since their inputs are none of this run.
        undenied_count: how many of those to judge again were decided by deny banks that do not hold them now.
        retry_archives: hashes of the archives that contain one of these inputs.
    """

    salt: bytes = field(default_factory=lambda: secrets.token_bytes(16), repr=False)
    directory: str | None = field(default_factory=working_directory)
    earlier: Mapping[str, RunConditions] = field(default_factory=dict, repr=False)
    unmatched: KeyCounts = field(default_factory=KeyCounts, repr=False)
    outcomes: KeyCounts = field(default_factory=KeyCounts, repr=False)
    count: int = 0
    gone: array[int] = field(default_factory=lambda: array("Q"))
    moved_count: int = 0
    retry_count: int = 0
    redecided_count: int = 0
    stale_count: int = 0
    undenied_count: int = 0
    retry_archives: set[bytes] = field(default_factory=set)
    names: InputNames = field(default_factory=InputNames, repr=False)
    _listed: Scope | None = field(default=None, repr=False)

    @property
    def kept_count(self) -> int:
        """How many records stay in the output."""
        return self.count + self.gone_count + self.moved_count

    @property
    def gone_count(self) -> int:
        """How many records stay in the output and do not count, since their inputs are gone."""
        return len(self.gone) // 2

    def has_members_to_retry(self, given: Item | Failure) -> bool:
        """Return whether this input is an archive with a member that has to be judged again."""
        source = (given.item if isinstance(given, Failure) else given).source
        return bool(self.retry_archives) and self.hash_of(source, None, self.directory) in self.retry_archives

    def match(self, given: Item | Failure) -> bool:
        """Return whether a record of this input is left, and use that record up."""
        item = given.item if isinstance(given, Failure) else given
        return self.unmatched.take(self.hash_of(item.source, item.member, self.directory))

    def knew(self, item: Item, content: str | None, outcome: str | None) -> bool:
        """Return whether a removed record had these very bytes of the input and the same outcome.

        Args:
            item: the input.
            content: the SHA-256 of its bytes.
            outcome: the decision, or the code of the error.
        """
        key = self.hash_of(item.source, item.member, self.directory)
        return self.hash_outcome(key, content, outcome) in self.outcomes

    def is_unmatched(self, record: Mapping[str, Any]) -> bool:
        """Return whether no input of this run was that of a record of the output."""
        return self.unmatched.has_left(self.hash_record(record))

    def directory_of(self, run_id: str) -> str | None:
        """Return the working directory of a run; of an unknown run that of this one."""
        run = self.earlier.get(run_id)
        return self.directory if run is None else run.directory

    def hash_record(self, record: Mapping[str, Any]) -> bytes:
        """Return the hash of the key of a record's input."""
        source = read_name(record["source"], record["source_b64"])
        member = None if record["member"] is None else read_name(record["member"], record["member_b64"])
        return self.hash_of(source, member, self.directory_of(record["run_id"]))

    def hash_source(self, record: Mapping[str, Any]) -> bytes:
        """Return the hash of the key of a record's file, without the member."""
        source = read_name(record["source"], record["source_b64"])
        return self.hash_of(source, None, self.directory_of(record["run_id"]))

    def end(self, walked: Skipped) -> None:
        """Note that this run has come to all its inputs, and which folders it listed."""
        self._listed = self.names.scope(walked.listed, self.directory)

    @property
    def has_ended(self) -> bool:
        """Whether this run has come to all its inputs."""
        return self._listed is not None

    def was_listed(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record's input is a folder that this run listed."""
        source = read_name(record["source"], record["source_b64"])
        name = self.names.resolve(source, self.directory_of(record["run_id"]))
        return self._listed is not None and self._listed.names(name)

    def hash_of(self, source: str, member: str | None, directory: str | None) -> bytes:
        """Return the hash of an input's key; `directory` is the one in which it was named."""
        name = _bytes_of(*write_name(self.names.resolve(source, directory)))
        tail = b"" if member is None else b"\0" + _bytes_of(*write_name(member))
        return hashlib.blake2b(name + tail, key=self.salt, digest_size=16).digest()

    def hash_outcome(self, key: bytes, content: str | None, outcome: str | None) -> bytes:
        """Return the hash of an input's content and outcome."""
        text = f"{content}\0{outcome}".encode()
        return hashlib.blake2b(key + text, key=self.salt, digest_size=16).digest()


def read_done(path: Path, run_key: str, options: ResumeOptions) -> DoneInputs:
    """Return the inputs that need not be judged again, after removing the records of all others to retry.

    The removed ones are kept beside the output, for `put_back` at the end.

    Args:
        path: the output; it may be missing or empty. The caller holds its lock.
        run_key: that of this run.
        options: what counts as done.

    Raises:
        OutputMismatchError: another run or another program wrote it.
        OutputError: it cannot be read or rewritten.
    """
    done = DoneInputs(directory=options.conditions.directory, earlier=options.earlier)
    try:
        put_back(path, done)  # of a run that was killed
        with contextlib.suppress(FileNotFoundError):
            _Reader(path, run_key, options, done).read()
    except OSError as e:
        raise OutputError(f"cannot read or rewrite {path}: {e.strerror}") from e
    return done


def find_done(path: Path, options: ResumeOptions) -> DoneInputs:
    """Return the inputs that a run which may continue this output would not judge; change nothing.

    Raises OutputMismatchError if another program wrote it, OutputError if it cannot be read.
    """
    done = DoneInputs(directory=options.conditions.directory, earlier=options.earlier)
    try:
        with contextlib.suppress(FileNotFoundError):
            _Reader(path, None, options, done).scan()
    except OSError as e:
        raise OutputError(f"cannot read {path}: {e.strerror}") from e
    return done


class _Reader:
    """Reads an output once, and removes from it what is to be judged again."""

    def __init__(self, path: Path, run_key: str | None, options: ResumeOptions, done: DoneInputs) -> None:
        self.path = path
        self.run_key = run_key
        self.options = options
        self.done = done
        self.sources = Sources()
        self.moved = MovedFiles.beside(path)
        self.scope = (
            None
            if options.sources is None
            else done.names.scope(options.sources, options.conditions.directory)
        )
        self.unknown_run = RunConditions(directory=options.conditions.directory)
        self.hashes, self.outcomes = bytearray(), bytearray()
        self.changed, self.removed = array("Q"), array("Q")  # start and end of lines
        self.runs: set[str] = set()
        self.replaced: set[int] = set()  # starts of lines that have another one in their place
        self.kept_bytes = 0

    def read(self) -> None:
        torn = self.scan()
        if self.removed:
            keep_removed(self.path, self.removed, self.runs)
        remove_ranges(self.path, self.changed, torn=torn, in_place_of=self._in_place_of)

    def scan(self) -> int | None:
        """Fill in what is done; return the start of a torn last line."""
        done, torn = self.done, None
        with open_lines(self.path) as file:
            end = 0
            for number, line in enumerate(file, 1):
                start, end = end, end + len(line)
                if not line.endswith(b"\n"):
                    if number == 1 and not line.startswith(LINE_START[: len(line)]):
                        raise foreign_line(self.path, number)
                    torn = start
                    break
                self._add(self._parse(line, number), start, end)
        done.unmatched, done.outcomes = KeyCounts.of(self.hashes), KeyCounts.of(self.outcomes)
        return torn

    def _add(self, record: dict[str, Any], start: int, end: int) -> None:
        done = self.done
        self.runs.add(record["run_id"])
        run = self.options.earlier.get(record["run_id"], self.unknown_run)
        source = read_name(record["source"], record["source_b64"])
        key = done.hash_record(record)
        name = done.names.resolve(source, run.directory)
        action = self._action(record, name, run)
        lacks_evidence = action != "retry" and not self.options.has_evidence(record)
        if lacks_evidence and action == "done" and self._is_covered(name, run):
            action = "retry"
        redecided = self._redecide(record, name, run) if action == "done" else None
        if redecided == JUDGE:
            action = "retry"
            done.undenied_count += record["decided_by"] == "deny"
        if action == "retry":
            self.changed.extend((start, end))
            self.removed.extend((start, end))
            done.retry_count += 1
            self.outcomes.extend(done.hash_outcome(key, record["sha256"], outcome_of(record)))
            if record["member"] is not None:
                done.retry_archives.add(done.hash_of(source, None, run.directory))
            return
        self.hashes.extend(key)
        kept = end - start
        if action == "gone" and self.moved.find(name, record["sha256"]) is not None:
            done.moved_count += 1
        elif action == "gone":
            done.gone.extend((self.kept_bytes, self.kept_bytes + kept))
        else:
            done.count += 1
            if isinstance(redecided, bytes):
                self.changed.extend((start, end))
                self.replaced.add(start)
                done.redecided_count += 1
                record, kept = self._parse(redecided, done.count), len(redecided)
            self.options.on_done(record)
        self.kept_bytes += kept

    def _redecide(self, record: dict[str, Any], name: str, run: RunConditions) -> Redecision:
        """Return what banks make of a record; `name` is the resolved one of its source."""
        is_same_place = run.directory == self.options.conditions.directory
        source = read_name(record["source"], record["source_b64"]) if is_same_place else name
        redecided = self.options.redecide(record, source)
        if redecided == JUDGE and not self._is_covered(name, run):
            self.done.stale_count += 1
            return None
        return redecided

    def _in_place_of(self, start: int, line: bytes) -> bytes:
        """Return the line that banks put in the place of another one; nothing for a line that is removed.

        Lines are made twice: all new ones together may be more than memory.
        """
        if start not in self.replaced:
            return b""
        record = self._parse(line, 0)
        run = self.options.earlier.get(record["run_id"], self.unknown_run)
        source = read_name(record["source"], record["source_b64"])
        redecided = self._redecide(record, self.done.names.resolve(source, run.directory), run)
        return redecided if isinstance(redecided, bytes) else line

    def _action(self, record: dict[str, Any], name: str, run: RunConditions) -> _Action:
        """Return what becomes of a record; `name` is the resolved one of its source."""
        error = record["error"]
        is_missing = bool(error) and error["code"] == "not_found"
        is_covered = self._is_covered(name, run)
        may_pass = is_covered and error and self._may_pass(error, run)
        if may_pass and (is_missing or run.directory is None):
            return "retry"
        if run.directory is None or not (is_covered or is_missing):
            return "done"
        source = self.sources.find(name)
        state = source.state_of(record, name, verify=self.options.resume == "verify")
        if state == "gone":  # a missing file that is named again is still an error
            is_named = is_covered and (self.scope is None or self.scope.names(name))
            return "gone" if not is_named else "done" if is_missing else "retry" if may_pass else "gone"
        return "retry" if may_pass or (state == "changed" and is_covered) else "done"

    def _is_covered(self, name: str, run: RunConditions) -> bool:
        """Return whether a record's input is one that this run may find."""
        if (run.directory is None) != (self.options.conditions.directory is None):
            return False
        return self.scope is None or self.scope.covers(name)

    def _may_pass(self, error: dict[str, Any], run: RunConditions) -> bool:
        """Return whether an error may not come again: by itself, by the user's word, or by a new ability."""
        code: ErrorCode = error["code"]
        if error["retryable"] or not self.options.retry.isdisjoint((code, "errors")):
            return True
        new = self.options.conditions.abilities - run.abilities
        cured_by = ERROR_CODES[code].cured_by if code in ERROR_CODES else ()
        return any(ability.startswith(cured_by) for ability in new) if cured_by else False

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        record = parse_line(line)
        if record is None:
            raise foreign_line(self.path, number)
        if self.run_key not in {None, record["run_key"]}:
            raise OutputMismatchError(
                f"{self.path} was written with other models, policy or settings "
                f"({self.options.difference or describe_record(record)}). "
                "Name another output, or --overwrite, or use the same settings to go on"
            )
        return record


def _bytes_of(text: str, encoded: str | None) -> bytes:
    return text.encode() if encoded is None else b64decode(encoded)
