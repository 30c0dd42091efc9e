"""The interface of output formats, and the table of them by suffix."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Protocol, TypeAlias

from clipmod_cli.atomic import atomic_file, remove_unfinished
from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.output.export import ExportOptions, export
from clipmod_cli.output.jsonl import JsonlSink
from clipmod_cli.output.parquet import write_parquet
from clipmod_cli.output.reading.records import open_records
from clipmod_cli.output.resuming.files import ENDINGS, compressing, whole_records
from clipmod_cli.output.resuming.resume import DoneInputs, ResumeOptions
from clipmod_cli.output.table_sink import TABLES, CsvSink, ParquetSink
from clipmod_cli.records import Record


class RecordSink(Protocol):
    """Writes the records of one run to one output. One thread calls it, while the output is locked.

    `lines_path` is the file of JSON Lines that it writes, which may be the output itself: after `close` and
    before `complete` some of its lines may be changed or removed.
    """

    lines_path: Path

    def begin(self, run_key: str) -> DoneInputs:
        """Open the output and return the inputs that it has records of; called once, before `write`.

        Raises:
            OutputMismatchError: another run or program wrote it, or it exists and must not be continued.
            OutputError: it cannot be read or written.
        """
        ...

    def write(self, record: Record, line: bytes) -> None:
        """Write one record, given also as its line of JSON.

        Raises:
            OutputError: it cannot be written whole.
            BrokenPipeError: the reader has closed the pipe.
        """
        ...

    def close(self) -> None:
        """Flush and close the output.

        Raises:
            OutputError: buffered records cannot be written.
        """
        ...

    def complete(self) -> None:
        """Make the output of what was written; called after `close` if the run has come to its end.

        Raises:
            OutputError: it cannot be written.
        """
        ...


SinkFactory: TypeAlias = Callable[[Path, ResumeOptions], RecordSink]

SINKS: dict[str, SinkFactory] = {
    ".jsonl": JsonlSink,
    ".jsonl.gz": partial(JsonlSink, compression="gzip"),
    ".jsonl.zst": partial(JsonlSink, compression="zstd"),
    ".parquet": ParquetSink,
    ".csv": CsvSink,
}
"""By suffix in lower case; the longest match is used."""


def write_output(lines: Iterable[bytes], path: Path) -> int:
    """Write an output of any of these formats at once, in the place of one that is there; return its records.

    Args:
        lines: of its records, UTF-8 JSON, each with its newline.
        path: the output. With a CSV file its records are written beside it, as `CsvSink` does.

    Raises:
        UsageError: no format has its suffix, or a line is not JSON.
        OutputError: it cannot be written.
    """
    sink_for(path.name)
    counter = count()
    lines = (line for line, _ in zip(lines, counter, strict=False))
    try:
        if path.suffix.lower() in TABLES:
            records = whole_records(path)
            remove_unfinished(records)
            write_parquet(lines, records)
            if records != path:
                with open_records([str(records)]) as reader:
                    export(reader, path, ExportOptions())
        else:
            kind = ENDINGS.get(path.suffix.lower(), "none")
            with atomic_file(path, sync=True) as file, compressing(file, kind) as stream:
                stream.writelines(lines)
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror or error}") from error
    return next(counter)


def sink_for(name: str) -> SinkFactory:
    """Return the sink for an output of this name.

    Raises:
        UsageError: no format has this suffix.
    """
    for suffix in sorted(SINKS, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return SINKS[suffix]
    *endings, last = SINKS
    raise UsageError(
        f"--output must end in {', '.join(endings)} or {last}, not {name!r}; - is stdout. "
        "`clipmod export` makes other tables of such an output"
    )
