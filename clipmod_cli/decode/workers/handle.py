"""One worker process as its parent sees it: started, given items, listened to, replaced.

Owned by one decoding thread; another one only watches the time and says when all is over. What the
process does is `worker`, how its answers are read `messages`.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import pickle
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from clipmod_cli.decode.job import Gate
from clipmod_cli.decode.workers.child import (
    HOLD,
    LONG,
    RELEASE,
    DecodeRequest,
    WorkerLimits,
    serve,
    tell_item,
)
from clipmod_cli.decode.workers.shared_memory import SharedBlock, make_shared_block
from clipmod_cli.decode.workers.wire import MAX_HEADER_BYTES, read_result
from clipmod_cli.errors import ErrorCode
from clipmod_cli.types import Failure, Frame, Item

GRACE_S = 1.0
"""How long a worker may take to end when it is told to."""

ASKED_TO_END = tuple(-one for name in ("SIGTERM", "SIGHUP") if (one := getattr(signal, name, None)))
"""Exit codes of a worker that somebody ended: no decoder does that to itself, so the input may be fine."""

_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
"""Never plain fork: it would hand a worker the output, the locks and the store of its parent."""


@dataclass
class WorkerHandle:
    """One thread's place for a worker."""

    limits: WorkerLimits
    work: Callable[..., list[Frame | Failure]]
    modules: Sequence[str]
    _process: Any = None
    _pipe: Connection | None = None
    _lifeline: Connection | None = None
    _block: SharedBlock | None = None
    _orders: DecodeRequest | None = None
    _served: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _begun: float = 0.0
    _deadline: float = math.inf
    _busy: bool = False
    _overdue: bool = False
    _dismissed: bool = False

    def decode(self, item: Item, orders: DecodeRequest, gate: Gate) -> list[Frame | Failure]:
        """Return what the worker makes of the item; what becomes of the worker is told by a Failure."""
        begun = time.perf_counter()
        self._begin()
        try:
            pipe = self._tell(item, orders)
            header = self._listen(pipe, gate)
            result = read_result(header, pipe.recv_bytes, item, orders.views, self._block)
            self._served += 1
        except (EOFError, OSError, ValueError) as e:
            return [self._explain(item, e, time.perf_counter() - begun)]
        else:
            return result
        finally:
            self._rest()

    def end_if_overdue(self, now: float) -> None:
        """Kill the worker if its item has taken too long; its thread then finds the pipe closed."""
        with self._lock:
            if now > self._deadline:
                self._overdue = True
                self._deadline = math.inf
                self._process.kill()

    def dismiss(self) -> None:
        """End the worker for good; at once if it is in the midst of an item."""
        with self._lock:
            self._dismissed = True
            if self._busy:  # its thread puts away what is left as soon as it finds the pipe closed
                if self._process is not None:
                    self._process.kill()
                return
        self._leave()

    def _begin(self) -> None:
        with self._lock:
            self._busy = True

    def _rest(self) -> None:
        with self._lock:
            self._busy = False
            self._deadline = math.inf
            done = self._dismissed
        if done:
            self._leave(at_once=True)

    def _tell(self, item: Item, orders: DecodeRequest) -> Connection:
        """Hand the item to a worker, to a new one if the last was lost or is worn out."""
        if self._overdue or self._served >= self.limits.items:
            self._leave(at_once=self._overdue)
        try:
            return self._send(self._pipe or self._start(), item, orders)
        except OSError:  # it died while it had nothing to do
            self._leave(at_once=True)
            return self._send(self._start(), item, orders)

    def _send(self, pipe: Connection, item: Item, orders: DecodeRequest) -> Connection:
        changed = None if orders == self._orders else orders
        message = pickle.dumps((tell_item(item), item.data is not None, changed), pickle.HIGHEST_PROTOCOL)
        with self._lock:
            self._begun = time.monotonic()
            self._deadline = self._begun + self.limits.picture.wall_s
        pipe.send_bytes(message)
        if item.data is not None:  # as they are: pickling would copy them
            pipe.send_bytes(item.data)
        self._orders = orders
        return pipe

    def _start(self) -> Connection:
        context: Any = multiprocessing.get_context(_METHOD)
        if _METHOD == "forkserver":
            # Imported once in the server that workers are forked from; a server that an earlier run
            # started keeps what it has, and then each worker imports them itself.
            context.set_forkserver_preload(["clipmod_cli.decode.workers.child", *self.modules])
        pipe: Connection
        pipe, theirs = context.Pipe()
        # Its end of the lifeline closes when this process ends, however it does, and ends the worker.
        lifeline, self._lifeline = context.Pipe(duplex=False)
        self._block = make_shared_block()
        process = context.Process(
            target=serve,
            args=(theirs, lifeline, self._block, self.limits, self.work, self.modules),
            name="clipmod-decode",
            daemon=True,
        )
        process.start()
        theirs.close()
        lifeline.close()
        self._served, self._orders, self._overdue = 0, None, False
        with self._lock:
            self._process, self._pipe = process, pipe
            if self._dismissed:  # by now nobody waits for it
                process.kill()
        return pipe

    def _listen(self, pipe: Connection, gate: Gate) -> bytes:
        """Return the header of the answer; holds pixels of the budget for as long as the worker asks."""
        with ExitStack() as held:
            holds = False
            while not (message := pipe.recv_bytes(MAX_HEADER_BYTES)).startswith(b"{"):
                if message.startswith(HOLD) and not holds:
                    self._hold(held, gate, _pixels(message))
                    pipe.send_bytes(b"go")
                    holds = True
                elif message == RELEASE and holds:
                    held.close()
                    holds = False
                elif message == LONG:
                    self._be_patient(self._begun + self.limits.video.wall_s)
                else:
                    raise ValueError("the worker said what makes no sense")
        return message

    def _hold(self, held: ExitStack, gate: Gate, pixels: int) -> None:
        """Take pixels out of the budget. Waiting for others is not the item's own time."""
        left = self._deadline - time.monotonic()
        self._be_patient(math.inf)
        waited = time.monotonic()
        held.enter_context(gate(pixels))
        now = time.monotonic()
        self._begun += now - waited
        self._be_patient(now + left)

    def _be_patient(self, until: float) -> None:
        with self._lock:
            self._deadline = until

    def _explain(self, item: Item, error: Exception, spent: float) -> Failure:
        process, overdue = self._process, self._overdue
        if process is not None and not isinstance(error, ValueError):  # who talks nonsense is alive
            process.join(GRACE_S)
        code = None if process is None else process.exitcode
        self._leave(at_once=True)
        if overdue:
            message = f"decoding took longer than {spent:.0f} s and was stopped"
            return _failure(item, "decode_timeout", message)
        if code == -getattr(signal, "SIGXCPU", 0):
            message = "decoding took too much processor time and was stopped"
            return _failure(item, "decode_timeout", message)
        if process is None:
            return _failure(item, "internal_error", f"no process could be started to decode this: {error}")
        asked = code in ASKED_TO_END
        message = f"the decoder of this input {_end_of(code, error)}{' from outside' if asked else ''}"
        return _failure(item, "internal_error" if asked else "decode_crash", message)

    def _leave(self, *, at_once: bool = False) -> None:
        """End the worker, if there is one, and give back what was shared with it."""
        with self._lock:
            process, self._process = self._process, None
            ends = [end for end in (self._pipe, self._lifeline, self._block) if end is not None]
            self._pipe = self._lifeline = self._block = None
            self._deadline = math.inf
        for end in ends:
            with contextlib.suppress(OSError):
                end.close()
        if process is None:
            return
        if not at_once:
            process.join(GRACE_S)
        if process.is_alive():
            process.kill()
        process.join(GRACE_S)


def _pixels(message: bytes) -> int:
    """Return how many pixels a worker asks for; raises ValueError where that is no number above 0."""
    pixels = int(message.removeprefix(HOLD))
    if pixels <= 0:
        raise ValueError("the worker asked for no pixels")
    return pixels


def _end_of(code: int | None, error: Exception) -> str:
    if code is None:
        return f"gave no answer that can be believed, and was stopped: {error}"
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _failure(item: Item, code: ErrorCode, message: str) -> Failure:
    return Failure(item=item, stage="decode", code=code, message=message)
