"""`clipmod serve` under load beside `clipmod scan` on the same pictures, models and machine.

    python -m benchmarks.serve [--models open_nsfw,nudenet] [--policy nsfw] [--clients 64,256]
        [--pictures 1000] [--rounds 5] [--bare] [--overload-s 20]

In each round, in turn: `scan` judges all pictures; then as many clients as said send them to
`/predict/single`, one picture a request, with keep-alive. A refused client waits as `Retry-After` says and
asks again. The service and the command run as they do by default, with their store, hosted pictures,
prediction files and access log; `--bare` turns those off. With `--overload-s` requests then come at ten times
the rate that was reached, whether or not there are answers.

Prints one JSON object, medians of the rounds: pictures a second (the start of `scan` taken off by a run over
one picture), the ratios, CPU milliseconds a picture of the service with its decoders, of the clients and of
`scan`, the seconds until a picture was answered (waits and connecting counted), refusals, pictures in a
forward pass, and the service's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil

from benchmarks.load_client import Heard, closed, form_request, open_loop
from clipmod_cli.bench.pictures import draw_pictures, write_pictures

START_S = 300.0
BARE_SERVE = ("--no-db", "--no-hosting", "--no-predictions", "--no-access-log")


@dataclass
class Measured:
    """What the rounds of one way came to: numbers by name, one a round."""

    numbers: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **numbers: float) -> None:
        """Add a round."""
        for name, number in numbers.items():
            self.numbers.setdefault(name, []).append(number)

    def medians(self) -> dict[str, float]:
        """Return the median of each number."""
        return {name: round(statistics.median(values), 4) for name, values in self.numbers.items()}


@dataclass
class Bench:
    """One comparison: the pictures, and how both are started."""

    folder: Path
    models: str
    policy: str
    bare: bool
    max_requests: int

    @property
    def pictures(self) -> list[Path]:
        """All pictures."""
        return sorted((self.folder / "pictures").iterdir())

    @property
    def environment(self) -> dict[str, str]:
        """An environment in which stores and caches are in the folder."""
        homes = {f"XDG_{name}_HOME": str(self.folder / name.lower()) for name in ("DATA", "CACHE")}
        return {**os.environ, **homes}

    def scan(self, paths: Sequence[Path]) -> tuple[float, float]:
        """Return the seconds and the CPU seconds of the command over these pictures."""
        command = [
            sys.executable, "-m", "clipmod_cli", "scan", "-", "--models", self.models,
            "--policy", self.policy, "--no-cache", "--offline", "-q", "--json",
            *(["--no-db"] if self.bare else []),
        ]  # fmt: skip
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            command,
            input="\n".join(map(str, paths)),
            text=True,
            stdout=subprocess.DEVNULL,
            env=self.environment,
            check=True,
        )
        spent, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        return spent, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    @contextmanager
    def service(self) -> Iterator[tuple[str, psutil.Process]]:
        """Give the URL of a service that runs for the block, and its process."""
        command = [
            sys.executable, "-m", "clipmod_cli", "serve", "--models", self.models, "--policy", self.policy,
            "--port", "0", "--offline", "--deadline", "600", "--max-requests", str(self.max_requests),
            *(BARE_SERVE if self.bare else []),
        ]  # fmt: skip
        told = self.folder / "serve.log"
        with told.open("wb") as log, subprocess.Popen(command, stderr=log, env=self.environment) as process:
            try:
                yield _url_in(told, process), psutil.Process(process.pid)
            finally:
                process.terminate()
                process.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="open_nsfw,nudenet")
    parser.add_argument("--policy", default="nsfw")
    parser.add_argument("--clients", default="64,256")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-requests", type=int, default=64)
    parser.add_argument("--bare", action="store_true")
    parser.add_argument("--overload-s", type=float, default=0)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pictures").mkdir()
        drawn = draw_pictures((wanted.side, wanted.side * 3 // 4))
        write_pictures(Path(folder, "pictures"), drawn, wanted.pictures)
        bench = Bench(Path(folder), wanted.models, wanted.policy, wanted.bare, wanted.max_requests)
        print(json.dumps(_compare(bench, wanted)))


def _compare(bench: Bench, wanted: argparse.Namespace) -> dict[str, object]:
    counts = [int(one) for one in wanted.clients.split(",")]
    ways: list[int | None] = [None, *counts]
    measured = {way: Measured() for way in ways}
    with bench.service() as (url, process):
        requests = [
            form_request(url, "/predict/single", path.name, path.read_bytes()) for path in bench.pictures
        ]
        asyncio.run(closed(url, requests[:8], clients=4, count=8))
        for number in range(wanted.rounds):
            for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
                if way is None:
                    measured[way].add(**_scanned(bench))
                else:
                    measured[way].add(**_served(url, requests, way, process))
        found = {"scan": measured[None].medians()}
        found |= {f"{count}_clients": measured[count].medians() for count in counts}
        found["ratios"] = _ratios(measured, counts)
        told: dict[str, object] = {**found, "pictures_in_a_forward_pass": _mean_batch(url)}
        if wanted.overload_s:
            rate = found[f"{counts[0]}_clients"]["per_s"]
            heard, _ = asyncio.run(open_loop(url, requests, per_s=10 * rate, seconds=wanted.overload_s))
            told["at_ten_times_this_rate"] = _told(heard)
    return told


def _ratios(measured: dict[int | None, Measured], counts: Sequence[int]) -> dict[str, float]:
    """Return the medians of the ratios within each round."""
    ways: list[int | None] = [None, *counts]
    found = {}
    for before, way in itertools.pairwise(ways):
        pairs = zip(measured[way].numbers["per_s"], measured[before].numbers["per_s"], strict=True)
        name = f"{way}_to_{before or 'scan'}"
        found[name] = round(statistics.median(one / other for one, other in pairs), 3)
    return found


def _scanned(bench: Bench) -> dict[str, float]:
    paths = bench.pictures
    first, all_of = bench.scan(paths[:1]), bench.scan(paths)
    count = len(paths) - 1
    return {"per_s": count / (all_of[0] - first[0]), "cpu_ms": (all_of[1] - first[1]) / count * 1000}


def _served(url: str, requests: list[bytes], clients: int, process: psutil.Process) -> dict[str, float]:
    own, theirs = _own_cpu(), _cpu_of(process)
    heard, spent = asyncio.run(closed(url, requests, clients=clients, count=len(requests), retry=True))
    count = len(heard.seconds.get(200, ()))
    if count != len(requests):
        raise SystemExit(f"{len(requests) - count} pictures were not answered: {_told(heard)}")
    cuts = statistics.quantiles(heard.until_answered, n=100)
    return {
        "per_s": count / spent,
        "service_cpu_ms": (_cpu_of(process) - theirs) / count * 1000,
        "clients_cpu_ms": (_own_cpu() - own) / count * 1000,
        **{f"p{at}_s": cuts[at - 1] for at in (50, 95, 99)},
        "refused": sum(len(one) for status, one in heard.seconds.items() if status in {429, 503}),
        "service_mb": process.memory_info().rss / 1e6,
    }


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _cpu_of(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and of those that it started and that still run."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def _url_in(told: Path, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + START_S
    while not (found := re.search(r"listening at (http://[^\s]+)", told.read_text(errors="replace"))):
        if process.poll() is not None or time.monotonic() > until:
            raise SystemExit(told.read_text(errors="replace"))
        time.sleep(0.05)
    return found[1]


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


def _mean_batch(url: str) -> float:
    metrics = httpx2.get(f"{url}/metrics").text
    numbers = {name: float(value) for name, value in re.findall(r"^(\S+) ([\d.e+]+)$", metrics, re.MULTILINE)}
    return round(numbers["clipmod_batch_frames_sum"] / numbers["clipmod_batch_frames_count"], 2)


if __name__ == "__main__":
    main()
