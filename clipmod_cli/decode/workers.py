"""Decoding in worker processes: a decoder that crashes, hangs or eats memory costs one record.

Each decoding thread of `pool` has one process to itself and talks with it over a pipe. What comes
back is JSON and raw pixels, never a pickle: a worker that was taken over by what it decoded can
send wrong pixels, but nothing that is run here. What the process does is `worker`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from clipmod_cli.decode.geometry import modules_for
from clipmod_cli.decode.job import Gate
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.messages import read_result
from clipmod_cli.decode.picture import decode_item
from clipmod_cli.decode.video import forget_spilled
from clipmod_cli.decode.worker import WorkerLimits, serve, time_limits
from clipmod_cli.errors import ErrorCode
from clipmod_cli.types import Failure, Frame, Item, View

Work = Callable[..., list[Frame | Failure]]

GRACE_S = 1.0
"""How long a worker may take to end when it is told to."""

_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
"""Never plain fork: it would hand a worker the output, the locks and the store of its parent."""


@dataclass
class Crew:
    """The worker processes, one for each thread that calls `decode_item`."""

    limits: WorkerLimits = field(default_factory=WorkerLimits)
    work: Work = decode_item
    _local: threading.local = field(default_factory=threading.local, repr=False)
    _seats: list[_Seat] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def decode_item(
        self, item: Item, views: Sequence[View], options: DecodeOptions, *, gate: Gate
    ) -> list[Frame | Failure]:
        """Return what `picture.decode_item` returns for the item, made in a process of its own.

        A worker that dies is `decode_crash`, one that is too slow `decode_timeout`; the next item
        gets a new one.
        """
        seat: _Seat | None = getattr(self._local, "seat", None)
        if seat is None:
            seat = self._local.seat = _Seat(self.limits, self.work, modules_for(views))
            with self._lock:
                self._seats.append(seat)
        try:
            return seat.decode(item, views, options, gate)
        finally:
            forget_spilled(item)  # a worker that was killed could not

    def close(self) -> None:
        """End all workers, also those in the midst of an item. Call it when no thread decodes."""
        with self._lock:
            for seat in self._seats:
                seat.leave()


class _Gone(Exception):  # noqa: N818 — it is caught three lines further and never leaves this file
    """The worker ended without an answer."""


@dataclass
class _Seat:
    """One thread's place for a worker: starts it, replaces it, waits for it."""

    limits: WorkerLimits
    work: Work
    modules: Sequence[str]
    _process: Any = None
    _pipe: Connection | None = None
    _lifeline: Connection | None = None
    _served: int = 0

    def decode(
        self, item: Item, views: Sequence[View], options: DecodeOptions, gate: Gate
    ) -> list[Frame | Failure]:
        started = time.perf_counter()
        try:
            pipe = self._ready()
            pipe.send((item, tuple(views), options))
            answer = self._wait(pipe, gate, time_limits(item, self.limits).wall_s)
            self._served += 1
            return read_result(answer, pipe.recv_bytes, item, views)
        except TimeoutError:
            self.leave(at_once=True)
            spent = time.perf_counter() - started
            return [
                _failure(item, "decode_timeout", f"decoding took longer than {spent:.0f} s and was stopped")
            ]
        except (_Gone, EOFError, OSError, ValueError) as e:
            return [self._explain(item, e)]

    def _ready(self) -> Connection:
        if self._pipe is not None and self._served >= self.limits.items:
            self.leave()
        if self._pipe is None or not self._process.is_alive():
            self.leave(at_once=True)
            self._start()
        if self._pipe is None:
            raise _Gone
        return self._pipe

    def _start(self) -> None:
        context: Any = multiprocessing.get_context(_METHOD)
        if _METHOD == "forkserver":
            # Imported once in the server that workers are forked from; a server that an earlier run
            # started keeps what it has, and then each worker imports them itself.
            context.set_forkserver_preload(["clipmod_cli.decode.worker", *self.modules])
        self._pipe, theirs = context.Pipe()
        # Its end of the lifeline closes when this process ends, however it does, and ends the worker.
        lifeline, self._lifeline = context.Pipe(duplex=False)
        self._process = context.Process(
            target=serve,
            args=(theirs, lifeline, self.limits, self.work, self.modules),
            name="clipmod-decode",
            daemon=True,
        )
        self._process.start()
        theirs.close()
        lifeline.close()
        self._served = 0

    def _wait(self, pipe: Connection, gate: Gate, wall_s: float) -> bytes:
        """Return the header of the answer; holds pixels of the budget for as long as the worker asks."""
        deadline = time.monotonic() + wall_s
        with ExitStack() as held:
            while pipe.poll(max(0.0, deadline - time.monotonic())):
                message = pipe.recv_bytes()
                if message.startswith(b"{"):
                    return message
                word, _, number = message.partition(b" ")
                before = time.monotonic()
                if word == b"hold":
                    held.enter_context(gate(int(number)))
                    pipe.send_bytes(b"go")
                elif word == b"release":
                    held.close()
                deadline += time.monotonic() - before  # waiting for others is not the item's own time
        raise TimeoutError

    def _explain(self, item: Item, error: Exception) -> Failure:
        process = self._process
        if process is not None:
            process.join(GRACE_S)
        code = None if process is None else process.exitcode
        self.leave(at_once=True)
        if code == -getattr(signal, "SIGXCPU", 0):
            return _failure(item, "decode_timeout", "decoding took too much processor time and was stopped")
        reason = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with code {code}"
        detail = f"; {error}" if isinstance(error, ValueError) else ""
        return _failure(item, "decode_crash", f"the decoder of this input ended {reason}{detail}")

    def leave(self, *, at_once: bool = False) -> None:
        """End the worker, if there is one."""
        process, self._process = self._process, None
        for end in (self._pipe, self._lifeline):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.close()
        self._pipe = self._lifeline = None
        if process is None:
            return
        if not at_once:
            process.join(GRACE_S)
        if process.is_alive():
            process.kill()
        process.join(GRACE_S)


def _failure(item: Item, code: ErrorCode, message: str) -> Failure:
    return Failure(item=item, stage="decode", code=code, message=message)
