"""Measures the pipeline from files to JSON Lines, and judging and writing alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from clipmod_cli.bench.models import BenchModels
from clipmod_cli.bench.report import Stage
from clipmod_cli.bench.stages import repeat
from clipmod_cli.ensemble.batch import CanSkipRest
from clipmod_cli.ensemble.ensemble import Ensemble, PendingEvidence
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.judging import judge
from clipmod_cli.models.device.clock import DeviceClock
from clipmod_cli.output.jsonl import open_file
from clipmod_cli.pipeline import Options, run
from clipmod_cli.records import RunFacts, to_line, to_record
from clipmod_cli.types import Evidence, Failure, Frame, Item, Result, View

RESULTS = 64
"""Results that the stages judge and write are measured with."""

FACTS = RunFacts(policy="bench", policy_hash="00000000", threshold=0.5, run_key="bench", run_id="bench")


@dataclass
class TimedEnsemble:
    """An ensemble (`InferenceEngine`) that adds up the time of its calls.

    Attributes:
        busy_s: seconds within calls. On a CPU that is computing.
    """

    ensemble: Ensemble
    busy_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def views(self) -> tuple[View, ...]:
        """The views that its models need."""
        return self.ensemble.views

    @property
    def batch_size(self) -> int:
        """Frames in one forward pass."""
        return self.ensemble.batch_size

    def prepare_batch(self, batch: Sequence[Frame | Failure]) -> None:
        """Prepare a batch, untimed: another thread does it while models compute."""
        self.ensemble.prepare_batch(batch)

    def submit(
        self, batch: Sequence[Frame | Failure], can_skip_rest: CanSkipRest | None = None
    ) -> PendingEvidence:
        """Submit a batch."""
        with self._timed():
            wait = self.ensemble.submit(batch, can_skip_rest)

        def result() -> Sequence[Evidence | Failure]:
            with self._timed():
                return list(wait())

        return result

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        with self._lock:  # one thread submits, another one waits
            self.busy_s += time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class LineTime:
    """Figures of one run of the pipeline.

    Attributes:
        busy_s: seconds during which models computed.
        results: the first ones.
    """

    images: int
    seconds: float
    busy_s: float
    errors: int
    results: Sequence[Result]


def run_once(items: Iterable[Item], models: BenchModels, options: Options, output: Path) -> LineTime:
    """Judge the items into a file, and delete it."""
    ensemble, clock = TimedEnsemble(models.ensemble), DeviceClock.of(models.placement)
    images = errors = 0
    first: list[Result] = []
    start = time.perf_counter()
    sink = open_file(output)
    try:
        with clock.counting(), closing(run(items, ensemble, models.criteria, options)) as results:
            for result in results:
                _write(result, sink.write)
                images += 1
                errors += isinstance(result, Failure)
                if len(first) < RESULTS:
                    first.append(result)
    finally:
        sink.close()
        output.unlink()
    seconds = time.perf_counter() - start
    # a device's own clock is better: calls include copying
    computed_s = clock.seconds()
    busy_s = ensemble.busy_s if computed_s is None else computed_s
    return LineTime(images, seconds, max(0.0, min(busy_s, seconds)), errors, first)


def _write(result: Result, take: Callable[[bytes], None]) -> None:
    take(to_line(to_record(result, FACTS)))


def measure_records(
    results: Sequence[Result], evidence: Sequence[Evidence], criteria: Criteria, folder: Path, repeats: int
) -> dict[str, Stage]:
    """Return the stages judge (of this evidence) and write (of these results)."""

    def write_all() -> None:
        for result in results:
            _write(result, sink.write)

    sink = open_file(folder / "records.jsonl")
    try:
        written = repeat(write_all, images=len(results), repeats=repeats)
    finally:
        sink.close()
    judged = repeat(lambda: list(judge(evidence, criteria)), images=max(1, len(evidence)), repeats=repeats)
    return {"judge": judged, "write": written}
