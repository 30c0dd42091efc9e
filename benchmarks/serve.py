"""`clipmod serve` under load beside `clipmod scan` on the same pictures and model.

    python -m benchmarks.serve --models SPEC [--clients 64] [--requests 512] [--pictures N] [--policy FILE]
        [--overload-s 20] [--without-scan]

Sends single pictures from many clients at once, with keep-alive; with `--overload-s` then at ten times the
rate that was reached, whether or not there were answers; then scans the same pictures. There are as many as
requests unless `--pictures` says otherwise, since `scan` shows equal pictures to its models once. Prints one
JSON object: pictures a second of both, their ratio, latencies by status (connecting counted), pictures in a
forward pass, and the service's memory after a tenth of the requests and at the end.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx2
import numpy as np
import psutil
from PIL import Image

from benchmarks.load_client import Heard, closed, form_request, open_loop

START_S = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", required=True)
    parser.add_argument("--policy", default="nsfw")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--max-requests", type=int, default=64)
    parser.add_argument("--overload-s", type=float, default=0)
    parser.add_argument("--without-scan", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = _draw(Path(folder), wanted.pictures or wanted.requests)
        with _service(wanted.models, wanted.policy, wanted.max_requests, Path(folder)) as (url, process):
            requests = [
                form_request(url, "/predict/single", f"{number}.jpg", data)
                for number, data in enumerate(pictures)
            ]
            found = asyncio.run(_load(url, requests, wanted, process))
            batches = httpx2.get(f"{url}/metrics").text
        found["pictures_in_a_forward_pass"] = _mean_batch(batches)
        if not wanted.without_scan:
            scanned = _scan(wanted.models, wanted.policy, Path(folder), wanted.requests)
            found["scan_per_s"] = scanned
            found["serve_to_scan"] = round(cast("float", found["per_s"]) / scanned, 3)
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
        "--max-requests", str(most), "--data-dir", str(folder / "kept"), "--drain-s", "0",
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
    url: str, requests: list[bytes], wanted: argparse.Namespace, process: psutil.Process
) -> dict[str, object]:
    memory: list[int] = []

    def remember(number: int) -> None:
        if number in {wanted.requests // 10, wanted.requests - 1}:
            memory.append(process.memory_info().rss)

    await closed(url, requests[:2], clients=1, count=2)  # the first start decoders
    heard, spent = await closed(url, requests, clients=wanted.clients, count=wanted.requests, tell=remember)
    rate = len(heard.seconds.get(200, ())) / spent
    found: dict[str, object] = {"per_s": round(rate, 2), **_told(heard)}
    found["service_mb"] = [round(one / 1e6) for one in memory]
    if wanted.overload_s:
        heard, _ = await open_loop(url, requests, per_s=10 * rate, seconds=wanted.overload_s)
        found["at_ten_times_this_rate"] = _told(heard)
    return found


def _told(heard: Heard) -> dict[str, object]:
    return {
        "statuses": {status: len(spent) for status, spent in sorted(heard.seconds.items())},
        "unanswered": heard.broken,
        "refused_without_retry_after": heard.without_retry_after,
        "seconds": {status: _shares(spent) for status, spent in sorted(heard.seconds.items())},
    }


def _shares(values: list[float]) -> dict[str, float]:
    if len(values) < 2:
        return {"p50": round(values[0], 4)}
    cuts = statistics.quantiles(values, n=100)
    return {f"p{at}": round(cuts[at - 1], 4) for at in (50, 95, 99)}


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
