"""Pictures a second by model and machine, with the physical limit beside it, as a table of Markdown.

    python -m benchmarks.table BENCH.json ...            a row for each document of `clipmod bench -o`
    python -m benchmarks.table --measure FOLDER          measure all rows here first, into this folder

The limit is the measured rate of a large matrix product divided by the operations of a picture: those of a
view, times the views that a picture takes. Operations are known of models on torch; for others the limit is
a dash. With --measure each row is one run of `clipmod bench` (random weights, drawn pictures of 1280 x 960);
rows whose document is in the folder already are not measured again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipmod_cli.bench.report import Report
from clipmod_cli.bench.stages import total_flops

SIZE = "1280x960"
MODELS = {
    "open_nsfw": "open_nsfw",
    "nudenet": "nudenet",
    "light": "open_nsfw,nudenet",
    "vit-l": "fallback",
    "ensemble": "ensemble",
}
ON_TORCH = {"vit-l", "ensemble"}
COVERAGES = ("full", "centre")
HEAD = ("models", "machine", "precision", "coverage", "views", "pictures/s", "limit", "share")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of `clipmod bench`: a row of the table."""

    models: str
    dtype: str
    coverage: str

    @property
    def name(self) -> str:
        """The name of its document."""
        return f"{self.models}-{self.dtype}-{self.coverage}.json"

    @property
    def words(self) -> list[str]:
        """The arguments of `clipmod bench`."""
        dtype = ["--dtype", self.dtype] if self.models in ON_TORCH else []
        return [
            "--random-weights", "--models", MODELS[self.models], *dtype, "--coverage", self.coverage,
            "--size", SIZE,
        ]  # fmt: skip


def runs(models: Sequence[str], dtypes: Sequence[str]) -> Iterator[Run]:
    """Yield the rows; models that are not on torch have one precision."""
    for name in models:
        for dtype in dtypes if name in ON_TORCH else ["float32"]:
            yield from (Run(name, dtype, coverage) for coverage in COVERAGES)


def measure(folder: Path, wanted: Sequence[Run]) -> Iterator[Path]:
    """Measure what the folder has no document of; yield all documents."""
    folder.mkdir(parents=True, exist_ok=True)
    for run in wanted:
        path = folder / run.name
        if not path.exists():
            command = [sys.executable, "-m", "clipmod_cli", "bench", *run.words, "-q", "-o", str(path)]
            print(" ".join(["clipmod", *command[3:]]), file=sys.stderr)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        yield path


def limit_of(report: Report) -> float | None:
    """Return the pictures a second that the matrix products alone allow; None where it is unknown."""
    flops, peak = total_flops(report.forward), report.machine.peak_tflops
    views = report.end_to_end.views_per_image
    return None if flops is None or peak is None or not views else peak * 1e12 / (flops * views)


def row_of(report: Report) -> tuple[str, ...]:
    """Return the cells of a document."""
    rate, limit = report.end_to_end.images_per_s, limit_of(report)
    machine, setup = report.machine, report.setup
    where = machine.device if setup.device != "cpu" else f"{machine.device}, {machine.cores} cores"
    return (
        ", ".join(report.forward),
        where,
        setup.dtype,
        setup.coverage,
        f"{report.end_to_end.views_per_image:.3g}",
        _number(rate),
        "-" if limit is None else _number(limit),
        "-" if limit is None else f"{rate / limit:.0%}".replace("%", " %"),
    )


def table_of(reports: Sequence[Report]) -> str:
    """Return the table in Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *map(row_of, reports)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("documents", nargs="*", type=Path, metavar="BENCH.json")
    parser.add_argument("--measure", type=Path, metavar="FOLDER")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument(
        "--dtype", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"]
    )
    args = parser.parse_args()
    documents = list(args.documents)
    if args.measure is not None:
        documents += measure(args.measure, list(runs(args.models, args.dtype)))
    if not documents:
        parser.error("name documents of `clipmod bench -o`, or --measure FOLDER")
    print(table_of([Report.model_validate_json(path.read_bytes()) for path in documents]))


if __name__ == "__main__":
    main()
