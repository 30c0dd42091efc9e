"""The whole line, from files to JSON Lines, and for how much of its time models computed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from clipmod_cli.bench.clock import repeat
from clipmod_cli.bench.models import Loaded
from clipmod_cli.bench.report import Stage
from clipmod_cli.ensemble.batch import CanSkipRest
from clipmod_cli.ensemble.ensemble import Ensemble, PendingEvidence
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.judging import judge
from clipmod_cli.models.device.clock import DeviceClock
from clipmod_cli.output.jsonl import open_file
from clipmod_cli.pipeline import Options, run
from clipmod_cli.records import RunFacts, to_line, to_record
from clipmod_cli.types import Evidence, Failure, Frame, Item, Result, View

KEPT = 64
"""Results that are kept, for measuring how long judging and writing take."""

FACTS = RunFacts(policy="bench", policy_hash="00000000", threshold=0.5, run_key="bench", run_id="bench")


@dataclass
class Watched:
    """An ensemble that knows how long it was at work, an `InferenceEngine`.

    Attributes:
        busy_s: seconds that it took to look. On a CPU that is computing.
    """

    ensemble: Ensemble
    busy_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def views(self) -> tuple[View, ...]:
        """The geometries it wants."""
        return self.ensemble.views

    @property
    def batch_size(self) -> int:
        """Frames in one forward pass."""
        return self.ensemble.batch_size

    def prepare_batch(self, batch: Sequence[Frame | Failure]) -> None:
        """Have the ensemble prepare a batch, which takes none of its time."""
        self.ensemble.prepare_batch(batch)

    def submit(
        self, batch: Sequence[Frame | Failure], can_skip_rest: CanSkipRest | None = None
    ) -> PendingEvidence:
        """Submit a batch to the ensemble."""
        with self._at_work():
            wait = self.ensemble.submit(batch, can_skip_rest)

        def tell() -> Sequence[Evidence | Failure]:
            with self._at_work():
                return list(wait())

        return tell

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        with self._lock:  # one thread begins, another one waits
            self.busy_s += time.perf_counter() - begun


@dataclass(frozen=True, slots=True)
class Run:
    """What one run came to; `busy_s` is for how long models computed."""

    images: int
    seconds: float
    busy_s: float
    errors: int
    first: Sequence[Result]


def run_once(items: Iterable[Item], loaded: Loaded, options: Options, output: Path) -> Run:
    """Judge the items into a file, and throw it away."""
    watched, clock = Watched(loaded.ensemble), DeviceClock.of(loaded.placement)
    images = errors = 0
    kept: list[Result] = []
    begun = time.perf_counter()
    sink = open_file(output)
    try:
        with clock.counting(), closing(run(items, watched, loaded.criteria, options)) as results:
            for result in results:
                write(result, sink.write)
                images += 1
                errors += isinstance(result, Failure)
                if len(kept) < KEPT:
                    kept.append(result)
    finally:
        sink.close()
        output.unlink()
    seconds = time.perf_counter() - begun
    # what keeps its own time is taken at its word: around it there is copying too
    computed_s = clock.seconds()
    busy_s = watched.busy_s if computed_s is None else computed_s
    return Run(images, seconds, max(0.0, min(busy_s, seconds)), errors, kept)


def write(result: Result, take: Callable[[bytes], None]) -> None:
    """Write the record of a result."""
    take(to_line(to_record(result, FACTS)))


def measure_records(
    results: Sequence[Result], seen: Sequence[Evidence], criteria: Criteria, folder: Path, repeats: int
) -> dict[str, Stage]:
    """Return the stages judge and write, of what a run has seen and said."""

    def write_all() -> None:
        for result in results:
            write(result, sink.write)

    sink = open_file(folder / "records.jsonl")
    try:
        written = repeat(write_all, images=len(results), repeats=repeats)
    finally:
        sink.close()
    judged = repeat(lambda: list(judge(seen, criteria)), images=max(1, len(seen)), repeats=repeats)
    return {"judge": judged, "write": written}
