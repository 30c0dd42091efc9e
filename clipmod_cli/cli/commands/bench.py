"""`clipmod bench`: how fast this machine is, by stage and from files to records."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipmod_cli.cli.options import Flags, with_settings
from clipmod_cli.errors import ExitCode, OutputError, UsageError
from clipmod_cli.settings.definition import Settings

if TYPE_CHECKING:
    from clipmod_cli.bench.measure import BenchOptions
    from clipmod_cli.bench.report import Report
    from clipmod_cli.cli.signals import StopRequest

EXAMPLES = """
\b
Examples:
  clipmod bench                             the models that scan would use
  clipmod bench --random-weights            the ensemble; downloads nothing
  clipmod bench --random-weights --models fallback -o bench.json
  clipmod bench ./photos --models nudenet   your own pictures

\b
The JSON document (schema clipmod-bench/1) has:
  machine      processor, cores, device, torch, peak_tflops: a large matrix
               product in the dtype, measured
  setup        models, dtype, batch_size, forward_batch, workers, decode,
               pictures, repeats
  stages       by name ms (median of the repeats), low_ms, high_ms,
               images_per_s, each for an image: read, decode and view on one
               core; decoding: all three by all workers; forward: all models;
               judge; write
  forward      by model ms, ms_alone (a batch of one), gflop for an image,
               share_of_peak
  end_to_end   images, runs, images_per_s with low_ and high_, busy_share,
               share_of_peak, errors
"""

NO_EFFECT = frozenset({"progress", "offline"}) | {
    f.name
    for f in fields(Settings)
    if f.metadata["option"].group == "judging" and f.name not in {"models", "decode", "coverage"}
}
"""Settings without an effect on a benchmark."""

SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
DEFAULT_SIZE = "1280x853"
MAX_PIXELS = 50_000_000
"""The limit of decoding."""


def read_size(text: str) -> tuple[int, int]:
    """Return the (width, height) in a text such as 1280x853.

    Raises:
        UsageError: if it is malformed or too large.
    """
    found = SIZE.fullmatch(text)
    if found is None:
        raise UsageError(f"--size must be WIDTHxHEIGHT, as 1280x853, not {text!r}")
    width, height = int(found[1]), int(found[2])
    if width * height > MAX_PIXELS:
        raise UsageError(f"--size {text} is more than {MAX_PIXELS // 10**6} megapixels")
    return width, height


@with_settings("judging", "machine", "talk", without=NO_EFFECT)
def bench(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Your own pictures [default: drawn ones].")
    ] = None,
    *,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Use random weights; download nothing.")
    ] = False,
    count: Annotated[
        int | None,
        typer.Option(
            "--pictures", metavar="N", help="Pictures in an end-to-end run [default: about 40 s in all]."
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help=f"Size of drawn pictures [{DEFAULT_SIZE}].")
    ] = None,
    repeats: Annotated[int, typer.Option(metavar="N", help="Repeats of each measurement.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Also write the JSON document here.")
    ] = None,
    flags: Flags,
) -> None:
    """Measure the speed of this machine: each stage, and the pipeline from files to records.

    Takes 1 to 2 minutes on a CPU. Scores are discarded; the history store is not written.
    """
    from clipmod_cli.bench.measure import BenchOptions
    from clipmod_cli.cli.terminal.logs import resolve_settings

    resolved = resolve_settings(flags)
    for flag, value in (("--pictures", count), ("--repeats", repeats)):
        if value is not None and value < 1:
            raise UsageError(f"{flag} must be at least 1, not {value}")
    if folder is not None and size is not None:
        raise UsageError("--size is of drawn pictures and has no effect on your own")
    options = BenchOptions(
        settings=resolved.settings,
        random_weights=random_weights,
        folder=folder,
        count=count,
        size=read_size(size or DEFAULT_SIZE),
        repeats=repeats,
    )
    raise typer.Exit(_run(options, output, as_json=as_json))


def _run(options: BenchOptions, output: Path | None, *, as_json: bool) -> ExitCode:
    from clipmod_cli.cli.output_paths import write_document
    from clipmod_cli.cli.signals import Interrupted, catch_signals
    from clipmod_cli.cli.terminal.stdout import take_stdout
    from clipmod_cli.output.jsonl import StreamSink

    if output is not None:
        _check_output(output)
    with take_stdout() as stdout:
        try:
            with catch_signals() as stop:
                report = _measure(options, stop)
        except Interrupted as e:
            return e.exit_code
        if stop.requested():  # after the last measurement, before the signal thread could exit
            return stop.exit_code
        document = report.model_dump_json(indent=2).encode() + b"\n"
        if output is not None:
            write_document(output, document)
        if as_json:
            shown = document
        else:
            from clipmod_cli.cli.terminal.bench_tables import as_text

            shown = as_text(report, is_terminal=stdout.is_terminal).encode(errors="replace")
        StreamSink(stdout.descriptor).write(shown)
    return ExitCode.OK


def _measure(options: BenchOptions, stop: StopRequest) -> Report:
    from clipmod_cli.cli.terminal.stdout import say

    quiet = options.settings.quiet
    folder = Path(tempfile.mkdtemp(prefix="clipmod-bench-"))
    # An exception in an import can abort the process, and in a finalizer it is lost: so exit instead.
    with stop.exiting_with(partial(_exit_now, folder)):
        try:
            from clipmod_cli.bench.measure import measure

            return measure(options, folder, lambda text: None if quiet else say(f"clipmod: {text}"))
        finally:
            _remove(folder)


def _exit_now(folder: Path, exit_code: ExitCode) -> None:
    try:
        _remove(folder)
    finally:
        os._exit(exit_code)


def _remove(folder: Path) -> None:
    """Remove a folder into which other threads may still write; their writes then fail."""
    gone = folder.with_name(f"{folder.name}-gone")
    with suppress(OSError):
        folder.rename(gone)
    for path in (gone, folder):
        shutil.rmtree(path, ignore_errors=True)


def _check_output(path: Path) -> None:
    """Raise `OutputError` before the measurement if a file cannot be written."""
    if path.is_dir():
        raise OutputError(f"cannot write to {path}: it is a folder")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"cannot write to {path}: folder {path.parent} does not exist")
