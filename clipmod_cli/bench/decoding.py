"""How long reading, decoding and making views take, on one core and by all workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clipmod_cli.bench.clock import repeat, stage_of, time_it
from clipmod_cli.bench.pictures import items_of
from clipmod_cli.bench.report import Stage
from clipmod_cli.decode.decoders import Decoders
from clipmod_cli.decode.job import DecodeJob, MediaBuilder
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.reading import read_item
from clipmod_cli.decode.stage import decode_with
from clipmod_cli.decode.stills.opening import hush_decoders, identify, ungated
from clipmod_cli.decode.stills.pictures import decode_still
from clipmod_cli.decode.views import make_view
from clipmod_cli.errors import ItemError
from clipmod_cli.types import Frame, Item, View

SAMPLE = 16
"""Pictures that the single stages are measured with; their time varies little beyond so many."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Still pictures that could be decoded, each with its bytes as a job.

    Attributes:
        left_out: files that were looked at and are none.
    """

    items: list[Item]
    jobs: list[DecodeJob]
    left_out: int


def take_sample(paths: Sequence[Path], views: Sequence[View], options: DecodeOptions) -> Sample:
    """Return the first pictures that are stills and whole."""
    hush_decoders()
    items: list[Item] = []
    jobs: list[DecodeJob] = []
    looked_at = 0
    for item in items_of(paths, min(len(paths), 2 * SAMPLE)):
        looked_at += 1
        if (job := _job(item, views, options)) is not None:
            items.append(item)
            jobs.append(job)
        if len(items) == SAMPLE:
            break
    return Sample(items, jobs, looked_at - len(items))


def _job(item: Item, views: Sequence[View], options: DecodeOptions) -> DecodeJob | None:
    notes = MediaBuilder(time.perf_counter())
    try:
        data = read_item(item, options.limits, notes)
        name = identify(data, options)
        job = DecodeJob(data=data, name=name, views=views, options=options, notes=notes, gate=ungated)
        decode_still(job)
    except ItemError:
        return None
    return job


def measure_alone(sample: Sample, options: DecodeOptions, repeats: int) -> dict[str, Stage]:
    """Return the stages read, decode and view, one picture after the other in this thread."""
    notes = MediaBuilder(0.0)
    count = len(sample.items)
    decoded = [decode_still(job) for job in sample.jobs]
    wanted = [
        (picture, view) for picture, job in zip(decoded, sample.jobs, strict=True) for view in job.views
    ]
    return {
        "read": repeat(
            lambda: [read_item(item, options.limits, notes) for item in sample.items],
            images=count,
            repeats=repeats,
        ),
        "decode": repeat(
            lambda: [decode_still(job) for job in sample.jobs], images=count, repeats=repeats
        ),
        "view": repeat(
            lambda: [make_view(picture, view, exact=options.exact) for picture, view in wanted],
            images=count,
            repeats=repeats,
        ),
    }  # fmt: skip


def warm_up(
    decoders: Decoders, paths: Sequence[Path], views: Sequence[View], options: DecodeOptions
) -> list[Frame]:
    """Return some frames, once every worker has started."""
    count = max(SAMPLE, 4 * decoders.workers)
    frames = list(decode_with(decoders, items_of(paths, count), views, options))
    return [frame for frame in frames if isinstance(frame, Frame)]


def measure_workers(
    decoders: Decoders,
    paths: Sequence[Path],
    views: Sequence[View],
    options: DecodeOptions,
    *,
    count: int,
    repeats: int,
) -> Stage:
    """Return what an image takes when all workers decode and nothing else goes on."""

    def work() -> None:
        for _ in decode_with(decoders, items_of(paths, count), views, options, ahead=4 * decoders.workers):
            pass

    return stage_of([time_it(work) * 1000 / count for _ in range(repeats)])
