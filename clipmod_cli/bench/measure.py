"""All measurements of `clipmod bench`, in their order."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from clipmod_cli import __version__
from clipmod_cli.assemble import decoding_options
from clipmod_cli.bench.figures import save
from clipmod_cli.bench.models import BenchModels, load_models
from clipmod_cli.bench.pictures import BenchPictures, items_of
from clipmod_cli.bench.report import EndToEnd, Forward, Machine, Report, Setup, Stage
from clipmod_cli.bench.stages import (
    RESULTS,
    DecodeBench,
    LineTime,
    measure_forward,
    measure_records,
    run_once,
    time_batch,
    total_flops,
)
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.stage import Decoders
from clipmod_cli.ensemble.cache import DUPLICATE_CACHE_BYTES
from clipmod_cli.models.device.processor import cpu_flags, name_cpu
from clipmod_cli.pipeline import Options, default_workers, start_decoders
from clipmod_cli.settings.definition import Settings
from clipmod_cli.types import Evidence, Frame

FORWARD_S = 25.0
"""The forward stage takes about this long on a slow machine: its batches are made smaller."""

LINE_S = 24.0
"""All end-to-end runs together take about this long, unless the number of pictures is given."""

COUNTS = (4, 20_000)
"""The fewest and the most pictures in an end-to-end run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What is measured.

    Attributes:
        random_weights: build the architectures; use no weights.
        folder: of the user's pictures; None draws some.
        count: pictures in an end-to-end run; None takes as many as fit into LINE_S.
        size: (width, height) of drawn pictures.
        repeats: of each measurement.
    """

    settings: Settings
    random_weights: bool
    folder: Path | None
    count: int | None
    size: tuple[int, int]
    repeats: int


def measure(options: BenchOptions, folder: Path, say: Callable[[str], None]) -> Report:
    """Return what was measured, which is also kept for `--dry-run` (`figures`).

    Args:
        options: what is measured.
        folder: an empty one for pictures and records; the caller deletes it.
        say: shows a message.

    Raises:
        ClipmodError: if models cannot be loaded.
        UsageError: if there are no pictures.
    """
    start = time.perf_counter()
    settings, repeats = options.settings, options.repeats
    models = load_models(settings, random_weights=options.random_weights)
    load_seconds = time.perf_counter() - start
    line = replace(decoding_options(settings), early_exit=False)
    pictures = BenchPictures.of(options.folder, options.count, options.size, folder)
    say(f"measuring {', '.join(member.model.name for member in models.ensemble.members)}")
    with start_decoders(line) as decoders:
        stages, frames = _measure_decoding(models, pictures.paths, decoders, line.decode, repeats)
        peak = _measure_peak(models)
        stages["forward"], forward, batch = _measure_forward(models, frames, repeats, peak)
        slowest = max(stages["forward"].ms, stages["decoding"].ms)
        count = options.count or _fitting(COUNTS, slowest, LINE_S / repeats)
        say(f"from files to records: {repeats} x {count:,} pictures")
        shared, output = replace(line, decoders=decoders), folder / "records.jsonl"
        runs = _run_line(models, pictures.for_count(count), count, shared, output, repeats)
    evidence = [e for e in models.ensemble.submit(frames[:1])() if isinstance(e, Evidence)] * RESULTS
    stages |= measure_records(runs[0].results, evidence, models.criteria, folder, repeats)
    report = Report(
        version=__version__,
        machine=_describe_machine(models, peak),
        setup=_describe_setup(options, models, line, batch),
        stages=stages,
        forward=forward,
        load_seconds=load_seconds,
        end_to_end=_end_to_end(runs, total_flops(forward), peak),
        seconds=time.perf_counter() - start,
    )
    if save(report, models.ensemble.geometries, settings, datetime.now(UTC)) is not None:
        say("kept the figures, by which --dry-run of scan estimates its time")
    return report


def _measure_decoding(
    models: BenchModels, paths: Sequence[Path], decoders: Decoders, decode: DecodeOptions, repeats: int
) -> tuple[dict[str, Stage], Sequence[Frame]]:
    """Return the stages of decoding, and the frames that it gives."""
    decoding = DecodeBench(
        decoders=decoders,
        paths=paths,
        geometries=models.ensemble.geometries,
        options=decode,
        repeats=repeats,
    )
    with _one_thread(models):
        stages = decoding.measure_one_core()
    frames = decoding.frames()
    stages["decoding"] = decoding.measure_workers()
    return stages, frames


def _run_line(
    models: BenchModels, paths: Sequence[Path], count: int, line: Options, output: Path, repeats: int
) -> list[LineTime]:
    # on as in scan, unless files come several times: it would hide their forward passes
    cache_bytes = DUPLICATE_CACHE_BYTES if count <= len(paths) else 0
    options = replace(line, infer_ahead=True, duplicate_cache_bytes=cache_bytes)
    return [run_once(items_of(paths, count), models, options, output) for _ in range(repeats)]


def _measure_forward(
    models: BenchModels, frames: Sequence[Frame], repeats: int, peak: float | None
) -> tuple[Stage, dict[str, Forward], int]:
    """Return the forward stage, its figures for each model, and the batch size that was measured."""
    time_batch(models.ensemble, frames[:1])  # warm-up
    alone = time_batch(models.ensemble, frames[:1])
    batch = _fitting((1, models.ensemble.batch_size), alone.ms, FORWARD_S / (repeats + 1))
    stage, forward = measure_forward(models, frames, batch=batch, repeats=repeats, alone=alone, peak=peak)
    return stage, forward, batch


def _fitting(limits: tuple[int, int], each_ms: float, seconds: float) -> int:
    """Return how many images fit into a time, within (fewest, most)."""
    fewest, most = limits
    return max(fewest, min(most, int(1000 * seconds / max(each_ms, 1e-9))))


def _one_thread(models: BenchModels) -> AbstractContextManager[None]:
    """Return a context in which pictures are decoded as in a worker: by one thread."""
    if models.placement is None:
        return nullcontext()
    from clipmod_cli.models.device import machine

    return machine.one_thread()


def _measure_peak(models: BenchModels) -> float | None:
    """Return the operations a second of a large matrix product by torch; None if no model is on torch."""
    if models.placement is None:
        return None
    from clipmod_cli.models.device import machine

    return machine.measure_peak(models.placement, models.ensemble.dtype)


def _describe_machine(models: BenchModels, peak: float | None) -> Machine:
    cpu, devices, torch = name_cpu(), 1, None
    device = cpu if _device(models) == "cpu" else _device(models)
    if models.placement is not None:
        from clipmod_cli.models.device import machine

        device, devices = machine.name_device(models.placement), len(models.placement.devices)
        torch = machine.torch_version()
    return Machine(
        cpu=cpu,
        cores=default_workers(),
        instructions=cpu_flags(),
        device=device,
        devices=devices,
        torch=torch,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        peak_tflops=None if peak is None else peak / 1e12,
    )


def _device(models: BenchModels) -> str:
    """Return where the models compute, as `cuda`: the device of those on torch, else of the first."""
    if models.placement is not None:
        return models.placement.device.type
    return models.ensemble.members[0].model.device.partition(":")[0]


def _describe_setup(options: BenchOptions, models: BenchModels, line: Options, batch: int) -> Setup:
    width, height = options.size
    return Setup(
        models=[spec.spec for spec in models.specs],
        random_weights=options.random_weights,
        device=_device(models),
        dtype=models.ensemble.dtype,
        batch_size=models.ensemble.batch_size,
        forward_batch=batch,
        workers=line.workers,
        isolate=line.isolate,
        decode=options.settings.decode,
        coverage=options.settings.coverage,
        compiled=options.settings.compile,
        pictures=str(options.folder) if options.folder else f"{width}x{height}",
        repeats=options.repeats,
    )


def _end_to_end(runs: Sequence[LineTime], flops: float | None, peak: float | None) -> EndToEnd:
    """Return the figures of the runs; `flops` are the operations of all models for an image."""
    rates = [run.images / run.seconds for run in runs]
    rate = statistics.median(rates)
    return EndToEnd(
        images=runs[0].images,
        runs=len(runs),
        images_per_s=rate,
        low_images_per_s=min(rates),
        high_images_per_s=max(rates),
        busy_share=statistics.median(run.busy_s / run.seconds for run in runs),
        share_of_peak=None if flops is None or peak is None else flops * rate / peak,
        views_per_image=runs[0].views / max(1, runs[0].images - runs[0].errors),
        errors=max(run.errors for run in runs),
    )
