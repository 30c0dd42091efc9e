"""What runs on a node: `PartJudge` behind strings and numbers. It knows no engine.

All methods but `stop` are called by one thread, in order; they answer with JSON, errors included, since an
exception would need its class on both sides.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from clipmod_cli.errors import ClipmodError
from clipmod_cli.parts.heartbeat import this_process
from clipmod_cli.settings.definition import Settings, option_of

if TYPE_CHECKING:
    from clipmod_cli.parts.judge import PartJudge
    from clipmod_cli.settings.reading import Resolved


SENT: Final = frozenset({"judging", "machine", "cache", "urls", "downloads"})
"""The groups of settings that reach the nodes, and further settings: what decides how an input is judged."""

SENT_TOO: Final = frozenset({"record", "frames_detail", "stop_on_hit"})

NOT_SENT: Final = frozenset({"header"})
"""It may hold a token. A node has its own, in a variable or its settings file."""


def flags_of(resolved: Resolved) -> str:
    """Return the settings that a node needs and that were given here, as a JSON object without secrets."""
    names = (
        f.name for f in fields(Settings)
        if (option_of(f.name).group in SENT or f.name in SENT_TOO) and f.name not in NOT_SENT
    )  # fmt: skip
    return json.dumps({name: getattr(resolved.settings, name) for name in names if resolved.named(name)})


class PartActor:
    """Judges parts of one run in a process of its own."""

    def __init__(self, out: str, flags: str, directory: str, cores: int) -> None:
        """Keep the arguments; nothing is loaded yet.

        Args:
            out: the folder of the run.
            flags: of `flags_of`.
            directory: in which the run was started; names are relative to it where this node has it.
            cores: of this node that this process may use.
        """
        self._out = out
        self._flags: dict[str, Any] = json.loads(flags)
        self._directory = directory
        self._cores = cores
        self._judge: PartJudge | None = None
        self._stopped = threading.Event()

    def open(self) -> str:
        """Load the models; answer with this process, or what keeps this node from judging."""
        return _answer(self._open)

    def judge(self, part: int) -> str:
        """Judge and commit a part; answer with its counts."""
        return _answer(lambda: self._judge_part(part))

    def stop(self) -> None:
        """End the part in flight after its batch; called by another thread."""
        self._stopped.set()

    def _open(self) -> dict[str, Any]:
        with contextlib.suppress(OSError):
            os.chdir(self._directory)
        keep_to_cores(self._cores)  # before the models count the cores
        from clipmod_cli.parts.judge import PartJudge
        from clipmod_cli.parts.store import open_part_store
        from clipmod_cli.settings.reading import resolve

        self._judge = PartJudge.open(resolve(self._flags), open_part_store(self._out))
        return {}

    def _judge_part(self, part: int) -> dict[str, Any]:
        if self._judge is None:
            raise AssertionError("a part came before the models were loaded")
        if self._stopped.is_set():  # it was waiting behind the part that was stopped
            return {"outcome": "stopped"}
        result = self._judge.judge(part, stopped=self._stopped.is_set)
        if result.done is None:
            return {"outcome": result.outcome}
        return {"outcome": result.outcome, "records": result.done.records, "counts": result.done.counts}


def _answer(work: Callable[[], dict[str, Any]]) -> str:
    """Return what the work gave, or its error, with this process, as JSON."""
    process = this_process()
    try:
        return json.dumps(work() | process)
    except ClipmodError as error:
        return json.dumps({"error": str(error), "exit_code": int(error.exit_code)} | process)


_cores_locks: list[int] = []
"""Descriptors of the locks of this process's cores; they end with the process."""


def keep_to_cores(count: int) -> None:
    """Keep the calling thread, and the threads and processes that it starts, to so many cores.

    Processes on one node take different ones. Models and decoders size themselves by the cores that they see.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    import fcntl
    import tempfile
    from pathlib import Path

    own = sorted(os.sched_getaffinity(0))
    for start in range(0, len(own) - count + 1, count) if count < len(own) else ():
        cores = own[start : start + count]
        path = Path(tempfile.gettempdir()) / f"clipmod-cores-{os.getuid()}-{count}-{cores[0]}.lock"
        lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        _cores_locks.append(lock)
        os.sched_setaffinity(0, cores)
        return
