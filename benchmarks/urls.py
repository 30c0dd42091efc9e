"""`clipmod urls` on a list of thousands of URLs: with faults, and without against img2dataset.

    python -m benchmarks.urls [--urls 5000] [--rounds 3] [--without-faults] [--img2dataset COMMAND]

A server on loopback, in a process of its own, gives JPEGs of 500 x 375 from 16 ports, each a host of
its own. First one URL in a hundred has each kind of fault, and every record is checked. Then the same
number without faults is asked for by

- `clipmod`: the command, with the smallest model there is;
- `null`: the library with a model that looks at nothing; decoding in worker processes;
- `downloads`: the library's downloads alone;
- `img2dataset`: fetching, resizing and encoding to 256 pixels, if its command is named.

What each needs for a list of one URL is taken off, so starting does not count. Medians of the rounds, in
which they take turns. Prints one JSON object, and each measurement to stderr; ends with 1 if a record is
wrong. Linux only.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.watching import Seen, watch
from tests.urls.faults import KINDS, Asked, find_wrong, lay
from tests.urls.server import serving

HOSTS = 16
"""At 4 downloads from one host they take the 64 connections that are the default."""

TINY = Path(__file__).parent.parent / "tests" / "tiny"
MODEL = (
    "--models",
    f"open_clip:local-dir:{TINY / 'models' / 'tiny-l'}",
    "--policy",
    str(TINY / "shapes.toml"),
)
OPTIONS = (*MODEL, "--allow-private", "--no-db", "--progress", "none")
THREADS = 64
"""Of img2dataset in all, as many as connections here."""


@dataclass(frozen=True)
class Serving:
    """A server's URLs, and how much CPU time it has used so far."""

    asked: Sequence[Asked]
    cpu_s: Callable[[], float]


def _serve(pipe: Connection, count: int, each: int) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(serving()) for _ in range(HOSTS)]
        pipe.send(lay(servers, count, each))
        while pipe.recv() == "time":
            pipe.send(time.process_time())


@contextmanager
def served(count: int, each: int) -> Iterator[Serving]:
    """Give a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, count, each), daemon=True)
    process.start()

    def cpu_s() -> float:
        ours.send("time")
        return float(ours.recv())

    yield Serving(ours.recv(), cpu_s)
    ours.send("end")
    process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--urls", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-faults", action="store_true", help="the comparison alone")
    parser.add_argument("--img2dataset", metavar="COMMAND", help="the program to compare with")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(Path(folder), wanted.urls)
        faults = {} if wanted.without_faults else bench.measure_faults()
        rates = bench.compare(wanted.rounds, wanted.img2dataset) if wanted.rounds else {}
    print(
        json.dumps({"cores": os.cpu_count(), "urls": wanted.urls, "faults": faults, "without_faults": rates})
    )
    sys.exit(1 if faults.get("wrong") else 0)


class _Bench:
    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._count = count
        # A home of its own: nothing of this machine's settings counts.
        homes = {name: str(folder / name) for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CLIPMOD_")}
        self._environment = {**kept, **homes, "NO_ALBUMENTATIONS_UPDATE": "1"}

    def measure_faults(self) -> dict[str, Any]:
        """Return what became of a list with faults; `examples` are of wrong records."""
        out = self._folder / "faults.jsonl"
        with served(self._count, self._count // 100) as server:
            listed = self._write([one.url for one in server.asked])
            seen = self._run("clipmod_cli", "urls", str(listed), "-o", str(out), *OPTIONS)
        with out.open(encoding="utf-8") as lines:
            records = [json.loads(line) for line in lines]
        wrong = list(find_wrong(server.asked, records))
        judged = sum(record["status"] == "ok" for record in records)
        facts = {
            "kinds": len(KINDS),
            "records": len(records),
            "judged": judged,
            "wrong": len(wrong),
            "examples": wrong[:10],
            "exit_code": seen.code,
            "seconds": round(seen.seconds, 1),
            "urls_per_s": round(len(records) / seen.seconds, 1),
            "pictures_per_s": round(judged / seen.seconds, 1),
            "cpu_s": round(seen.cpu_s, 1),
            "peak_mb": round(seen.peak_mb),
        }
        print("faults", facts, file=sys.stderr, flush=True)
        return facts

    def compare(self, rounds: int, other: str | None) -> dict[str, Any]:
        """Return rates and CPU time of each way, and of the server for it."""
        ways = dict(self._ways(other))
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        with served(self._count, 0) as server:
            urls = [one.url for one in server.asked]
            for _ in range(rounds):
                for name, way in ways.items():
                    measured[name].append(self._measure(way, urls, server.cpu_s))
                    print(name, measured[name][-1], file=sys.stderr, flush=True)
        return {
            name: {key: round(statistics.median(one[key] for one in runs), 2) for key in runs[0]}
            for name, runs in measured.items()
        }

    def _measure(
        self, way: Callable[[Path], Seen], urls: Sequence[str], server_s: Callable[[], float]
    ) -> dict[str, float]:
        start = _checked(way(self._write(urls[:1])))
        before = server_s()
        whole = _checked(way(self._write(urls)))
        served_s = server_s() - before
        thousands = (len(urls) - 1) / 1000
        return {
            "urls_per_s": 1000 * thousands / (whole.seconds - start.seconds),
            "cpu_s_per_1000": (whole.cpu_s - start.cpu_s) / thousands,
            "server_cpu_s_per_1000": served_s / thousands,
            "peak_mb": whole.peak_mb,
        }

    def _ways(self, other: str | None) -> Iterator[tuple[str, Callable[[Path], Seen]]]:
        out = str(self._folder / "out.jsonl")
        words = ("-o", out, "--overwrite", *OPTIONS)
        yield "clipmod", lambda listed: self._run("clipmod_cli", "urls", str(listed), *words)
        yield "null", lambda listed: self._run("benchmarks.url_client", "null", str(listed))
        yield "downloads", lambda listed: self._run("benchmarks.url_client", "downloads", str(listed))
        if other is not None:
            yield "img2dataset", lambda listed: self._run_other(other, listed)

    def _run(self, module: str, *words: str) -> Seen:
        return watch(self._command(module, *words), self._environment)

    def _run_other(self, program: str, listed: Path) -> Seen:
        folder = self._folder / "dataset"
        shutil.rmtree(folder, ignore_errors=True)
        settings: Mapping[str, object] = {
            "url_list": listed, "output_folder": folder, "output_format": "files", "image_size": 256,
            "processes_count": os.cpu_count(), "thread_count": THREADS // (os.cpu_count() or 1),
            "number_sample_per_shard": 500, "enable_wandb": False,
        }  # fmt: skip
        seen = watch([program, *(f"--{name}={value}" for name, value in settings.items())], self._environment)
        wanted, found = len(listed.read_text().splitlines()), sum(1 for _ in folder.rglob("*.jpg"))
        if wanted != found:
            raise SystemExit(f"img2dataset kept {found} of {wanted} pictures: {seen.stderr[-1000:]}")
        return seen

    def _write(self, urls: Sequence[str]) -> Path:
        path = self._folder / "list.txt"
        path.write_text("\n".join(urls), encoding="utf-8")
        return path

    @staticmethod
    def _command(module: str, *words: str) -> list[str]:
        return [sys.executable, "-m", module, *words]


def _checked(seen: Seen) -> Seen:
    if seen.code:
        raise SystemExit(f"exit code {seen.code}: {seen.stderr[-2000:]}")
    return seen


if __name__ == "__main__":
    main()
