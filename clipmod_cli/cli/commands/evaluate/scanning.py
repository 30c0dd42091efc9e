"""Makes the records that `clipmod eval` is to evaluate, as `clipmod scan` and `rescore` do."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from clipmod_cli.cli.commands.results.rescoring import rescore_folder
from clipmod_cli.cli.run import Inputs, judge_inputs
from clipmod_cli.cli.terminal.stdout import RealStdout
from clipmod_cli.errors import ExitCode
from clipmod_cli.evaluate.measures.evaluation import ScanCost
from clipmod_cli.output.reading.files import check_file
from clipmod_cli.output.resuming.files import whole_records
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.sources.base import Rules
from clipmod_cli.sources.registry import check_packages, expand


@contextmanager
def records_file(kept: str | None) -> Iterator[Path]:
    """Give the file for the records of a scan: the one to keep, or a temporary one."""
    if kept is not None:
        yield Path(kept).expanduser()
        return
    with TemporaryDirectory(prefix="clipmod-eval-") as folder:
        yield Path(folder, "records.jsonl")


def scan(
    resolved: Resolved, sources: list[str], records: Path, stdout: RealStdout, *, kept: bool
) -> tuple[ExitCode, ScanCost]:
    """Judge the sources and write their records; return the exit code and what it took."""
    check_packages(sources)
    # a bank would answer in place of the models that are to be measured
    settings = replace(resolved.settings, output=str(records), no_db=True, bank=())
    inputs = Inputs(
        items=lambda skipped: expand(sources, Rules(), skipped),
        walk_ahead="-" not in sources,
        resumable=kept,
    )
    start, before = time.monotonic(), _records_in(records)
    # the summary is for stdout, no line of an input
    exit_code = judge_inputs(
        replace(resolved, settings=settings), inputs, stdout=replace(stdout, is_terminal=False)
    )
    return exit_code, ScanCost(
        wall_s=time.monotonic() - start,
        inputs=_records_in(records) - before,
        peak_memory_mb=_peak_memory_mb(),
    )


def rescore(resolved: Resolved, evidence: Path, records: Path, stdout: RealStdout) -> ExitCode:
    """Judge stored evidence and write its records; return the exit code."""
    settings = replace(resolved.settings, output=str(records), bank=())
    quiet = replace(stdout, is_terminal=False)  # as in `scan`
    return rescore_folder(replace(resolved, settings=settings), evidence, None, 0, stdout=quiet)


def _records_in(records: Path) -> int:
    if not records.exists():
        return 0
    with TemporaryDirectory(prefix="clipmod-eval-") as folder:
        return check_file(str(whole_records(records)), Path(folder)).count


def _peak_memory_mb() -> float | None:
    """Return the most memory of this process and its largest worker together; None if not known."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(peaks) * unit / 1e6
