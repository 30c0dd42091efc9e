"""Measures each stage alone, and the pipeline from files to JSON Lines (`run_once`)."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from clipmod_cli.bench.models import BenchModels, folder_of
from clipmod_cli.bench.pictures import items_of
from clipmod_cli.bench.report import Forward, Stage
from clipmod_cli.decode.job import DecodeJob
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.reading.items import read_item
from clipmod_cli.decode.stage import Decoders, decode_with
from clipmod_cli.decode.stills.opening import check_format, silence_decoders, ungated
from clipmod_cli.decode.stills.pictures import decode_still
from clipmod_cli.decode.transforms import make_input
from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.errors import ItemError, UsageError
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.judging import judge
from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.output.jsonl import open_file
from clipmod_cli.pipeline import Options, run
from clipmod_cli.records import RunFacts, to_line, to_record
from clipmod_cli.results import Result
from clipmod_cli.types import Evidence, Frame, Geometry, Item, Media, Verdict

SAMPLE = 16
"""Pictures that the stages on one core are measured with; more change little."""

RESULTS = 64
"""Results that the stages judge and write are measured with."""

FACTS = RunFacts(policy="bench", policy_hash="00000000", threshold=0.5, run_key="bench", run_id="bench")


@dataclass(frozen=True, slots=True)
class LineTime:
    """Figures of one run of the pipeline.

    Attributes:
        busy_s: seconds of all forward passes, on CUDA devices by their own clock; those of models on the CPU
            count only if no model uses CUDA, since they run at the same time.
        views: that the models were shown.
        results: the first ones.
    """

    images: int
    seconds: float
    busy_s: float
    errors: int
    views: int
    results: Sequence[Result]


def run_once(items: Iterable[Item], models: BenchModels, options: Options, output: Path) -> LineTime:
    """Judge the items into a file, and delete it."""
    all_models = [member.model for member in models.ensemble.members]
    timed = {model.name for model in all_models if model.is_asynchronous} or {m.name for m in all_models}
    images, errors, views, busy_ms = 0, 0, 0, 0.0
    first: list[Result] = []
    start = time.perf_counter()
    sink = open_file(output)
    try:
        with closing(run(items, models.ensemble, models.criteria, options)) as results:
            for result in results:
                sink.write(to_line(to_record(result, FACTS)))
                images += 1
                if not isinstance(result, Verdict):
                    errors += 1
                else:
                    busy_ms += _forward_ms(result, timed)
                    views += result.views_scored
                if len(first) < RESULTS:
                    first.append(result)
    finally:
        sink.close()
        output.unlink()
    seconds = time.perf_counter() - start
    return LineTime(images, seconds, min(busy_ms / 1000, seconds), errors, views, first)


def _forward_ms(verdict: Verdict, timed: Container[str]) -> float:
    scores = (named for frame in verdict.frames for named in frame.by_model.items())
    return sum(score.forward_ms for name, score in scores if name in timed)


def measure_records(
    results: Sequence[Result], evidence: Sequence[Evidence], criteria: Criteria, folder: Path, repeats: int
) -> dict[str, Stage]:
    """Return the stages judge (of this evidence) and write (of these results)."""

    def write_all() -> None:
        for result in results:
            sink.write(to_line(to_record(result, FACTS)))

    sink = open_file(folder / "records.jsonl")
    try:
        written = repeat(write_all, images=len(results), repeats=repeats)
    finally:
        sink.close()
    judged = repeat(lambda: list(judge(evidence, criteria)), images=max(1, len(evidence)), repeats=repeats)
    return {"judge": judged, "write": written}


def time_it(work: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def repeat(work: Callable[[], object], *, images: int, repeats: int) -> Stage:
    """Return the figures of a call that processes `images` images, made `repeats` times."""
    return stage_of([time_it(work) * 1000 / images for _ in range(repeats)])


def stage_of(ms: Sequence[float]) -> Stage:
    """Return the figures of several repeats, each in milliseconds an image."""
    median = statistics.median(ms)
    return Stage(ms=median, low_ms=min(ms), high_ms=max(ms), images_per_s=1000 / median if median else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeBench:
    """Measures reading, decoding and making views."""

    decoders: Decoders
    paths: Sequence[Path]
    geometries: Sequence[Geometry]
    options: DecodeOptions
    repeats: int

    def measure_one_core(self) -> dict[str, Stage]:
        """Return the stages read, decode and view, over a sample in this thread.

        Raises:
            UsageError: if no file of the sample is a still picture that can be decoded.
        """
        silence_decoders()
        items = items_of(self.paths, min(len(self.paths), 2 * SAMPLE))
        sample = [(item, job) for item in items if (job := self._job(item)) is not None][:SAMPLE]
        if not sample:
            raise UsageError("no still picture could be decoded. Give a folder with pictures, or none")
        media, limits = Media(started=0.0), self.options.limits
        pictures = [picture for _, job in sample for picture in decode_still(job)]
        works: dict[str, Callable[[], object]] = {
            "read": lambda: [read_item(item, limits, media) for item, _ in sample],
            "decode": lambda: [[*decode_still(job)] for _, job in sample],
            "view": lambda: [
                make_input(picture, geometry, exact=self.options.exact)
                for picture in pictures
                for geometry in self.geometries
            ],
        }
        return {name: repeat(work, images=len(sample), repeats=self.repeats) for name, work in works.items()}

    def _job(self, item: Item) -> DecodeJob | None:
        media = Media(started=time.perf_counter())
        try:
            data, known = read_item(item, self.options.limits, media)
            job = DecodeJob(
                data=data,
                format=check_format(known, self.options),
                geometries=self.geometries,
                options=self.options,
                media=media,
                gate=ungated,
            )
            decode_still(job)
        except ItemError:
            return None
        return job

    def frames(self) -> list[Frame]:
        """Return some decoded frames; starts all workers."""
        items = items_of(self.paths, max(SAMPLE, 4 * self.decoders.workers))
        decoded = decode_with(self.decoders, items, self.geometries, self.options)
        return [frame for frame in decoded if isinstance(frame, Frame)]

    def measure_workers(self) -> Stage:
        """Return the stage of all workers that read, decode and make views, with nothing else at work."""
        count = max(96, 12 * self.decoders.workers)

        def work() -> None:
            items = items_of(self.paths, count)
            ahead = 4 * self.decoders.workers
            for _ in decode_with(self.decoders, items, self.geometries, self.options, ahead=ahead):
                pass

        return repeat(work, images=count, repeats=self.repeats)


@dataclass(frozen=True, slots=True)
class BatchTime:
    """How long one batch took, in milliseconds an image: all models, and each by name."""

    ms: float
    by_model: dict[str, float]


def time_batch(ensemble: Ensemble, frames: Sequence[Frame]) -> BatchTime:
    """Return how long one batch takes."""
    evidence: list[object] = []
    seconds = time_it(lambda: evidence.extend(ensemble.submit(frames)()))
    first = next((one for one in evidence if isinstance(one, Evidence)), None)
    return BatchTime(seconds * 1000 / len(frames), dict(first.forward_ms) if first else {})


def measure_forward(
    models: BenchModels,
    frames: Sequence[Frame],
    *,
    batch: int,
    repeats: int,
    alone: BatchTime,
    peak: float | None,
) -> tuple[Stage, dict[str, Forward]]:
    """Return the stage of all models together, and the figures of each.

    Args:
        models: what is measured.
        frames: pictures, used several times if they are fewer than a batch.
        batch: pictures in a batch.
        repeats: measured batches; one warm-up batch comes before them.
        alone: the time of a batch of one.
        peak: operations a second of a large matrix product; None if no model is on torch.
    """
    pictures = list(islice(cycle(frames), batch))
    time_batch(models.ensemble, pictures)
    times = [time_batch(models.ensemble, pictures) for _ in range(repeats)]
    by_name: dict[str, list[float]] = defaultdict(list)
    for one in times:
        for name, ms in one.by_model.items():
            by_name[name].append(ms)
    figures = {}
    for member, spec in zip(models.ensemble.members, models.specs, strict=True):
        name = member.model.name
        if by_name[name]:
            flops = _flops_of(spec, models.hub)
            ms = statistics.median(by_name[name])
            figures[name] = _figures(spec.spec, ms, alone.by_model[name], flops, peak)
    return stage_of([one.ms for one in times]), figures


def _flops_of(spec: ModelSpec, hub: Hub) -> int | None:
    """Return the operations of a model on torch for an image; None for others."""
    if not spec.backend.uses_torch:
        return None
    from clipmod_cli.models.open_clip.architecture import flops_of

    return flops_of(spec, folder_of(spec, hub))


def _figures(spec: str, ms: float, ms_alone: float, flops: int | None, peak: float | None) -> Forward:
    share = None if flops is None or peak is None or not ms else flops / (ms / 1000) / peak
    gflop = None if flops is None else flops / 1e9
    return Forward(spec=spec, ms=ms, ms_alone=ms_alone, gflop=gflop, share_of_peak=share)


def total_flops(models: dict[str, Forward]) -> float | None:
    """Return the operations of all models for an image; None if those of one are unknown."""
    known = [model.gflop for model in models.values() if model.gflop is not None]
    return sum(known) * 1e9 if known and len(known) == len(models) else None
