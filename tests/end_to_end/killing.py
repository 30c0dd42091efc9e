"""Starts the command, waits for what it does, and ends it in all the ways that a process can end."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from tests.end_to_end.command import Command, Record, read_records

PATIENCE_S = 100
"""For what takes a second on an idle machine: only a process that hangs must reach it."""

NUDENET = ("--models", "nudenet", "--policy", "nsfw")
ALONE = (*NUDENET, "--no-isolate")
"""Without decoding workers, for processes in which these play no part: starting them takes seconds."""


def make_pictures(folder: Path, count: int) -> list[str]:
    """Write small pictures of one colour each; return their paths in the order of a scan."""
    random = Random(count)
    names = [str(folder / f"{number:04}.png") for number in range(count)]
    for name in names:
        Image.new("RGB", (64, 48), tuple(random.choices(range(256), k=3))).save(name)
    return names


@contextlib.contextmanager
def started(clipmod: Command, *words: str | Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Give a running `clipmod WORDS`, which does not outlive the context."""
    with clipmod.start(words, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Wait for something that this process does; it must not end before."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, f"it ended with {process.returncode}"
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


def count_lines(path: Path) -> int:
    """Return the number of whole lines in a file, which need not be there yet."""
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def wait_for_lines(path: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the process has written so many lines into the file."""
    wait_until(lambda: count_lines(path) >= count, process)


def lock_of(output: Path) -> Path:
    """Return where the lock of an output is."""
    return output.with_name(f".{output.name}.lock")


def wait_for_lock(output: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the process holds its output, and has said so."""
    wait_until(lambda: lock_of(output).exists() and lock_of(output).stat().st_size, process)


def sources(records: Sequence[Record]) -> list[str]:
    """Return what the records are of."""
    return [record["source"] for record in records]


def records_in(output: Path) -> list[Record]:
    """Return the records in a file, each of which must be whole and agree with the schema."""
    return read_records(output.read_bytes())


def kept(output: Path) -> list[str]:
    """Return the names of what a run leaves in the folder of its output."""
    return [output.name, f"{output.name}.run.json"]


def names_in(folder: Path) -> list[str]:
    """Return the names of all that is in a folder."""
    return sorted(path.name for path in folder.iterdir())
