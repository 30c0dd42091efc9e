"""Kills `clipmod apply` or `undo` by SIGKILL at lines of its code, one after the other, and undoes it.

Run: `python -m tests.applying.kill_everywhere FOLDER TARGET DEED MOMENTS [undo]`, in a process of its own,
without threads: it forks for each moment. With MOMENTS 0 each line is one. It fails where `undo` does not
give the folder back bit for bit.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

from clipmod_cli.cli.commands.applying import running, undoing
from clipmod_cli.cli.commands.applying.inputs import ApplyRequest
from clipmod_cli.errors import ExitCode
from clipmod_cli.output import lock
from clipmod_cli.output.moves import MoveAction
from clipmod_cli.output.resuming import moved
from clipmod_cli.review.applying import carry_out, folders, manifest, plan, transfer, undo
from tests.applying.trees import files_in, judge, make_tree, snapshot

FILES = frozenset(
    module.__file__
    for module in (running, undoing, manifest, lock, moved, carry_out, folders, plan, transfer, undo)
)
NEVER = 10**9


class KilledAt:
    """Counts the lines that are run of these files, and ends the process at one of them."""

    def __init__(self, moment: int) -> None:
        self.moment = moment
        self.count = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line":
            self.count += 1
            if self.count == self.moment:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def run(command: Callable[[], ExitCode], moment: int = NEVER) -> tuple[int, int]:
    """Run a command in a process, killed at a moment; return its wait status and how many lines it ran."""
    receiver, sender = os.pipe()
    if child := os.fork():
        os.close(sender)
        with os.fdopen(receiver) as told:
            count = told.read()
        return os.waitpid(child, 0)[1], int(count or 0)
    counter = KilledAt(moment)
    code = 99
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        sys.settrace(counter)
        code = command()
    finally:
        sys.settrace(None)
        os.write(sender, str(counter.count).encode())
        os._exit(code)


def kill_everywhere(folder: Path, target: Path, action: MoveAction, moments: int, *, is_undo: bool) -> int:
    """Kill at so many moments, evenly spread; return how many there were."""
    tree, output = folder / "tree", folder / "out.jsonl"
    judge(output, make_tree(tree), tree)
    before = snapshot(tree)
    request = ApplyRequest(
        names=[str(output)],
        kinds=frozenset({"nsfw"}),
        label=None,
        new=False,
        action=action,
        folder=None if action == "delete" else target,
        yes=True,
        as_json=False,
    )
    kept = folder / ".out.jsonl.deleted" if action == "delete" else target

    def forth() -> ExitCode:
        return running.run_apply(request)

    def back() -> ExitCode:
        return undoing.run_undo(kept, [], last=False, as_json=False)

    status, lines = run(forth)
    assert status == 0
    status, lines_back = run(back)
    assert status == 0
    shutil.rmtree(kept)
    total = lines_back if is_undo else lines
    chosen = range(1, total + 1, max(total // moments, 1) if moments else 1)
    for moment in chosen:
        if is_undo:
            assert run(forth)[0] == 0
        status, _ = run(back if is_undo else forth, moment)
        assert os.WIFSIGNALED(status) or (moment > total * 0.9 and status == 0), f"not killed at {moment}"
        if moment % 2:  # one that goes on
            status = run(forth)[0]
            assert status == 0, f"apply after a kill at {moment}: {status}"
            assert action == "copy" or files_in(tree) == [], f"not all moved after a kill at {moment}"
            assert not list(kept.rglob("*.part")), f"unfinished copies after a kill at {moment}"
        if (kept / "manifest.jsonl").exists():
            status = run(back)[0]
            assert status == 0, f"undo after a kill at {moment}: {status}"
            assert files_in(kept) == [], f"{files_in(kept)} left after a kill at {moment}"
        assert snapshot(tree) == before, f"another tree after a kill at {moment}"
        shutil.rmtree(kept, ignore_errors=True)
    return len(chosen)


if __name__ == "__main__":
    count = kill_everywhere(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        cast("MoveAction", sys.argv[3]),
        int(sys.argv[4]),
        is_undo="undo" in sys.argv[5:],
    )
    print(f"{count} moments")
