"""`clipmod bench`: how fast this machine is, by stage and from files to records."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipmod_cli.cli.options import Flags, with_settings
from clipmod_cli.errors import OutputError
from clipmod_cli.settings import Settings

if TYPE_CHECKING:
    from clipmod_cli.bench.report import Report
    from clipmod_cli.bench.wishes import Wishes
    from clipmod_cli.cli.signals import StopRequest
    from clipmod_cli.errors import ExitCode

EXAMPLES = """
\b
Examples:
  clipmod bench                                  the models that scan would take here
  clipmod bench --random-weights                 the ensemble's architectures, nothing to download
  clipmod bench --random-weights --models fallback -o before.json
  clipmod bench --random-weights --models fallback --compare before.json
  clipmod bench ./photos --models nudenet        your own pictures

\b
The JSON document (schema clipmod-bench/1) has:
  machine      processor, cores, device, torch, peak_tflops: a large matrix product in the dtype, measured
  setup        models, dtype, batch_size, forward_batch, workers, decode, pictures, repeats
  stages       by name ms (median of the repeats), low_ms, high_ms, images_per_s, each for an image:
               read, decode and view on one core; decoding: all three by all workers; forward: all models;
               judge; write
  forward      by model ms, ms_alone (a batch of one), gflop for an image, share_of_peak
  end_to_end   images, runs, images_per_s with low_ and high_, busy_share, share_of_peak, errors
  memory       idle_mb, loaded_mb and peak_mb of this process; device_peak_mb
  bound        by (decode, forward, judge or write) and says, one sentence
  comparison   with --compare: changes (before, now, ratio, says) and what else differs; or null
"""

LEFT_OUT = frozenset({"json", "progress"}) | {
    f.name
    for f in fields(Settings)
    if f.metadata["option"].group == "judging" and f.name not in {"models", "decode"}
}
"""What is judged by means nothing here."""


@with_settings("judging", "machine", "talk", without=LEFT_OUT | {"offline"})
def bench(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Own pictures; without it, some are drawn.")
    ] = None,
    *,
    random_weights: Annotated[
        bool,
        typer.Option("--random-weights", help="Build the architectures with random weights; downloads none."),
    ] = False,
    count: Annotated[
        int | None,
        typer.Option(
            "--pictures", metavar="N", help="Pictures in an end-to-end run; default as time allows."
        ),
    ] = None,
    size: Annotated[str, typer.Option(metavar="WxH", help="Of the pictures that are drawn.")] = "1280x853",
    repeats: Annotated[int, typer.Option(metavar="N", help="Of each measurement.")] = 3,
    compare: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Compare with an earlier JSON document.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the JSON document here.")
    ] = None,
    flags: Flags,
) -> None:
    """Measure the speed of this machine: each stage, and the whole line from files to records.

    Takes 1 to 2 minutes on a CPU. What the models say is thrown away: no store and no output is written to.
    """
    from clipmod_cli.bench.report import read_report
    from clipmod_cli.bench.wishes import Wishes, check_count, read_size
    from clipmod_cli.cli.terminal.logs import begin

    resolved = begin(flags)
    check_count(count, "--pictures")
    check_count(repeats, "--repeats")
    wishes = Wishes(
        settings=resolved.settings,
        random_weights=random_weights,
        folder=folder,
        count=count,
        size=read_size(size),
        repeats=repeats,
    )
    before = read_report(compare) if compare else None
    raise typer.Exit(_run(wishes, (before, compare), output, as_json=as_json))


def _run(
    wishes: Wishes, earlier: tuple[Report | None, Path | None], output: Path | None, *, as_json: bool
) -> int:
    from clipmod_cli.bench.compare import compare
    from clipmod_cli.cli.signals import Interrupted, catch_signals
    from clipmod_cli.cli.terminal.stdout import take_stdout
    from clipmod_cli.output.jsonl import StreamSink

    if output is not None:
        _check_place(output)
    with take_stdout() as stdout:
        try:
            with catch_signals() as stop:
                report = _measure(wishes, stop)
        except Interrupted as e:
            return e.exit_code
        if stop.exit_code:  # it came when all was measured, and nobody else ended the process
            return stop.exit_code
        before, file = earlier
        if before is not None and file is not None:
            report = report.model_copy(update={"comparison": compare(report, before, file)})
        document = report.model_dump_json(indent=2).encode() + b"\n"
        if output is not None:
            _write(output, document)
        shown = document if as_json else _as_tables(report, is_terminal=stdout.is_terminal)
        StreamSink(stdout.descriptor).write(shown)
    return 0


def _measure(wishes: Wishes, stop: StopRequest) -> Report:
    from clipmod_cli.cli.terminal.summary import say

    quiet = wishes.settings.quiet
    folder = Path(tempfile.mkdtemp(prefix="clipmod-bench-"))
    # An exception within a library's import can abort the process, and within an object's end it is lost.
    with stop.exiting_with(partial(_exit_now, folder)):
        try:
            from clipmod_cli.bench.measuring import get_ready, measure

            return measure(get_ready(wishes), folder, lambda text: None if quiet else say(f"clipmod: {text}"))
        finally:
            _remove(folder)


def _exit_now(folder: Path, exit_code: ExitCode) -> None:
    try:
        _remove(folder)
    finally:
        os._exit(exit_code)


def _remove(folder: Path) -> None:
    """Remove a folder into which others may still write; what they do then fails."""
    gone = folder.with_name(f"{folder.name}-gone")
    with suppress(OSError):
        folder.rename(gone)
    for one in (gone, folder):
        shutil.rmtree(one, ignore_errors=True)


def _as_tables(report: Report, *, is_terminal: bool) -> bytes:
    from clipmod_cli.cli.terminal.bench_tables import as_text

    return as_text(report, is_terminal=is_terminal).encode(errors="replace")


def _check_place(path: Path) -> None:
    """Refuse a file that cannot be written before minutes are spent.

    Raises:
        OutputError: saying why.
    """
    if path.is_dir():
        raise OutputError(f"cannot write to {path}: it is a folder")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"cannot write to {path}: there is no folder {path.parent}")


def _write(path: Path, document: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(document)
        part.replace(path)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise OutputError(f"cannot write to {path}: {e.strerror}") from e
