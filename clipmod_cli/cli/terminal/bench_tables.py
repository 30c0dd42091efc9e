"""The report of `clipmod bench` as tables."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clipmod_cli.cli.terminal.stdout import plain
from clipmod_cli.cli.terminal.tables import table_of

if TYPE_CHECKING:
    from clipmod_cli.bench.report import Report

PIPE_COLUMNS = 110
"""Width of the tables where stdout is no terminal."""

ABOUT = {
    "read": "a file's bytes and their hash, one core",
    "decode": "bytes to pixels, one core",
    "view": "pixels to model input, one core",
    "decoding": "all three, by all workers",
    "forward": "all models, in a batch",
    "judge": "scores to a decision",
    "write": "a record to a file",
}


def as_text(report: Report, *, is_terminal: bool) -> str:
    """Return the report as text, coloured for a terminal."""
    width = shutil.get_terminal_size().columns if is_terminal else PIPE_COLUMNS
    colour = is_terminal and "NO_COLOR" not in os.environ
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=colour, no_color=not colour, highlight=False)
    for part in _parts(report):
        console.print(part)
    return written.getvalue()


def _parts(report: Report) -> Iterator[Table | Text]:
    machine, setup = report.machine, report.setup
    torch = f", torch {machine.torch}" if machine.torch else ""
    peak = (
        f": a large matrix product reaches {machine.peak_tflops:.3g} TFLOP/s" if machine.peak_tflops else ""
    )
    yield Text(f"{plain(machine.device)}, {machine.cores} cores{torch}, {setup.dtype}{peak}")
    names = ", ".join(map(plain, report.forward))
    yield Text(
        f"{names}{' (random weights)' if setup.random_weights else ''}, batches of {setup.batch_size}, "
        f"{setup.workers} decoding workers, pictures: {plain(setup.pictures)}\n"
    )
    yield _stages(report)
    yield _models(report)
    yield _end(report)


def _stages(report: Report) -> Table:
    rows = [
        (name, _ms(one.ms), f"{_ms(one.low_ms)} - {_ms(one.high_ms)}", _rate(one.images_per_s), ABOUT[name])
        for name, one in report.stages.items()
    ]
    title = f"Stages (median of {report.setup.repeats})"
    return table_of(("stage", "ms an image", "spread", "images/s", "what"), rows, title=title)


def _models(report: Report) -> Table:
    rows = [
        (
            name,
            _ms(one.ms),
            _ms(one.ms_alone),
            "-" if one.gflop is None else f"{one.gflop:.3g}",
            _share(one.share_of_peak),
        )
        for name, one in report.forward.items()
    ]
    title = f"Forward pass (batches of {report.setup.forward_batch})"
    return table_of(("model", "ms an image", "ms alone", "GFLOP", "of the peak"), rows, title=title)


def _end(report: Report) -> Table:
    end = report.end_to_end
    rate = f"{_rate(end.images_per_s)} images/s"
    if end.runs > 1:
        rate += f" ({_rate(end.low_images_per_s)} - {_rate(end.high_images_per_s)})"
    rows = [
        ("files to records", f"{rate}, {end.runs} x {end.images:,} pictures"),
        ("models computed", f"{end.busy_share:.0%} of the time"),
        ("of the peak", _share(end.share_of_peak)),
    ]
    if end.errors:
        rows.append(("errors", f"{end.errors} pictures of a run could not be judged"))
    return table_of(("", ""), rows, title="End to end", head=False)


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
