"""A pool of decode worker processes: a decoder that crashes, hangs or eats memory costs one record.

Each decoding thread has one worker process and talks with it over a pipe. Results are JSON and raw pixels,
never a pickle: a worker that its input took over can send wrong pixels, but no code. The worker's side is
`child`; how results are read is `wire`.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import pickle
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Final

from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.job import Compare, Gate, in_no_bank
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.reading.items import hash_item
from clipmod_cli.decode.transforms import modules_for
from clipmod_cli.decode.workers.child import (
    GO,
    HASH,
    HOLD,
    RELEASE,
    STOP,
    VIDEO,
    DecodeRequest,
    WorkerLimits,
    pack_item,
    serve,
)
from clipmod_cli.decode.workers.shared_memory import SharedBlock, make_shared_block
from clipmod_cli.decode.workers.wire import MAX_HEADER_BYTES, read_result
from clipmod_cli.errors import ErrorCode
from clipmod_cli.results import BankDecision, Settled
from clipmod_cli.types import Failure, Frame, Geometry, Item

Work = Callable[..., list[Frame | Settled]]

_SHA256: Final = re.compile(rb"[0-9a-f]{64}")

WATCH_EVERY_S = 0.25
"""An overdue worker is killed at most this late."""

GRACE_S = 1.0
"""How long a worker may take to exit when its pipe is closed."""

_TERMINATED = tuple(-one for name in ("SIGTERM", "SIGHUP") if (one := getattr(signal, name, None)))
"""Exit codes of a worker that was ended from outside: the input may be fine."""

MAX_SOCKET_PATH: Final = 100
"""Bytes in the path of a Unix socket, which systems limit to 103 (macOS) or 107 (Linux)."""

_SOCKET_NAME: Final = "/pymp-xxxxxxxx/listener-xxxxxxxx"
"""What multiprocessing puts behind the folder of temporary files."""


_SERVER_STARTED_BY: Final[set[int]] = set()
"""Process ids: of this process, or of one that it was forked from."""


def start_method() -> str:
    """Return how workers are started.

    Never by plain fork: a worker would inherit the output, the locks and the store of its parent. A fork
    server needs a socket in the folder of temporary files, whose path may be too long for one (`TMPDIR`), and
    serves only the process that started it, not one that was forked from that (a web server's worker).
    """
    if _SERVER_STARTED_BY - {os.getpid()}:
        return "spawn"
    is_short = len(os.fsencode(tempfile.gettempdir() + _SOCKET_NAME)) <= MAX_SOCKET_PATH
    has_server = "forkserver" in multiprocessing.get_all_start_methods()
    return "forkserver" if has_server and is_short else "spawn"


@dataclass
class WorkerPool:
    """The worker processes, one for each thread that calls `decode_item`."""

    limits: WorkerLimits = field(default_factory=WorkerLimits)
    work: Work = decode_item
    _local: threading.local = field(default_factory=threading.local, repr=False)
    _handles: list[WorkerHandle] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _closed: threading.Event = field(default_factory=threading.Event, repr=False)

    def decode_item(
        self,
        item: Item,
        geometries: Sequence[Geometry],
        options: DecodeOptions,
        *,
        gate: Gate,
        free_pixels: int = 0,
        compare: Compare = in_no_bank,
    ) -> list[Frame | Settled]:
        """Return what `decode.item.decode_item` returns for the item, run in a worker process.

        A worker that dies is `decode_crash`, one that is too slow `decode_timeout`; it is replaced for the
        next item. `gate` is called for each decode of more than `free_pixels`, `compare` with the item's
        SHA-256, in this process.
        """
        handle: WorkerHandle | None = getattr(self._local, "handle", None)
        if handle is None:
            handle = self._local.handle = self._add_handle()
        request = DecodeRequest(
            geometries=tuple(geometries),
            options=options,
            free_pixels=free_pixels,
            asks=compare is not in_no_bank,
        )
        return handle.decode(item, request, gate, compare)

    def close(self) -> None:
        """End all workers, also while they decode."""
        self._closed.set()
        with self._lock:
            for handle in self._handles:
                handle.close()

    def _add_handle(self) -> WorkerHandle:
        handle = WorkerHandle(self.limits, self.work)
        with self._lock:
            self._handles.append(handle)
            if self._closed.is_set():
                handle.close()
            if len(self._handles) == 1:
                threading.Thread(target=self._watch, name="clipmod-decode-watch", daemon=True).start()
        return handle

    def _watch(self) -> None:
        """Kill overdue workers, so that a silent worker cannot block its thread."""
        while not self._closed.wait(WATCH_EVERY_S):
            now = time.monotonic()
            for handle in list(self._handles):
                handle.kill_if_overdue(now)


@dataclass
class WorkerHandle:
    """One worker process as its decoding thread sees it: started, given items, replaced.

    Owned by one decoding thread; other threads call only `kill_if_overdue` and `close`.
    """

    limits: WorkerLimits
    work: Work
    _modules: tuple[str, ...] = ()
    _process: Any = None
    _pipe: Connection | None = None
    _parent_death: Connection | None = None
    _block: SharedBlock | None = None
    _request: DecodeRequest | None = None
    _served: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _started: float = 0.0
    _deadline: float = math.inf
    _busy: bool = False
    _overdue: bool = False
    _closed: bool = False

    def decode(
        self, item: Item, request: DecodeRequest, gate: Gate, compare: Compare = in_no_bank
    ) -> list[Frame | Settled]:
        """Return the worker's result; a Failure if the worker died, was too slow or sent none."""
        started = time.perf_counter()
        with self._lock:
            self._busy = True
        try:
            pipe = self._dispatch(item, request)
            header, known = self._receive_header(pipe, gate, compare)
            _check_hash(item, known)
            result = read_result(header, pipe.recv_bytes, item, request.geometries, self._block, known)
            self._served += 1
        except (EOFError, OSError, ValueError) as e:
            return [self._failure_of(item, e, time.perf_counter() - started)]
        else:
            return result
        finally:
            self._finish()

    def kill_if_overdue(self, now: float) -> None:
        """Kill the worker if its item has taken too long; its thread then finds the pipe closed."""
        with self._lock:
            if now > self._deadline:
                self._overdue = True
                self._deadline = math.inf
                self._process.kill()

    def close(self) -> None:
        """End the worker for good; at once if it is decoding."""
        with self._lock:
            self._closed = True
            if self._busy:  # its thread cleans up when it finds the pipe closed
                if self._process is not None:
                    self._process.kill()
                return
        self._discard()

    def _finish(self) -> None:
        with self._lock:
            self._busy = False
            self._deadline = math.inf
            closed = self._closed
        if closed:
            self._discard(at_once=True)

    def _dispatch(self, item: Item, request: DecodeRequest) -> Connection:
        """Send the item to the worker.

        To a new one if the last one died, served its number of items, or lacks modules for these views.
        """
        if self._overdue or self._served >= self.limits.items or not self._has_modules(request):
            self._discard(at_once=self._overdue)
        try:
            return self._send(self._pipe or self._start(), item, request)
        except OSError:  # it died while idle
            self._discard(at_once=True)
            return self._send(self._start(), item, request)

    def _has_modules(self, request: DecodeRequest) -> bool:
        """Return whether the worker imported at its start what a request needs; a new one will."""
        if request == self._request:
            return True
        needed = modules_for(request.geometries, exact=request.options.exact)
        modules = tuple(dict.fromkeys((*self._modules, *needed)))
        complete, self._modules = modules == self._modules, modules
        return complete

    def _send(self, pipe: Connection, item: Item, request: DecodeRequest) -> Connection:
        changed = None if request == self._request else request
        message = pickle.dumps((pack_item(item), item.data is not None, changed), pickle.HIGHEST_PROTOCOL)
        with self._lock:
            self._started = time.monotonic()
            self._deadline = self._started + self.limits.picture.wall_s
        pipe.send_bytes(message)
        if item.data is not None:  # not pickled, which would copy them
            pipe.send_bytes(item.data)
        self._request = request
        return pipe

    def _start(self) -> Connection:
        method = start_method()
        context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            _SERVER_STARTED_BY.add(os.getpid())
            # Imported once, in the server that workers are forked from. A server that an earlier run
            # started keeps its own list; then each worker imports them.
            context.set_forkserver_preload(["clipmod_cli.decode.workers.child", *self._modules])
        pipe: Connection
        pipe, worker_end = context.Pipe()
        # The parent-death pipe: our end closes when this process ends, in whatever way.
        watched_end, self._parent_death = context.Pipe(duplex=False)
        self._block = make_shared_block()
        process = context.Process(
            target=serve,
            args=(worker_end, watched_end, self._block, self.limits, self.work, self._modules),
            name="clipmod-decode",
            daemon=True,
        )
        process.start()
        worker_end.close()
        watched_end.close()
        self._served, self._request, self._overdue = 0, None, False
        with self._lock:
            self._process, self._pipe = process, pipe
            if self._closed:  # while it started
                process.kill()
        return pipe

    def _receive_header(
        self, pipe: Connection, gate: Gate, compare: Compare
    ) -> tuple[bytes, tuple[str, BankDecision] | None]:
        """Return the header of the result, and the hash that banks decide for.

        Holds pixels of the budget between HOLD and RELEASE.
        """
        known: tuple[str, BankDecision] | None = None
        with ExitStack() as held:
            holds = False
            while not (message := pipe.recv_bytes(MAX_HEADER_BYTES)).startswith(b"{"):
                if message.startswith(HOLD) and not holds and (pixels := int(message[len(HOLD) :])) > 0:
                    self._hold(held, gate, pixels)
                    pipe.send_bytes(GO)
                    holds = True
                elif message == RELEASE and holds:
                    held.close()
                    holds = False
                elif message.startswith(HASH) and known is None:
                    known = _known(message[len(HASH) :], compare)
                    pipe.send_bytes(GO if known is None else STOP)
                elif message == VIDEO:
                    self._set_deadline(self._started + self.limits.video.wall_s)
                else:
                    raise ValueError("unexpected message from decode worker")
        return message, known

    def _hold(self, held: ExitStack, gate: Gate, pixels: int) -> None:
        """Take pixels out of the budget; the wait for them does not count as the item's time."""
        left = self._deadline - time.monotonic()
        self._set_deadline(math.inf)
        waited = time.monotonic()
        held.enter_context(gate(pixels))
        now = time.monotonic()
        self._started += now - waited
        self._set_deadline(now + left)

    def _set_deadline(self, deadline: float) -> None:
        with self._lock:
            self._deadline = deadline

    def _failure_of(self, item: Item, error: Exception, spent: float) -> Failure:
        process, overdue = self._process, self._overdue
        if process is not None and not isinstance(error, ValueError):  # after a wrong message it is alive
            process.join(GRACE_S)
        exit_code = None if process is None else process.exitcode
        self._discard(at_once=True)
        code: ErrorCode = "decode_timeout"
        if overdue:
            message = f"decoding took longer than {spent:.0f} s and was stopped"
        elif exit_code == -getattr(signal, "SIGXCPU", 0):
            message = "decoding took too much processor time and was stopped"
        elif process is None:
            code, message = "internal_error", f"cannot start a decode worker: {error}"
        else:
            code = "internal_error" if exit_code in _TERMINATED else "decode_crash"
            message = f"the decode worker {_end_of(exit_code, error)} while it decoded this input"
        return Failure(item=item, stage="decode", code=code, message=message)

    def _discard(self, *, at_once: bool = False) -> None:
        """End the worker, if there is one, and close what was shared with it."""
        with self._lock:
            process, self._process = self._process, None
            ends = [end for end in (self._pipe, self._parent_death, self._block) if end is not None]
            self._pipe = self._parent_death = self._block = None
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


def _known(sha256: bytes, compare: Compare) -> tuple[str, BankDecision] | None:
    """Return the hash of a worker's message and what banks decide for it; None if they do not."""
    if not _SHA256.fullmatch(sha256):
        raise ValueError("unexpected message from decode worker")
    by = compare(sha256.decode())
    return None if by is None else (sha256.decode(), by)


def _check_hash(item: Item, known: tuple[str, BankDecision] | None) -> None:
    """Raise ValueError if banks decided for another hash than the item has: a worker is not believed."""
    if known is not None and hash_item(item) != known[0]:
        raise ValueError("the file has another hash than the decode worker said")


def _end_of(exit_code: int | None, error: Exception) -> str:
    if exit_code is None:
        return f"was stopped ({error})"
    if exit_code >= 0:
        return f"ended with code {exit_code}"
    outside = " from outside" if exit_code in _TERMINATED else ""
    return f"was ended by {signal.Signals(-exit_code).name}{outside}"
