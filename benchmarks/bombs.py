"""Peak memory of `clipmod scan` over a folder of bombs: many inputs that ask for as much as they may.

    python -m benchmarks.bombs [--copies 3] [--side 7000] [--workers 2]

Writes each kind of `tests.bombs` that often, has the command judge them all with the smallest model
there is, and checks every record. Prints one JSON object; ends with 1 if a record is wrong. Memory of
all processes at once is their proportional set size, several times a second; the peak of each is what
the kernel says, and counts what they share in each of them. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.bombs import bombs, find_wrong, write

EVERY_S = 0.1
"""A decoder at work on 50 megapixels holds them for a second."""

TINY = Path(__file__).parent.parent / "tests" / "tiny"
MODEL = (
    "--models",
    f"open_clip:local-dir:{TINY / 'models' / 'tiny-l'}",
    "--policy",
    str(TINY / "shapes.toml"),
)


@dataclass
class Memory:
    """The memory of a process and all below it, in MB.

    Attributes:
        together_mb: the most that all of them had at once; what they share counts once.
        then_mb: what each had at that moment, the parent first.
        each_mb: the most that each had, by process.
    """

    together_mb: float = 0.0
    then_mb: list[int] = field(default_factory=list)
    each_mb: dict[int, float] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def watch(self, pid: int) -> None:
        """Look until it is over."""
        while not self.over.wait(EVERY_S):
            try:
                root = psutil.Process(pid)
                shares = [self._look(process) for process in (root, *root.children(recursive=True))]
                total = sum(shares)
            except psutil.Error:
                continue
            if total > self.together_mb:
                self.together_mb, self.then_mb = total, [round(mb) for mb in shares]

    def _look(self, process: psutil.Process) -> float:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii", errors="replace")
            most = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")
            self.each_mb[process.pid] = max(int(most) / 1024, self.each_mb.get(process.pid, 0.0))
            return float(process.memory_full_info().pss) / 2**20
        except (psutil.Error, OSError):
            return 0.0  # it has ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--side", type=int, default=7_000)
    parser.add_argument("--members", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--without-slow", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "bombs"
        place.mkdir()
        kinds = list(bombs(wanted.side, members=wanted.members, slow=not wanted.without_slow))
        written = write(kinds, place, wanted.copies)
        output = Path(folder) / "out.jsonl"
        memory, parent, code, seconds = _scan(place, output, wanted.workers)
        lines = output.read_bytes().splitlines()
    wrong = find_wrong(lines, written)
    others = sorted(mb for pid, mb in memory.each_mb.items() if pid != parent)
    print(
        json.dumps(
            {
                "inputs": len(written),
                "records": len(lines),
                "ends": dict(Counter(_end(line) for line in lines)),
                "peak_mb_together": round(memory.together_mb),
                "of_each_then_mb": memory.then_mb,
                "peak_rss_mb": {
                    "parent": round(memory.each_mb.get(parent, 0.0)),
                    "others": [round(mb) for mb in others],
                },
                "seconds": round(seconds, 1),
                "exit_code": code,
                "workers": wanted.workers,
                "wrong": wrong,
            }
        )
    )
    sys.exit(bool(wrong))


def _scan(folder: Path, output: Path, workers: int) -> tuple[Memory, int, int, float]:
    command = [
        sys.executable, "-m", "clipmod_cli", "scan", str(folder), "-o", str(output),
        *MODEL, "--no-db", "--progress", "none", "--workers", str(workers),
    ]  # fmt: skip
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    memory = Memory()
    watching = threading.Thread(target=memory.watch, args=(process.pid,))
    watching.start()
    code = process.wait()
    memory.over.set()
    watching.join()
    return memory, process.pid, code, time.perf_counter() - begun


def _end(line: bytes) -> str:
    record = json.loads(line)
    if record["error"]:
        return str(record["error"]["code"])
    return f"{record['final_decision']}{', review' if record['needs_review'] else ''}"


if __name__ == "__main__":
    main()
