"""The guard in the processes of web servers: forked before its first use, or after."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clipmod_cli.integrations.per_process import PerProcess
from tests.end_to_end.command import ROOT, SAMPLES
from tests.integrations.conftest import bare

PROGRAM = f"""
import os, sys
from clipmod_cli.integrations.guard import UploadGuard

def judge(guard):
    with open({str(SAMPLES / "cat.png")!r}, "rb") as file:
        print(guard.check(file, "cat").outcome, flush=True)

if __name__ == "__main__":
    guard = UploadGuard("nsfw", "open_nsfw", deadline_s=100)
    judge(guard)
    if os.fork() == 0:
        judge(guard)
        os._exit(0)
    _, status = os.wait()
    judge(guard)
    sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_loads_its_own_and_leaves_its_parents_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare(tmp_path, monkeypatch)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    run = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["clean"] * 3


def test_an_object_is_opened_once_and_again_after_it_was_taken() -> None:
    one: PerProcess[object] = PerProcess(object)
    assert one.take() is None
    first = one.get()
    assert one.get() is first
    assert one.take() is first
    assert one.get() is not first


def test_a_fork_opens_anew_and_frees_a_lock_that_another_thread_held() -> None:
    class Closed(list[int]):
        """Would tell if it were finalized."""

    one: PerProcess[Closed] = PerProcess(Closed)
    first = one.get()
    one._lock.acquire()
    one.on_fork()
    assert one.get() is not first
    assert any(kept is first for kept in one._parents)
