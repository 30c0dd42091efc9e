"""All measurements in their order, within a time that is said beforehand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipmod_cli import __version__
from clipmod_cli.bench import decoding, forward, line, memory, pictures
from clipmod_cli.bench.advice import find_bound, find_oddities
from clipmod_cli.bench.describing import describe_machine, describe_setup, sum_up
from clipmod_cli.bench.models import Loaded, load_models
from clipmod_cli.bench.report import Memory, Report, Stage
from clipmod_cli.bench.wishes import Wishes
from clipmod_cli.decode.decoders import Decoders
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.ensemble.duplicates import DUPLICATE_CACHE_BYTES
from clipmod_cli.errors import UsageError
from clipmod_cli.models.device import peak
from clipmod_cli.pipeline import Options, default_workers, start_decoders
from clipmod_cli.settings import count_of
from clipmod_cli.types import Evidence

FORWARD_S = 25.0
"""For the forward stage: several batches of the ensemble on a CPU that takes seconds a picture."""

LINE_S = 40.0
"""For all end-to-end runs together. With what is loaded and measured besides, a run takes 1 to 2 minutes."""

OTHER_S = 8.0
"""All other stages, about."""

FEWEST = 4
"""Pictures in an end-to-end run, however slow: with fewer, its beginning and end would be all of it."""

MOST_PICTURES = 20_000
"""In one end-to-end run: half a minute of a large GPU."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """All that was prepared.

    Attributes:
        begun: `time.perf_counter()` at the start.
        idle_mb: resident before the models were loaded.
    """

    wishes: Wishes
    loaded: Loaded
    begun: float
    idle_mb: float
    loaded_mb: float


def get_ready(wishes: Wishes) -> Ready:
    """Return the models, loaded, and what memory they took.

    Raises:
        ClipmodError: if they cannot be had.
    """
    begun = time.perf_counter()
    idle = memory.resident_mb()
    loaded = load_models(wishes)
    peak.start_counting_memory(loaded.placement)
    return Ready(
        wishes=wishes, loaded=loaded, begun=begun, idle_mb=idle, loaded_mb=memory.resident_mb()
    )  # fmt: skip


def measure(ready: Ready, folder: Path, say: Say) -> Report:
    """Return what was measured.

    Args:
        ready: what was prepared.
        folder: an empty one, for pictures and records; whoever gives it throws it away.
        say: tells a person what is going on.

    Raises:
        UsageError: if there are no pictures.
    """
    return _Measuring(ready, folder, say).carry_out()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """How the whole line is measured: so many runs of so many pictures."""

    runs: int
    count: int


class _Measuring:
    def __init__(self, ready: Ready, folder: Path, say: Say) -> None:
        self.ready, self.wishes, self.loaded = ready, ready.wishes, ready.loaded
        self.ensemble, self.views = ready.loaded.ensemble, ready.loaded.ensemble.views
        self.repeats = ready.wishes.repeats
        self.folder, self.say = folder, say
        settings = ready.wishes.settings
        self.decoding = DecodeOptions(exact=settings.decode == "exact")
        self.options = Options(
            decode=self.decoding,
            workers=count_of(settings.workers, "--workers", default=default_workers()),
            isolate=settings.isolate,
        )
        self.drawn: list[bytes] = []

    def carry_out(self) -> Report:
        """Measure, and return the report."""
        paths = self._some_pictures()
        sample = decoding.take_sample(paths, self.views, self.decoding)
        if not sample.items:
            raise UsageError("none of the files looked at is a still picture that can be decoded")
        with start_decoders(self.options) as decoders:
            return self._measure(paths, sample, decoders)

    def _some_pictures(self) -> list[Path]:
        if self.wishes.folder is not None:
            return pictures.find_pictures(self.wishes.folder, self.wishes.count)
        self.drawn = pictures.draw_pictures(self.folder, self.wishes.size)
        return pictures.write_pictures(self.folder, self.drawn, len(self.drawn))

    def _measure(self, paths: Sequence[Path], sample: decoding.Sample, decoders: Decoders) -> Report:
        frames = decoding.warm_up(decoders, paths, self.views, self.decoding)
        alone = forward.look_alone(self.ensemble, frames)
        batch = _fitting(self.ensemble.batch_size, alone.ms / 1000, FORWARD_S / (self.repeats + 1))
        self.say(f"measuring {self._models()}; this takes about {self._estimate(alone.ms, batch):.0f} s")
        fastest = peak.measure_peak(self.loaded.placement, self.ensemble.dtype)
        stages = self._measure_decoding(paths, sample, decoders)
        stages["forward"], models = forward.measure_forward(
            self.loaded, frames, batch=batch, repeats=self.repeats, alone=alone, peak=fastest
        )
        runs = self._run_line(paths, decoders, stages)
        seen = [e for e in self.ensemble.submit(frames[:1])() if isinstance(e, Evidence)] * line.KEPT
        stages |= line.measure_records(runs[0].first, seen, self.loaded.criteria, self.folder, self.repeats)
        setup = describe_setup(self.wishes, self.loaded, self.options, batch)
        end = sum_up(runs, forward.work_of(models), fastest)
        return Report(
            version=__version__,
            machine=describe_machine(self.loaded, fastest),
            setup=setup,
            stages=stages,
            forward=models,
            end_to_end=end,
            memory=self._memory(),
            bound=find_bound(stages, end, setup),
            warnings=list(find_oddities(models, end, setup, sample.left_out)),
            seconds=time.perf_counter() - self.ready.begun,
        )

    def _measure_decoding(
        self, paths: Sequence[Path], sample: decoding.Sample, decoders: Decoders
    ) -> dict[str, Stage]:
        with peak.one_thread():
            stages = decoding.measure_alone(sample, self.decoding, self.repeats)
        few = max(96, 12 * decoders.workers)
        stages["decoding"] = decoding.measure_workers(
            decoders, paths, self.views, self.decoding, count=few, repeats=self.repeats
        )
        return stages

    def _run_line(
        self, paths: Sequence[Path], decoders: Decoders, stages: dict[str, Stage]
    ) -> list[line.Run]:
        plan = self._plan(max(stages["forward"].ms, stages["decoding"].ms) / 1000)
        if self.wishes.folder is None:
            paths = pictures.write_pictures(self.folder, self.drawn, plan.count)
        # As scan does. Where pictures come several times, not showing them again would hide what is measured.
        cache_bytes = DUPLICATE_CACHE_BYTES if plan.count <= len(paths) else 0
        options = Options(
            decode=self.decoding, decoders=decoders, infer_ahead=True, duplicate_cache_bytes=cache_bytes
        )
        output = self.folder / "records.jsonl"
        self.say(f"from files to records: {plan.runs} x {plan.count:,} pictures")
        return [
            line.run_once(pictures.items_of(paths, plan.count), self.loaded, options, output)
            for _ in range(plan.runs)
        ]

    def _plan(self, each_s: float) -> _Line:
        """Return what there is time for: several runs, or one where pictures take seconds."""
        count = self.wishes.count
        if count is not None:
            return _Line(runs=self.repeats if count * each_s * self.repeats <= LINE_S else 1, count=count)
        count = _fitting(MOST_PICTURES, each_s, LINE_S / self.repeats)
        if count >= FEWEST:
            return _Line(runs=self.repeats, count=count)
        return _Line(runs=1, count=max(FEWEST, _fitting(MOST_PICTURES, each_s, LINE_S)))

    def _estimate(self, alone_ms: float, batch: int) -> float:
        """Return about how many seconds are still to come."""
        each_s = alone_ms / 1000
        ahead = (self.repeats + 1) * batch * each_s + OTHER_S
        if self.wishes.count is None:
            return ahead + max(LINE_S, FEWEST * each_s)
        plan = self._plan(each_s)
        return ahead + plan.runs * plan.count * each_s

    def _models(self) -> str:
        names = ", ".join(member.model.name for member in self.ensemble.members)
        return f"{names}{' with random weights' if self.wishes.random_weights else ''}"

    def _memory(self) -> Memory:
        return Memory(
            idle_mb=self.ready.idle_mb,
            loaded_mb=self.ready.loaded_mb,
            peak_mb=memory.peak_mb(),
            device_peak_mb=peak.device_memory_mb(self.loaded.placement),
        )


def _fitting(most: int, each_s: float, seconds: float) -> int:
    """Return how many of these fit into a time: at least one, and at most `most`."""
    return max(1, min(most, int(seconds / each_s) if each_s > 0 else most))
