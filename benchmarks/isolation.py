"""What decoding in worker processes costs: with and without them in turn, medians of several rounds.

    python -m benchmarks.isolation [--pictures 300] [--rounds 5] [--size 1280x853]

Decodes generated JPEGs to the view that the ensemble's towers share. Prints one JSON object.
Processor time is steadier than the rate where the machine has other things to do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.stage import AHEAD_PER_WORKER, Decoders, decode_with
from clipmod_cli.decode.workers.pool import WorkerPool
from clipmod_cli.pipeline import default_workers
from clipmod_cli.types import Geometry, Item

WARM = (AHEAD_PER_WORKER + 1) * default_workers()
"""Pictures before and after those that are measured: more than the window holds."""

GEOMETRY = Geometry(fit="shortest", size=(224, 224), crop=(224, 224))


@dataclass(frozen=True)
class Cost:
    """What one round gave.

    Attributes:
        rate: pictures a second.
        cpu_ms: processor time for one picture, of this process and its workers together.
    """

    rate: float
    cpu_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", default="1280x853")
    wanted = parser.parse_args()
    width, height = map(int, wanted.size.split("x"))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = _draw(Path(folder), width, height)
        rounds = [
            (_measure(path, wanted.pictures, isolated=False), _measure(path, wanted.pictures, isolated=True))
            for _ in range(wanted.rounds)
        ]
    threads, processes = ([one[side] for one in rounds] for side in (0, 1))
    print(
        json.dumps(
            {
                "threads": _medians(threads),
                "processes": _medians(processes),
                "rate_ratio": round(statistics.median(p.rate / t.rate for t, p in rounds), 3),
                "cpu_ratio": round(statistics.median(t.cpu_ms / p.cpu_ms for t, p in rounds), 3),
                "workers": default_workers(),
                "cores": os.cpu_count(),
                "size": wanted.size,
            }
        )
    )


def _medians(costs: list[Cost]) -> dict[str, float]:
    return {
        "pictures_per_second": round(statistics.median(cost.rate for cost in costs), 1),
        "cpu_ms_per_picture": round(statistics.median(cost.cpu_ms for cost in costs), 2),
    }


def _draw(folder: Path, width: int, height: int) -> Path:
    """Write a JPEG with the detail of a photograph, and return its path."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    path = folder / "picture.jpg"
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=85)
    return path


def _measure(path: Path, count: int, *, isolated: bool) -> Cost:
    """Return what pictures cost, once the workers are warm."""
    items = [Item(source=str(path), index=index) for index in range(count + 2 * WARM)]
    with Decoders(default_workers(), pool=WorkerPool() if isolated else None) as decoders:
        frames = decode_with(decoders, items, [GEOMETRY], DecodeOptions())
        for _ in range(WARM):
            next(frames)
        begun, used = time.perf_counter(), _processor_s()
        for _ in range(count):
            next(frames)
        # before the workers end, with which their time would be lost
        return Cost(rate=count / (time.perf_counter() - begun), cpu_ms=(_processor_s() - used) / count * 1000)


def _processor_s() -> float:
    """Return the processor time of this process and all below it, in seconds."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(one.user + one.system for one in times)


if __name__ == "__main__":
    main()
