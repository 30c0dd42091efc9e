"""What `clipmod scan` holds while it judges many pictures: flat, or not.

    python -m benchmarks.memory --models SPEC [--pictures 20000] [--policy FILE] [--early-exit off]

Draws distinct pictures, scans them with a store, and prints one JSON object: resident megabytes of the
command and of all its processes together, by how many records were written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

TENTHS = 10
WAIT_S = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", required=True)
    parser.add_argument("--policy", default="nsfw")
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--early-exit", default="off")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder, "pictures")
        _draw(pictures, wanted.pictures)
        print(json.dumps(_scan(pictures, Path(folder), wanted)))


def _draw(folder: Path, count: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        small = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(small).resize((320, 240)).save(folder / f"{number:06}.jpg", quality=80)


def _scan(pictures: Path, folder: Path, wanted: argparse.Namespace) -> dict[str, object]:
    records = folder / "records.jsonl"
    command = [
        sys.executable, "-m", "clipmod_cli", "scan", str(pictures), "--models", wanted.models, "--policy",
        wanted.policy, "--db", str(folder / "store.duckdb"), "--offline", "-q", "-o", str(records),
        "--early-exit", wanted.early_exit,
    ]  # fmt: skip
    seen: dict[int, tuple[int, int]] = {}
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            tenth = _lines(records) * TENTHS // wanted.pictures
            if tenth and tenth not in seen:
                seen[tenth] = _megabytes(watched)
            time.sleep(WAIT_S)
    spent = time.perf_counter() - begun
    return {
        "exit_code": process.returncode,
        "per_s": round(wanted.pictures / spent, 1),
        "records": _lines(records),
        "mb_by_share": {f"{tenth / TENTHS:.0%}": {"command": own, "all": everyone}
                        for tenth, (own, everyone) in sorted(seen.items())},
    }  # fmt: skip


def _megabytes(process: psutil.Process) -> tuple[int, int]:
    """Return the resident megabytes of the command, and of it and its children (shared pages count twice)."""
    sizes = [process.memory_info().rss]
    for child in process.children(recursive=True):
        try:
            sizes.append(child.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
    return round(sizes[0] / 1e6), round(sum(sizes) / 1e6)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


if __name__ == "__main__":
    main()
