"""The outputs of a run: a file that can be resumed, stdout, and the list of failed inputs."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from clipmod_cli.atomic import atomic_file, remove_unfinished
from clipmod_cli.banks.records import RecordBanks
from clipmod_cli.cli.terminal.progress import RunProgress
from clipmod_cli.cli.terminal.result_lines import ShownLines, decision_of, line_of
from clipmod_cli.cli.terminal.stdout import RealStdout, plain
from clipmod_cli.errors import OutputError
from clipmod_cli.evidence.writer import EvidenceWriter
from clipmod_cli.output.base import RecordSink, SinkFactory, sink_for
from clipmod_cli.output.jsonl import JsonlSink, StreamSink, is_regular
from clipmod_cli.output.lock import OutputLock
from clipmod_cli.output.resuming.card import RunCard
from clipmod_cli.output.resuming.gone import prune
from clipmod_cli.output.resuming.resume import DoneInputs, ResumeOptions, RunConditions
from clipmod_cli.records import Record, read_name
from clipmod_cli.runs.tally import Tally
from clipmod_cli.settings.definition import Settings, Wanted
from clipmod_cli.settings.effects import STDOUT_NAMES
from clipmod_cli.sources.base import Skipped
from clipmod_cli.sources.lists import is_one_line

log = logging.getLogger(__name__)

StdoutMode = Literal["json", "lines", "nothing"]


def stdout_mode(settings: Settings, stdout: RealStdout) -> StdoutMode:
    """Return what is written to stdout."""
    if settings.json or settings.output in STDOUT_NAMES:
        return "json"
    if stdout.is_terminal:
        return "lines"
    return "nothing" if settings.output and not settings.only else "json"


def output_path(settings: Settings) -> Path | None:
    """Return the output file with links resolved; None if there is none.

    Raises:
        OutputError: its kind cannot be found out.
    """
    if settings.output is None or settings.output in STDOUT_NAMES:
        return None
    path = Path(settings.output).expanduser()
    # A shell's `>(...)` is a link whose target is not a path.
    return Path(os.path.realpath(path)) if is_regular(path) else path


@dataclass
class Output:
    """Writes the records of a run. Methods raise OutputError if an output cannot be written.

    `card` is the run card of a regular file; None for other outputs.
    """

    settings: Settings
    stdout: RealStdout
    mode: StdoutMode
    path: Path | None
    sink_factory: SinkFactory
    card: RunCard | None = None
    evidence: EvidenceWriter | None = None
    progress: RunProgress = field(default_factory=RunProgress)
    has_begun: bool = False
    _lines: ShownLines = field(default_factory=ShownLines)
    _sink: RecordSink | None = None
    _closed_sink: RecordSink | None = None
    _errors: ErrorsFile | None = None

    def begin(
        self,
        run_key: str,
        tally: Tally,
        *,
        conditions: RunConditions,
        sources: Sequence[str] | None,
        difference: str = "",
        record_banks: RecordBanks | None = None,
    ) -> DoneInputs:
        """Open the file and return the inputs that it has records of; count those in `tally`.

        Args:
            run_key: that of this run.
            tally: counts the records that stay.
            conditions: of this run.
            sources: the files and folders that this run names; None if they come from lists.
            difference: from the run that wrote the file, for the message that refuses it.
            record_banks: of this run; None leaves the records of other runs as they are.

        Raises:
            OutputMismatchError: another run or program wrote it, or resuming is off.
        """
        self.has_begun = True
        if self.settings.errors_to is not None:
            self._errors = ErrorsFile(Path(self.settings.errors_to), null=self.settings.null)
        if self.path is None:
            self._begin_evidence(0)
            return DoneInputs()
        options = self._resume_options(tally, conditions, sources, difference, record_banks)
        sink = self.sink_factory(self.path, options)
        done = sink.begin(run_key)
        self._sink = sink
        self._warn_without_card(done)
        tally.gone, tally.moved = done.gone_count, done.moved_count
        self._begin_evidence(done.kept_count)
        return done

    def _resume_options(
        self,
        tally: Tally,
        conditions: RunConditions,
        sources: Sequence[str] | None,
        difference: str,
        record_banks: RecordBanks | None,
    ) -> ResumeOptions:
        untold = set() if self.card is None else set(self.card.unfinished)
        untold |= set() if record_banks is None else {record_banks.facts.run_id}
        return ResumeOptions(
            overwrite=self.settings.overwrite,
            resume=self.settings.resume,
            on_done=lambda record: self._count_done(record, tally, untold),
            conditions=conditions,
            earlier={} if self.card is None else self.card.conditions,
            sources=sources,
            retry=frozenset(self.settings.retry),
            difference=difference,
            redecide=(lambda _record, _source: None) if record_banks is None else record_banks.redecide,
            has_evidence=lambda record: self.evidence is None or self.evidence.has_evidence_of(record),
        )

    def _warn_without_card(self, done: DoneInputs) -> None:
        has_records = done.kept_count or done.retry_count
        if self.card is not None and not self.card.runs and has_records:
            log.warning(
                "%s has no run card (%s): relative paths in it are taken to be from the working directory",
                self.path,
                self.card.path.name,
            )

    def _begin_evidence(self, records: int) -> None:
        if self.evidence is not None:
            self.evidence.begin(records)

    def _count_done(self, record: dict[str, Any], tally: Tally, untold: set[str]) -> None:
        tally.add_done(record, is_new=record["run_id"] in untold and not record["known"])
        if self._errors and record["error"]:
            self._errors.add(
                read_name(record["source"], record["source_b64"]), member=record["member"] is not None
            )

    def write(self, record: Record, line: bytes, source: str) -> None:
        """Write one record, given also as its line, to the file, and a failed input to the list of errors."""
        if self._sink is not None:
            self._sink.write(record, line)
        if record.error is not None and self._errors is not None:
            self._errors.add(source, member=record.member is not None)

    def show(self, record: Record, line: bytes, kinds: frozenset[Wanted]) -> None:
        """Write a record to stdout, unless the settings exclude it.

        Raises:
            BrokenPipeError: the reader has closed stdout.
        """
        only = self.settings.only
        if self.mode == "nothing" or (only and not kinds & set(only)):
            return
        self._show([line] if self.mode == "json" else self._as_text(record))

    def _as_text(self, record: Record) -> list[bytes]:
        """Return the lines for a person to show now."""
        text = line_of(record, colour="NO_COLOR" not in os.environ, width=self.stdout.columns())
        is_safe = decision_of(record) == "Safe" and not self.settings.verbose and not self.settings.only
        return self._lines.take(text.encode() + b"\n", is_safe=is_safe)

    def show_rest(self) -> None:
        """Write the lines to stdout that waited for the number of inputs."""
        self._show(self._lines.rest())

    def _show(self, lines: list[bytes]) -> None:
        if lines:
            with self.progress.hidden() if self.stdout.is_terminal else contextlib.nullcontext():
                StreamSink(self.stdout.descriptor).write(b"".join(lines))

    def set_total(self, total: int) -> None:
        """Set the number of inputs, once it is known. Called by another thread."""
        self._lines.total = total
        self.progress.set_total(total)

    def finish(self) -> None:
        """Sync and close the file and the evidence, and move the list of errors to its path.

        One that cannot be written keeps none of the others from it.
        """
        sink, self._sink, self._closed_sink = self._sink, None, self._sink
        with ExitStack() as stack:
            if self.evidence is not None:
                stack.callback(self.evidence.close)
            if self._errors is not None:
                stack.callback(self._errors.finish)
            if sink is not None:
                stack.callback(sink.close)

    def prune(self, done: DoneInputs, walked: Skipped, tally: Tally) -> int:
        """Drop the records of files that are gone if the settings say so; return how many.

        Raises:
            UsageError: over 20 % of the records would go.
        """
        if self.lines_path is None or self.settings.prune == "no" or not done.gone_count:
            return 0
        drop_any = self.settings.prune == "all"
        return prune(self.lines_path, done, walked, written=tally.judged, drop_any=drop_any)

    @property
    def lines_path(self) -> Path | None:
        """The file of JSON Lines, after `finish`; None if there is none."""
        return None if self._closed_sink is None else self._closed_sink.lines_path

    def is_at(self, name: str) -> bool:
        """Return whether the output has this path: a compressed one looks like an archive of inputs."""
        path = self.path
        return path is not None and os.path.basename(name) == path.name and _is_same(path, name)  # noqa: PTH119

    def complete(self) -> None:
        """Make the output of a run that has come to its end, after `finish`: a table appears."""
        if self._closed_sink is not None:
            self._closed_sink.complete()

    def discard(self) -> None:
        """Close the file and the evidence if they are open, and remove temporary files."""
        if self.evidence is not None:
            with contextlib.suppress(OutputError):
                self.evidence.close()
        if self._sink is not None:
            with contextlib.suppress(OutputError):
                self._sink.close()
        if self._errors is not None:
            self._errors.discard()


def _is_same(path: Path, name: str) -> bool:
    try:
        return path.samefile(name)
    except (OSError, ValueError):  # gone, or an embedded NUL
        return False


@contextmanager
def open_output(settings: Settings, stdout: RealStdout) -> Iterator[Output]:
    """Enter with the output of a run; its file is locked until the end.

    Raises:
        UsageError: no output format has the file's suffix, or in the place of its run card is another file.
        OutputError: the file cannot be written, or another process is writing it.
    """
    path = output_path(settings)
    if path is not None and path.is_dir():
        raise OutputError(f"cannot write to {settings.output}: it is a folder")
    output = Output(settings, stdout, stdout_mode(settings, stdout), path, JsonlSink)
    with ExitStack() as stack:
        if path is not None and is_regular(path):
            output.sink_factory = sink_for(settings.output or "")
            stack.enter_context(OutputLock(path))
            output.card = RunCard.read(path)
            remove_unfinished(path)
            remove_unfinished(output.card.path)
            if settings.overwrite:
                output.card = RunCard(output.card.path)
        stack.callback(output.discard)
        yield output


class ErrorsFile:
    """The list of failed inputs, one a line or NUL-terminated; created whole, by rename.

    Methods raise OutputError if it cannot be written.
    """

    def __init__(self, path: Path, *, null: bool) -> None:
        """Create a temporary file beside `path`."""
        self.path = path.expanduser()
        self._end = b"\0" if null else b"\n"
        self._writing = ExitStack()
        try:
            self._file = self._writing.enter_context(atomic_file(self.path, sync=True))
        except OSError as e:
            raise OutputError(f"cannot write to {self.path}: {e.strerror}") from e
        self._archive: str | None = None
        self._left_out = 0

    def add(self, source: str, *, member: bool) -> None:
        """Add a failed input; an archive is listed once for failed members in a row."""
        if member and source == self._archive:
            return
        self._archive = source if member else None
        name = os.fsencode(source)
        if self._end == b"\n" and not is_one_line(name):
            self._left_out += 1
            return
        try:
            self._file.write(name + self._end)
        except OSError as e:
            raise OutputError(f"cannot write to {self.path}: {e.strerror}") from e

    def finish(self) -> None:
        """Move the list to its path; warn about names that no line can hold."""
        if self._left_out:
            log.warning(
                "%d failed inputs are not in %s, since their names have line breaks: give -0 (--null) here "
                "and with --files-from",
                self._left_out,
                plain(str(self.path)),
            )
        try:
            self._writing.close()
        except OSError as e:
            raise OutputError(f"cannot write to {self.path}: {e.strerror}") from e

    def discard(self) -> None:
        """Remove the temporary file, unless the list is finished."""
        unfinished = OutputError(f"{self.path} is not finished")
        with contextlib.suppress(OSError):
            self._writing.__exit__(OutputError, unfinished, None)
