"""The interface of output formats, and the table of them by suffix."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

from clipmod_cli.errors import UsageError
from clipmod_cli.output.jsonl import JsonlSink
from clipmod_cli.output.resuming.resume import DoneInputs, ResumeOptions
from clipmod_cli.output.table_sink import CsvSink, ParquetSink
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
