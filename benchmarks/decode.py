"""From a JPEG's bytes to the 224-pixel crop: what each way costs, in turn, on one thread.

    python -m benchmarks.decode [--rounds 7] [--noise 4] [--skip-workers]

The pictures are a photograph of `sample_images` scaled to each size, with a sensor's noise on it so that
a file has as many bits for a pixel as photographs have (`bits_per_pixel` in the answer: the fewer they
are, the more scaled decoding saves). 4:2:0, quality 90. Processor time, medians, and ratios of
medians from rounds in which all ways take turns. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.stage import AHEAD_PER_WORKER, Decoders, decode_with
from clipmod_cli.decode.workers.pool import WorkerPool
from clipmod_cli.types import Frame, Geometry, Item

GEOMETRY = Geometry(fit="shortest", size=(224, 224), crop=(224, 224))
PHOTOGRAPH = Path(__file__).parent.parent / "sample_images" / "coffee.webp"
SIZES = ((500, 375), (1280, 853), (4000, 3000))
MIN_S = 0.15
"""Processor time of one measurement at least: some clocks tick in hundredths of a second."""

WORKERS = 2
PICTURES = 300
WARM = (AHEAD_PER_WORKER + 1) * WORKERS

_TRANSFORM = image_transform_v2(PreprocessCfg(size=224), is_train=False)

Way = Callable[[bytes], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--noise", type=float, default=4.0, help="standard deviation, in grey levels")
    parser.add_argument("--skip-workers", action="store_true")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = {"cores": os.cpu_count(), "rounds": wanted.rounds, "noise": wanted.noise}
    for width, height in SIZES:
        data = _photograph(width, height, wanted.noise)
        found = _compare(data, wanted.rounds)
        found |= {"bits_per_pixel": round(len(data) * 8 / width / height, 2), "bytes": len(data)}
        if not wanted.skip_workers:
            found["workers"] = _through_workers(
                data, PICTURES if width < 2000 else PICTURES // 10, wanted.rounds
            )
        report[f"{width}x{height}"] = found
    print(json.dumps(report))


def _photograph(width: int, height: int, noise: float) -> bytes:
    rng = np.random.default_rng(0)
    with Image.open(PHOTOGRAPH) as picture:
        scaled = np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS))
    grain = rng.normal(0, noise, (height, width, 1))
    noisy = np.clip(scaled + grain, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=90, subsampling=2)
    return buffer.getvalue()


def _crop_by_open_clip(data: bytes) -> Any:
    picture = Image.open(io.BytesIO(data))
    for step in _TRANSFORM.transforms[:-2]:  # without the tensor and its normalisation
        picture = step(picture)
    return np.asarray(picture)


def _transform_by_open_clip(data: bytes) -> Any:
    return _TRANSFORM(Image.open(io.BytesIO(data)))


def _ours(data: bytes, *, exact: bool) -> Any:
    (frame,) = decode_item(Item(source="", index=0, data=data), [GEOMETRY], DecodeOptions(exact=exact))
    if not isinstance(frame, Frame):
        raise AssertionError(frame)  # noqa: TRY004 — not of a wrong type: a failed benchmark
    return frame.inputs[GEOMETRY]


WAYS: dict[str, Way] = {
    "open_clip crop": _crop_by_open_clip,
    "open_clip transform": _transform_by_open_clip,
    "exact": lambda data: _ours(data, exact=True),
    "fast": lambda data: _ours(data, exact=False),
    "sha256": lambda data: hashlib.sha256(data).digest(),
}
"""Ours end with the crop, as "open_clip crop" does; its transform goes on to a normalised tensor, which
here the device makes. Ours read the file's hash too, for its record; open_clip does not. Hence its time
alone."""


def _compare(data: bytes, rounds: int) -> dict[str, Any]:
    """Return milliseconds of processor time by way, and how many times faster ours are."""
    repeats = {name: _repeats(way, data) for name, way in WAYS.items()}
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, way in WAYS.items():
            times[name].append(_time(way, data, repeats[name]))
    ms = {name: statistics.median(found) for name, found in times.items()}
    drift = np.abs(_ours(data, exact=False).astype(int) - _crop_by_open_clip(data))
    return {
        "cpu_ms": {name: round(value, 2) for name, value in ms.items()},
        "fast_to_open_clip_crop_without_hash": round(ms["open_clip crop"] / (ms["fast"] - ms["sha256"]), 2),
        "exact_to_open_clip_crop_without_hash": round(ms["open_clip crop"] / (ms["exact"] - ms["sha256"]), 2),
        "fast_to_open_clip_crop": round(ms["open_clip crop"] / ms["fast"], 2),
        "exact_to_open_clip_crop": round(ms["open_clip crop"] / ms["exact"], 2),
        "fast_to_open_clip_transform": round(ms["open_clip transform"] / ms["fast"], 2),
        "largest_difference": int(drift.max()),
        "mean_difference": round(float(drift.mean()), 3),
    }


def _repeats(way: Way, data: bytes) -> int:
    way(data)  # imports what it needs
    return max(1, round(MIN_S / max(_time(way, data, 2) / 1000, 1e-4)))


def _time(way: Way, data: bytes, repeats: int) -> float:
    """Return milliseconds of this thread's processor time for one picture."""
    begun = time.thread_time()
    for _ in range(repeats):
        way(data)
    return (time.thread_time() - begun) / repeats * 1000


def _through_workers(data: bytes, count: int, rounds: int) -> dict[str, float]:
    """Return pictures a second by the clock, decoded from a file by isolated workers and by threads."""
    rates: dict[str, list[float]] = {"isolated_per_second": [], "threads_per_second": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.jpg"
        path.write_bytes(data)
        for _ in range(min(rounds, 5)):
            rates["isolated_per_second"].append(_rate(path, count, WorkerPool()))
            rates["threads_per_second"].append(_rate(path, count, None))
    return {name: round(statistics.median(found), 1) for name, found in rates.items()}


def _rate(path: Path, count: int, pool: WorkerPool | None) -> float:
    items = [Item(source=str(path), index=index) for index in range(count + WARM)]
    with Decoders(WORKERS, pool=pool) as decoders:
        frames = decode_with(decoders, items, [GEOMETRY], DecodeOptions())
        for _ in range(WARM):
            next(frames)
        begun = time.perf_counter()
        for _ in frames:
            pass
        return count / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
