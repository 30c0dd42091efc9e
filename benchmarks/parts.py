"""What a run in parts costs beside judging: planning the objects of a bucket, and statistics over records.

    python -m benchmarks.parts [--inputs 1000000] [--parts 50]

A server on the loopback lists a bucket of so many pictures as S3 does, and the real command plans them. Then
each part gets as many records, drawn as in `benchmarks.records`, and the real command counts them by
`stats --from` and makes one Parquet file of them by `merge`. Prints one JSON object: seconds and processor
seconds of each command with all its threads, its peak of resident memory, and the sizes of what it wrote;
`hidden_mb` is what `merge` held at most beside its output until that was complete, itself included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from benchmarks.records import drawn_verdict
from clipmod_cli.parts.commit import DonePart, commit, part_name
from clipmod_cli.parts.part_file import PartLines, with_index
from clipmod_cli.parts.run_file import RunFile, change_run_file, require_run_file
from clipmod_cli.parts.store import PartStore, open_part_store, sha256_of
from clipmod_cli.records import RunFacts, to_line, to_record

BUCKET = "pictures"
PAGE = 1000
_PAGE_XML = (
    '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<IsTruncated>{more}</IsTruncated>{token}{objects}</ListBucketResult>"
)
_OBJECT_XML = (
    "<Contents><Key>in/2026/08/30/holiday-{number:08}.jpg</Key><Size>{size}</Size>"
    '<ETag>"{number:032x}"</ETag><LastModified>2026-08-30T18:00:00.000Z</LastModified></Contents>'
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=50)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/out/"
        plan = _plan(out, wanted.inputs, wanted.parts)
        store = open_part_store(out)
        plan["bytes_an_input"] = round(_size(store, out, "plan") / wanted.inputs, 2)
        _judge(store, wanted.inputs)
        stats = _command("stats", "--from", out, "--json")
        stats["bytes_a_record"] = round(_size(store, out, "parts") / wanted.inputs, 1)
        merge = _merge(out, Path(folder, "all.parquet"))
        facts = {"inputs": wanted.inputs, "parts": wanted.parts, "cores": os.cpu_count()}
        print(json.dumps({**facts, "plan": plan, "stats": stats, "merge": merge}))


def _command(*words: str, **environment: str) -> dict[str, float]:
    """Run a command; return what it took."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = (sys.executable, "-c", _TELL_PEAK, *words)
    run = subprocess.run(
        words, check=True, env={**os.environ, **environment}, stdout=-3, stderr=-1, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(time.perf_counter() - begun, 2),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "peak_mb": round(int(run.stderr.split()[-1]) / 1000, 1),
    }


_TELL_PEAK = """
import atexit, pathlib, sys
def tell():  # getrusage has the peak of the benchmark, as it was when it started the command
    status = pathlib.Path("/proc/self/status").read_text()
    print(status.partition("VmHWM:")[2].split()[0], file=sys.__stderr__, flush=True)
atexit.register(tell)
from clipmod_cli.__main__ import run
run()
"""
"""The command, which prints its peak of memory in kB at its end."""


def _plan(out: str, inputs: int, parts: int) -> dict[str, float]:
    """Plan the objects of a bucket by `clipmod scan --plan-only`."""
    port = multiprocessing.Value("i", 0)
    server = multiprocessing.Process(target=_serve, args=(inputs, port), daemon=True)
    server.start()
    while not port.value:
        time.sleep(0.05)
    try:
        return _command(
            "scan", f"s3://{BUCKET}/in/", "-o", out, "--plan-only", "--part-size", str(-(-inputs // parts)),
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{port.value}", AWS_EC2_METADATA_DISABLED="true",
            AWS_DEFAULT_REGION="us-east-1",
        )  # fmt: skip
    finally:
        server.terminate()
        server.join()


def _merge(out: str, target: Path) -> dict[str, float]:
    """Merge the parts into a Parquet file; also return how much space hidden files took meanwhile."""
    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.05):
            with contextlib.suppress(OSError):  # a file that is gone
                hidden = [path for path in target.parent.rglob(".*") if out not in f"{path}/"]
                files = {one for path in hidden for one in (path, *path.glob("*")) if one.is_file()}
                most = max(most, sum(one.stat().st_size for one in files))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        merged = _command("merge", out, "-o", str(target))
    finally:
        done.set()
        watcher.join()
    size = target.stat().st_size
    return {**merged, "mb": round(size / 1e6, 1), "hidden_mb": round(most / 1e6, 1)}


def _serve(inputs: int, port: multiprocessing.sharedctypes.Synchronized[int]) -> None:
    class Listing(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            first = int(query.get("continuation-token", ["0"])[0])
            end = min(first + PAGE, inputs)
            objects = "".join(_OBJECT_XML.format(number=n, size=250_000 + n) for n in range(first, end))
            more = end < inputs
            token = f"<NextContinuationToken>{end}</NextContinuationToken>" if more else ""
            body = _PAGE_XML.format(more=str(more).lower(), token=token, objects=objects).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listing)
    port.value = server.server_port
    server.serve_forever()


def _judge(store: PartStore, inputs: int) -> None:
    """Commit all parts, with drawn records in the place of judged ones."""
    run = require_run_file(store)
    facts = RunFacts(
        policy="female-presence", policy_hash="0" * 64, threshold=0.5, run_key="0" * 16, run_id="1" * 32
    )
    run = change_run_file(store, lambda one: one.model_copy(update={"facts": {"run_key": facts.run_key}}))
    lines = list(_lines(min(run.part_size, inputs), facts))
    for part in range(run.parts):
        _commit(store, run, part, lines[: inputs - part * run.part_size], facts)


def _commit(store: PartStore, run: RunFile, part: int, lines: list[bytes], facts: RunFacts) -> None:
    first = part * run.part_size
    with PartLines() as kept:
        for number, line in enumerate(lines, first):
            kept.add(number, with_index(line, number))
        path = kept.write(run.format)
        done = DonePart(
            part=part, file=part_name(part, "0" * 16, run.format), first_index=first, inputs=len(lines),
            records=len(lines), sha256=sha256_of(path), counts={}, codes={}, run_key=facts.run_key,
            run_id=facts.run_id, host="benchmark", device="cpu", ended_at=datetime.now(UTC),
            seconds=1.0,
        )  # fmt: skip
        if not commit(store, done, path):
            raise AssertionError(part)


def _lines(count: int, facts: RunFacts) -> Iterator[bytes]:
    """Yield the lines of distinct records."""
    from clipmod_cli.types import Item

    for number in range(count):
        verdict = drawn_verdict(number)
        item = Item(source=f"s3://{BUCKET}/in/2026/08/30/holiday-{number:08}.jpg", index=number)
        yield to_line(to_record(replace(verdict, item=item), facts))


def _size(store: PartStore, out: str, folder: str) -> int:
    return sum(Path(out, name).stat().st_size for name in store.list(folder))


if __name__ == "__main__":
    main()
