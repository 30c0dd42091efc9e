"""The interface of output formats, and the table of them by suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

from clipmod_cli.errors import UsageError
from clipmod_cli.output.jsonl import JsonlSink
from clipmod_cli.output.resuming.resume import DoneInputs, ResumeOptions
from clipmod_cli.records import Record


class RecordSink(Protocol):
    """Writes the records of one run to one output. One thread calls it, while the output is locked."""

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


SinkFactory: TypeAlias = Callable[[Path, ResumeOptions], RecordSink]

SINKS: dict[str, SinkFactory] = {".jsonl": JsonlSink}
"""By suffix in lower case; the longest match is used."""


def sink_for(name: str) -> SinkFactory:
    """Return the sink for an output of this name.

    Raises:
        UsageError: no format has this suffix.
    """
    for suffix in sorted(SINKS, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return SINKS[suffix]
    raise UsageError(
        f"--output must end in {' or '.join(SINKS)}, not {name!r}; - is stdout. "
        "`clipmod export` makes CSV, Parquet and compressed files of such an output"
    )
