"""A command with all that it starts: its time, its CPU time and its memory, as Linux tells them.

Looks at the processes of the command's session several times a second. What a process used after the
last look is not seen, which is little in runs of many seconds.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

EVERY_S = 0.5
"""Short against a run, long against the looking."""

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
SESSION, USER_TIME, SYSTEM_TIME = 3, 11, 12
"""Places in /proc/PID/stat after the name."""


@dataclass(frozen=True)
class Seen:
    """What a command came to.

    Attributes:
        seconds: from start to end.
        cpu_s: of all its processes, user and system.
        peak_mb: of all its processes at once; what they share counts once.
    """

    code: int
    stderr: str
    seconds: float
    cpu_s: float
    peak_mb: float


@dataclass
class _Watch:
    session: int
    cpu_s: dict[int, float] = field(default_factory=dict)
    peak_kb: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def go_on(self) -> None:
        """Look until it is over."""
        while not self.over.wait(EVERY_S):
            self.look()

    def look(self) -> None:
        """Look once."""
        total_kb = 0
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[SESSION]) != self.session:
                    continue
                used = (int(fields[USER_TIME]) + int(fields[SYSTEM_TIME])) * TICK_S
                self.cpu_s[int(folder.name)] = used
                total_kb += _shared_out_kb(folder)
            except (OSError, ValueError, IndexError):
                continue  # it has ended
        self.peak_kb = max(self.peak_kb, total_kb)


def _shared_out_kb(folder: Path) -> int:
    """Return a process' memory in KB, each page divided by those who share it."""
    lines = (folder / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def watch(command: Sequence[str], environment: Mapping[str, str]) -> Seen:
    """Run a command to its end and return what it came to."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    watched = _Watch(process.pid)
    looking = threading.Thread(target=watched.go_on, daemon=True)
    looking.start()
    _, err = process.communicate()
    seconds = time.perf_counter() - begun
    watched.over.set()
    looking.join()
    return Seen(
        process.returncode, err.decode(errors="replace"), seconds, sum(watched.cpu_s.values()),
        watched.peak_kb / 1024,
    )  # fmt: skip
