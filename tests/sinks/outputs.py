"""Outputs as an earlier run left them, and what is asked about them."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from clipmod_cli.errors import ErrorCode
from clipmod_cli.output.resuming.resume import DoneInputs, ResumeOptions, RunConditions, read_done
from clipmod_cli.records import to_line, to_record
from clipmod_cli.types import Item
from tests.results import RUN, plain_failure, plain_verdict

KEY = RUN.run_key
URLS = RunConditions(directory=None)
"""Of a run whose names are no paths, so that no file has to be there."""


def line_of(source: str, member: str | None = None, **media: Any) -> bytes:
    """Return the record of a judged input."""
    verdict = plain_verdict(source=source)
    item = Item(source=source, index=0, member=member)
    return to_line(to_record(replace(verdict, item=item, media=replace(verdict.media, **media)), RUN))


def line_of_file(path: Path) -> bytes:
    """Return the record of a judged file, as it is now."""
    info = path.stat()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return line_of(str(path), bytes=info.st_size, mtime_ns=info.st_mtime_ns, sha256=sha256)


def failed_line(source: str, code: ErrorCode, *, known: bool = False, member: str | None = None) -> bytes:
    failure = replace(plain_failure(code=code), item=Item(source=source, index=0, member=member))
    if known:
        info = Path(source).stat()
        media = replace(plain_verdict().media, bytes=info.st_size, mtime_ns=info.st_mtime_ns, sha256=None)
        failure = replace(failure, media=media)
    return to_line(to_record(failure, RUN))


def read(output: Path, **options: Any) -> tuple[DoneInputs, list[str]]:
    """Return what stands in an output, and the sources of the records that count."""
    told: list[str] = []
    chosen = ResumeOptions(
        **{"conditions": URLS, **options}, on_done=lambda record: told.append(record["source"])
    )
    return read_done(output, KEY, chosen), told


def missing(done: DoneInputs, *sources: str) -> list[str]:
    return [source for source in sources if not done.match(Item(source=source, index=0))]


def done_of(lines: Iterable[bytes]) -> DoneInputs:
    """Return what stands in an output of these lines."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "out.jsonl")
        output.write_bytes(b"".join(lines))
        return read(output)[0]
