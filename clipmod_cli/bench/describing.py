"""What was measured, where, and what the runs come to: the parts of a report that are no measurement."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence

from clipmod_cli.bench.line import Run
from clipmod_cli.bench.models import Loaded
from clipmod_cli.bench.report import EndToEnd, Machine, Setup
from clipmod_cli.bench.wishes import Wishes
from clipmod_cli.models.device import peak
from clipmod_cli.pipeline import Options


def describe_setup(wishes: Wishes, loaded: Loaded, options: Options, forward_batch: int) -> Setup:
    """Return what was measured."""
    width, height = wishes.size
    return Setup(
        models=[spec.spec for spec in loaded.specs],
        random_weights=wishes.random_weights,
        device=loaded.placement.device.type,
        dtype=loaded.ensemble.dtype,
        batch_size=loaded.ensemble.batch_size,
        forward_batch=forward_batch,
        workers=options.workers,
        isolate=options.isolate,
        decode="exact" if options.decode.exact else "fast",
        compiled=wishes.settings.compile,
        pictures=str(wishes.folder) if wishes.folder else f"{width}x{height}",
        repeats=wishes.repeats,
    )


def describe_machine(loaded: Loaded, fastest: float) -> Machine:
    """Return where it was measured; `fastest` is the operations a second of a large matrix product."""
    return Machine(
        cpu=peak.name_cpu(),
        cores=peak.cores(),
        instructions=peak.cpu_flags(),
        device=peak.name_device(loaded.placement),
        devices=len(loaded.placement.devices),
        torch=peak.torch_version(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        peak_tflops=fastest / 1e12,
    )


def sum_up(runs: Sequence[Run], work: float | None, fastest: float) -> EndToEnd:
    """Return what the runs come to; `work` is the operations of all models for an image."""
    rates = [run.images / run.seconds for run in runs]
    rate = statistics.median(rates)
    return EndToEnd(
        images=runs[0].images,
        runs=len(runs),
        images_per_s=rate,
        low_images_per_s=min(rates),
        high_images_per_s=max(rates),
        busy_share=statistics.median(run.busy_s / run.seconds for run in runs),
        share_of_peak=None if work is None else work * rate / fastest,
        errors=max(run.errors for run in runs),
    )
