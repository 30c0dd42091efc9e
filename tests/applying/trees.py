"""Folders of files that were judged, and all that `undo` has to give back of them."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from clipmod_cli.output.resuming.card import RunCard, card_path
from clipmod_cli.output.resuming.names import folders_in
from clipmod_cli.output.resuming.resume import RunConditions
from clipmod_cli.records import to_line, to_record
from tests.results import RUN, plain_verdict

NAMES = ("a.jpg", "sub/b.jpg", "sub/deep/caf\udce9.jpg", "line\nbreak.jpg", "c.mp4")
"""Of the files of `make_tree`; one is a film, one has a name that is not UTF-8."""

Entry: TypeAlias = tuple[int, int, int, int, bytes]


def make_tree(folder: Path, names: tuple[str, ...] = NAMES) -> list[Path]:
    """Write files of different contents, permissions and times; return their paths."""
    paths = []
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"content of {number}".encode() * (number + 1))
        path.chmod((0o644, 0o600, 0o755, 0o440)[number % 4])
        os.utime(path, ns=(10**18, 17 * 10**17 + number * 1_000_003))
        paths.append(path)
    return paths


def snapshot(folder: Path) -> dict[str, Entry]:
    """Return mode, time, owner and content of everything in a folder, by its path; of folders no time."""
    found: dict[str, Entry] = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        is_file = stat.S_ISREG(info.st_mode)
        content = path.read_bytes() if is_file else b""
        time = info.st_mtime_ns if is_file else 0
        found[os.path.relpath(path, folder)] = (info.st_mode, time, info.st_uid, info.st_gid, content)
    return found


def judge(
    output: Path, paths: list[Path], *scanned: str | Path, unsafe: float = 0.9, run: str = RUN.run_id
) -> None:
    """Add a record of each file to an output, as a scan of folders in this working directory writes it.

    Args:
        output: the records; its run card is written too.
        paths: as the records name them.
        scanned: the folders; none as with a list of paths.
        unsafe: the score.
        run: the run_id.
    """
    card = RunCard.read(output) if output.exists() else RunCard(card_path(output))
    conditions = RunConditions(folders=folders_in(map(str, scanned)))
    card.begin({"run_key": RUN.run_key, "policy": {"hash": RUN.policy_hash}}, run, "clipmod scan", conditions)
    with output.open("ab") as file:
        for index, path in enumerate(paths):
            info = path.stat()
            verdict = plain_verdict(index, unsafe=unsafe, source=str(path))
            media = replace(
                verdict.media,
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                bytes=info.st_size,
                mtime_ns=info.st_mtime_ns,
            )
            record = to_record(replace(verdict, media=media), replace(RUN, run_id=run))
            file.write(to_line(record))
    card.end(0, {"written": len(paths)})


def files_in(folder: Path) -> list[str]:
    """Return the paths of all files in a folder, but for the manifest."""
    found = [os.path.relpath(path, folder) for path in folder.rglob("*") if not path.is_dir()]
    return sorted(name for name in found if name != "manifest.jsonl")


@contextmanager
def other_device(here: Path) -> Iterator[Path]:
    """Give a folder on another file system than this one."""
    memory = Path("/dev/shm")  # noqa: S108
    if not memory.is_dir() or memory.stat().st_dev == here.stat().st_dev:
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)
