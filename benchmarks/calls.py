"""The path of one more picture through `clipmod scan`: files passed, calls between files, opens, sniffs.

    python -m benchmarks.calls FOLDER_OR_PICTURE [--few 8] [--more 32] [--isolate] [--list]

Scans a folder of `few` and one of `few + more` pictures, each in a new process, and prints the difference
per picture as one JSON object, so start-up does not count. The pictures are copies with a few bytes appended,
so no two are equal; half of them have a name without extension, which the walk must identify by content.

- `files`: files of `clipmod_cli` in which at least one function runs per picture.
- `calls`: calls of a function in one file of `clipmod_cli` from a function in another; frames of other
  packages between the two are skipped. Comprehensions, lambdas and resumed generators are not calls.
- `opens`: opens of a picture's path by this process and by decode workers.
- `sniffs`: calls of `decode.formats.sniff`. `listings`: listings of the folder, in all.

By default decoding runs in the same process (`--no-isolate`), so that its calls are seen. With `--isolate` it
runs in worker processes: their opens count, their calls do not.
"""

from __future__ import annotations

import argparse
import dis
import inspect
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import clipmod_cli

PACKAGE = str(Path(clipmod_cli.__file__).parent) + os.sep
TINY = Path(__file__).parent.parent / "tests" / "tiny"
MODEL = f"open_clip:local-dir:{TINY / 'models' / 'tiny-l'}"
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic"})
HOOK = """
import os, sys
folder, descriptor = os.environ["TRACE_FOLDER"], os.open(os.environ["TRACE_LOG"], os.O_WRONLY | os.O_APPEND)
def hook(event, given):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(given[0], (str, bytes)):
        if (os.fsdecode(given[0]) + os.sep).startswith(folder + os.sep):
            os.write(descriptor, b"o" if event == "open" else b"l")
os.set_inheritable(descriptor, True)
sys.addaudithook(hook)
"""
"""A `sitecustomize` module: each process of a scan logs its opens and listings, one byte each."""

NO_CALLS = ("<module>", "<lambda>", "<genexpr>", "<listcomp>", "<dictcomp>", "<setcomp>")


class Trace:
    """Counts what happens in this process; safe with threads, for a thread adds to its own counter."""

    def __init__(self) -> None:
        self._counters: list[Counter[tuple[CodeType, CodeType | None]]] = []
        self._own = threading.local()

    def start(self) -> None:
        """Count the calls of all threads from now on."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def report(self) -> dict[str, Any]:
        """Stop counting, and return the calls per file, per pair of functions, and the sniffs."""
        sys.setprofile(None)
        threading.setprofile(None)
        every = sum(self._counters, Counter())
        files: Counter[str] = Counter()
        calls: Counter[str] = Counter()
        sniffs = 0
        for (code, caller), count in every.items():
            files[_file(code)] += count
            sniffs += count if code.co_name == "sniff" else 0
            if caller is not None and caller.co_filename != code.co_filename:
                calls[f"{_file(caller)}:{caller.co_name} -> {_file(code)}:{code.co_name}"] += count
        return {"files": files, "calls": calls, "sniffs": sniffs}

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE) or code.co_name in NO_CALLS:
            return
        if code.co_flags & inspect.CO_GENERATOR and frame.f_lasti > _start(code):
            return
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(PACKAGE):
            caller = caller.f_back
        counter = getattr(self._own, "counter", None)
        if counter is None:
            counter = self._own.counter = Counter()
            self._counters.append(counter)
        counter[code, None if caller is None else caller.f_code] += 1


@cache
def _start(code: CodeType) -> int:
    """Return the offset of a generator's first start; it is resumed at later ones."""
    return next(one.offset for one in dis.get_instructions(code) if one.opname == "RESUME")


def _file(code: CodeType) -> str:
    return code.co_filename.removeprefix(PACKAGE)


def scan(words: Sequence[str], answer: str) -> None:
    """Run `clipmod scan` in this process, and write what was counted."""
    from clipmod_cli.cli import main

    trace = Trace()
    sys.argv = ["clipmod", "scan", *words]
    trace.start()
    try:
        main.run()
    except SystemExit as end:
        if end.code not in {0, 1}:
            raise
    finally:
        Path(answer).write_text(json.dumps(trace.report()), encoding="utf-8")


def trace_scan(pictures: Sequence[Path], count: int, words: Sequence[str]) -> dict[str, Any]:
    """Return what was counted in a scan of so many pictures in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        folder.mkdir()
        for number in range(count):
            picture = pictures[number % len(pictures)]
            ending = picture.suffix if number % 2 else ""
            (folder / f"{number:05}{ending}").write_bytes(picture.read_bytes() + f"{number:05}".encode())
        answer, log = Path(place) / "answer.json", Path(place) / "opens"
        log.touch()
        (Path(place) / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.calls", "--child", str(answer), str(folder), "--"]
        paths = os.pathsep.join([place, os.environ.get("PYTHONPATH", "")])
        subprocess.run(
            [*command, str(folder), *words],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                **dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"), place),
                "PYTHONPATH": paths,
                "TRACE_FOLDER": str(folder),
                "TRACE_LOG": str(log),
            },
        )
        counted: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        logged = log.read_bytes()
        return {**counted, "opens": logged.count(b"o"), "listings": logged.count(b"l")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--few", type=int, default=8)
    parser.add_argument("--more", type=int, default=32)
    parser.add_argument("--models", default=MODEL)
    parser.add_argument("--policy", default=str(TINY / "shapes.toml"))
    parser.add_argument("--isolate", action="store_true", help="decode in worker processes")
    parser.add_argument("--list", action="store_true", help="each call with its number for a picture")
    parser.add_argument("--child", metavar="ANSWER", help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        scan(given.words, given.child)
        return
    pictures = [given.pictures]
    if given.pictures.is_dir():
        pictures = [path for path in sorted(given.pictures.iterdir()) if path.suffix.lower() in PICTURES]
    isolate = "--isolate" if given.isolate else "--no-isolate"
    words = ["--policy", given.policy, "--models", given.models, isolate, "--progress", "plain"]
    few = trace_scan(pictures, given.few, words)
    many = trace_scan(pictures, given.few + given.more, words)
    files = {name: (many["files"][name] - few["files"].get(name, 0)) / given.more for name in many["files"]}
    calls = {name: (many["calls"][name] - few["calls"].get(name, 0)) / given.more for name in many["calls"]}
    if given.list:
        for name, count in sorted(calls.items()):
            if count > 0:
                print(f"{count:8.2f}  {name}")
    print(
        json.dumps(
            {
                "files": sum(count >= 1 for count in files.values()),
                "calls": round(sum(calls.values()), 1),
                "opens": (many["opens"] - few["opens"]) / given.more,
                "sniffs": (many["sniffs"] - few["sniffs"]) / given.more,
                "listings": many["listings"],
            }
        )
    )


if __name__ == "__main__":
    main()
