"""What Ray adds to a scan: CPU seconds a picture and start-up, beside plain `clipmod scan`.

    python -m benchmarks.parts_on_ray [--pictures 1000] [--rounds 5] [--models open_nsfw]

Each round runs both commands, in turn first, on half of the pictures and on all: the difference is the
cost of a picture, and what is left is that of a start (for Ray: with its own processes, on a cluster that the
command starts and ends). Prints medians of the rounds as one JSON object. Needs Linux and the extra ray.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.watching import Seen, watch
from clipmod_cli.bench.pictures import draw_pictures, write_pictures

SIZE = (640, 480)
PARTS = 10
"""Of all pictures; half of them are as many parts of half the size."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1000, help="at most 1000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", default="open_nsfw")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        half, every = Path(folder, "half"), Path(folder, "every")
        drawn = draw_pictures(SIZE)
        for path, count in ((half, wanted.pictures // 2), (every, wanted.pictures)):
            path.mkdir()
            write_pictures(path, drawn, count)
        rounds = []
        for number in range(wanted.rounds):
            engines = ("plain", "ray") if number % 2 else ("ray", "plain")
            out = Path(folder, f"out-{number}")
            costs = {engine: _cost(engine, half, every, out, wanted.models) for engine in engines}
            ratio = costs["ray"]["cpu_ms_a_picture"] / costs["plain"]["cpu_ms_a_picture"]
            rounds.append({"plain": costs["plain"], "ray": costs["ray"], "ratio": {"cpu": round(ratio, 3)}})
            print(json.dumps(rounds[-1]), file=sys.stderr)
    medians = {
        engine: {name: statistics.median(one[engine][name] for one in rounds) for name in rounds[0][engine]}
        for engine in rounds[0]
    }
    print(json.dumps({"rounds": len(rounds), "pictures": wanted.pictures, "median": medians}))


def _cost(engine: str, half: Path, every: Path, out: Path, models: str) -> dict[str, float]:
    """Return what a picture and a start cost."""
    few, many = len(list(half.iterdir())), len(list(every.iterdir()))
    first, second = (_run(engine, path, out / f"{engine}-{path.name}", models) for path in (half, every))
    cpu, wall = (
        (b - a) / (many - few) for a, b in ((first.cpu_s, second.cpu_s), (first.seconds, second.seconds))
    )
    return {
        "cpu_ms_a_picture": round(cpu * 1000, 3),
        "start_cpu_s": round(first.cpu_s - cpu * few, 2),
        "start_s": round(first.seconds - wall * few, 2),
        "peak_mb": round(second.peak_mb),
    }


def _run(engine: str, pictures: Path, out: Path, models: str) -> Seen:
    words = [
        sys.executable,
        "-m",
        "clipmod_cli",
        "scan",
        str(pictures),
        "--models",
        models,
        "--no-cache",
        "--no-db",
    ]
    if engine == "ray":
        size = max(len(list(pictures.iterdir())) // PARTS, 1)
        words += ["-o", f"{out}/", "--part-size", str(size), "--engine", "ray"]
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        words += ["-o", f"{out}.jsonl"]
    seen = watch(words, os.environ)
    if seen.code:
        raise SystemExit(f"{' '.join(words)} ended with {seen.code}:\n{seen.stderr}")
    return seen


if __name__ == "__main__":
    main()
