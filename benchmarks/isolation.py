"""What decoding in worker processes costs: pictures a second with and without, in turn, medians of several.

    python -m benchmarks.isolation [--pictures 300] [--rounds 5] [--size 1280x853]

Decodes generated JPEGs to the view that the ensemble's towers share. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.pool import decode
from clipmod_cli.decode.workers import Crew
from clipmod_cli.pipeline import default_workers
from clipmod_cli.types import Item, View

VIEW = View(fit="shortest", size=(224, 224), crop=(224, 224))


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
        rates: dict[str, list[float]] = {"threads": [], "processes": []}
        for _ in range(wanted.rounds):
            for name, measured in rates.items():
                measured.append(_rate(path, wanted.pictures, isolated=name == "processes"))
    medians = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    ratio = statistics.median(p / t for p, t in zip(rates["processes"], rates["threads"], strict=True))
    print(
        json.dumps(
            {
                "pictures_per_second": medians,
                "processes_to_threads": round(ratio, 3),
                "workers": default_workers(),
                "cores": os.cpu_count(),
                "size": wanted.size,
            }
        )
    )


def _draw(folder: Path, width: int, height: int) -> Path:
    """Write a JPEG with the detail of a photograph, and return its path."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    path = folder / "picture.jpg"
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=85)
    return path


def _rate(path: Path, count: int, *, isolated: bool) -> float:
    """Return pictures a second, once the workers are warm."""
    items = [Item(source=str(path), index=index) for index in range(count + 20)]
    frames = decode(items, [VIEW], DecodeOptions(), default_workers(), crew=Crew() if isolated else None)
    for _ in range(20):
        next(frames)
    begun = time.perf_counter()
    scored = sum(1 for _ in frames)
    return scored / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
