"""`clipmod serve` under load beside `clipmod scan` on the same pictures and model.

    python -m benchmarks.serve --models SPEC [--clients 64] [--requests 512] [--pictures 32] [--policy FILE]

Sends single pictures from many clients at once, with keep-alive, then scans as many copies of the same
pictures. Prints one JSON object: pictures a second of both, their ratio, latencies, pictures in a
forward pass, refusals, and the service's memory after a tenth of the requests and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np
import psutil
from PIL import Image

START_S = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", required=True)
    parser.add_argument("--policy", default="nsfw")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--max-requests", type=int, default=64)
    parser.add_argument("--without-scan", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = _draw(Path(folder), wanted.pictures)
        with _service(wanted.models, wanted.policy, wanted.max_requests, Path(folder)) as (url, process):
            found = asyncio.run(_load(url, pictures, wanted.clients, wanted.requests, process))
            batches = httpx2.get(f"{url}/metrics").text
        found["pictures_in_a_forward_pass"] = _mean_batch(batches)
        if not wanted.without_scan:
            found["scan_per_s"] = _scan(wanted.models, wanted.policy, Path(folder), wanted.requests)
            found["serve_to_scan"] = round(found["per_s"] / found["scan_per_s"], 3)
    print(json.dumps(found))


def _draw(folder: Path, count: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    drawn = []
    for index in range(count):
        small = rng.integers(0, 255, (47, 63, 3), dtype=np.uint8)
        path = folder / f"{index}.jpg"
        Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=85)
        drawn.append(path.read_bytes())
    return drawn


@contextmanager
def _service(models: str, policy: str, most: int, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    command = [
        sys.executable, "-m", "clipmod_cli", "serve", "--models", models, "--policy", policy, "--port", "0",
        "--no-db", "--no-hosting", "--no-predictions", "--no-access-log", "--offline", "--deadline", "600",
        "--max-requests", str(most), "--data-dir", str(folder / "kept"),
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            until = time.monotonic() + START_S
            for line in process.stderr or ():
                if found := re.search(r"http://\S+", line):
                    yield found[0].rstrip(")"), psutil.Process(process.pid)
                    break
                if time.monotonic() > until:
                    raise TimeoutError(line)
        finally:
            process.terminate()
            process.wait(60)


async def _load(
    url: str, pictures: list[bytes], clients: int, requests: int, process: psutil.Process
) -> dict[str, object]:
    statuses: Counter[int] = Counter()
    served: list[float] = []
    refused: list[float] = []
    memory: list[int] = []
    numbers = iter(range(requests))

    async def client(one: httpx2.AsyncClient) -> None:
        for number in numbers:
            begun = time.perf_counter()
            answer = await one.post(
                "/predict/single", files={"file": (f"{number}.jpg", pictures[number % len(pictures)])}
            )
            spent = time.perf_counter() - begun
            statuses[answer.status_code] += 1
            (served if answer.status_code == 200 else refused).append(spent)
            if number in {requests // 10, requests - 1}:
                memory.append(process.memory_info().rss)

    limits = httpx2.Limits(max_connections=clients)
    async with httpx2.AsyncClient(base_url=url, timeout=600, limits=limits) as one:
        for data in pictures[:2]:  # the first start decoders
            await one.post("/predict/single", files={"file": ("a.jpg", data)})
        begun = time.perf_counter()
        await asyncio.gather(*(client(one) for _ in range(clients)))
        spent = time.perf_counter() - begun
    return {
        "per_s": round(len(served) / spent, 2),
        "statuses": dict(statuses),
        "latency_s": {name: _share(served, at) for name, at in (("p50", 50), ("p95", 95), ("p99", 99))},
        "refused_in_s_p99": _share(refused, 99) if refused else None,
        "service_mb": [round(one / 1e6) for one in memory],
    }


def _share(values: list[float], percent: int) -> float:
    return round(statistics.quantiles(values, n=100)[percent - 1] if len(values) > 1 else values[0], 4)


def _mean_batch(metrics: str) -> float:
    numbers = {name: float(value) for name, value in re.findall(r"^(\S+) ([\d.e+]+)$", metrics, re.MULTILINE)}
    return round(numbers["clipmod_batch_frames_sum"] / numbers["clipmod_batch_frames_count"], 2)


def _scan(models: str, policy: str, folder: Path, count: int) -> float:
    """Return pictures a second of the command, its start taken off by a run over one of them."""
    names = [str(path) for path in sorted(folder.glob("*.jpg"))]
    spent = []
    for listed in (names[:1], [names[number % len(names)] for number in range(count)]):
        begun = time.perf_counter()
        subprocess.run(
            [
                sys.executable, "-m", "clipmod_cli", "scan", "-", "--models", models, "--policy", policy,
                "--no-db", "--offline", "-q", "--json",
            ],
            input="\n".join(listed),
            text=True,
            stdout=subprocess.DEVNULL,
            check=True,
        )  # fmt: skip
        spent.append(time.perf_counter() - begun)
    return round((count - 1) / (spent[1] - spent[0]), 2)


if __name__ == "__main__":
    main()
