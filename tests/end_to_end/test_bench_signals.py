"""One signal ends `clipmod bench`, whatever the interpreter is in the midst of, and leaves no folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.killing import PATIENCE_S

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")

SCRIPT = """
import contextlib, os, sys, time
from pathlib import Path
from clipmod_cli.bench import measure as measuring
from clipmod_cli.cli.commands import bench

NUMBER, HOW = int(sys.argv[1]), sys.argv[2]

class Last:
    def __del__(self):  # an exception in here is ignored
        os.kill(os.getpid(), NUMBER)
        time.sleep(0.2)

def measure(options, folder, say):
    for i in range(1000):
        (folder / f"{i}.jpg").write_bytes(b"x")
    if HOW == "its end":
        Last()
    else:
        os.kill(os.getpid(), NUMBER)
    while HOW != "return":
        i += 1
        if HOW == "swallow":
            with contextlib.suppress(OSError):
                (folder / f"{i}.jpg").write_bytes(b"x")
        else:
            (folder / f"{i}.jpg").write_bytes(b"x")

measuring.measure = measure
options = type("Options", (), {"settings": type("Settings", (), {"quiet": True})()})()
sys.exit(bench._run(options, None, as_json=True))
"""


@pytest.mark.parametrize("how", ["its end", "fail", "swallow", "return"])
def test_one_signal_is_enough(tmp_path: Path, how: str) -> None:
    """It comes in an object's end, or where writing goes on, or just before all is done."""
    # only Ctrl-C would be taken a second time, by who is impatient
    number, code = (signal.SIGTERM, 143) if how == "its end" else (signal.SIGINT, 130)
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(number.value), how],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, b"", b"")
    assert not list(tmp_path.iterdir())
