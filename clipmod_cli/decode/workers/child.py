"""What a worker process does: takes items from a pipe, decodes them within limits, sends pixels back.

It keeps no open file of its parent, has no network where the system allows it to give that up, and
ends with its parent. Who starts and replaces it is `workers`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection
from operator import attrgetter
from pathlib import Path
from typing import Any

from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.workers.shared_memory import SharedBlock
from clipmod_cli.decode.workers.wire import write_result
from clipmod_cli.types import Failure, Frame, Item, View

HOLD, RELEASE, LONG = b"hold ", b"release", b"long"
"""What a worker says before it answers: it wants pixels of the budget and waits, gives them back, or
has met a video. An answer begins with a brace."""

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_PDEATHSIG = 1
"""Constants of Linux (sched.h, prctl.h) that Python 3.11 has no names for."""

_TOLD = tuple(field.name for field in fields(Item) if field.name != "data")
_told_fields: Callable[[Item], tuple[Any, ...]] = attrgetter(*_TOLD)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimits:
    """Processor and wall time for one item, in seconds."""

    cpu_s: float
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLimits:
    """What one worker may take.

    Attributes:
        memory_bytes: beyond what it has at its start.
        picture: for one picture or animation.
        video: for one video.
        items: after so many it is replaced, since decoders leak.
    """

    memory_bytes: int = 1_500_000_000
    picture: TimeLimits = TimeLimits(cpu_s=30.0, wall_s=60.0)
    video: TimeLimits = TimeLimits(cpu_s=600.0, wall_s=630.0)
    items: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRequest:
    """What is the same for many items, and sent only when it changes.

    Attributes:
        free_pixels: that a worker may decode at once without asking for them.
    """

    views: tuple[View, ...]
    options: DecodeOptions
    free_pixels: int = 0


def serve(
    pipe: Connection,
    lifeline: Connection,
    block: SharedBlock | None,
    limits: WorkerLimits,
    work: Callable[..., Sequence[Frame | Failure]],
    modules: Sequence[str],
) -> None:
    """Answer items until the pipe closes. The whole life of a worker process.

    `modules` are imported before memory is limited.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _hush()
    _leave_network()
    _end_with_parent(lifeline)
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what workers share stays shared, for nobody looks through it again
    _limit_memory(limits)
    _use_one_thread()
    with contextlib.suppress(EOFError, OSError):
        _serve_items(pipe, block, limits, work)


def _serve_items(
    pipe: Connection,
    block: SharedBlock | None,
    limits: WorkerLimits,
    work: Callable[..., Sequence[Frame | Failure]],
) -> None:
    clock = _ProcessorClock()
    orders = DecodeRequest(views=(), options=DecodeOptions())
    while True:
        told, carries, changed = pickle.loads(pipe.recv_bytes())  # noqa: S301 — our parent's own words
        item = item_of(told, pipe.recv_bytes() if carries else None)
        orders = changed or orders
        clock.allow(limits.picture.cpu_s)

        def on_video() -> None:
            pipe.send_bytes(LONG)
            clock.allow(limits.video.cpu_s)

        gate = _gate(pipe, orders.free_pixels)
        result = work(item, orders.views, orders.options, gate=gate, on_video=on_video)
        write_result(result, pipe.send_bytes, block)


def _hush() -> None:
    """Point stderr at nothing: libtiff and others write there about every odd file, by themselves."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _gate(pipe: Connection, free: int) -> Callable[[int], contextlib.AbstractContextManager[None]]:
    @contextmanager
    def hold(pixels: int) -> Iterator[None]:
        if pixels <= free:
            yield
            return
        pipe.send_bytes(HOLD + b"%d" % (pixels - free))
        pipe.recv_bytes()
        try:
            yield
        finally:
            pipe.send_bytes(RELEASE)

    return hold


def _end_with_parent(lifeline: Connection) -> None:
    """End within a moment of the parent's death, also in the midst of an item."""

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            lifeline.recv_bytes()
        os._exit(1)

    if sys.platform == "linux":
        # For a decoder that never lets go of the interpreter: the fork server ends with our parent.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=watch, name="clipmod-lifeline", daemon=True).start()


def _leave_network() -> None:
    """Move to an empty network namespace; goes on without where the system forbids it (docs/security.md)."""
    if sys.platform == "linux":
        # Root keeps its own user namespace, or it would lose the right to read other people's files.
        flags = CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWNET | CLONE_NEWUSER
        ctypes.CDLL(None).unshare(flags)


def _limit_memory(limits: WorkerLimits) -> None:
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def tell_item(item: Item) -> tuple[Any, ...]:
    """Return all of an item but its bytes, as plain values: pickling those takes a tenth of the time."""
    return _told_fields(item)


def item_of(told: tuple[Any, ...], data: bytes | None) -> Item:
    """Return the item that `tell_item` was given, with these bytes."""
    return Item(data=data, **dict(zip(_TOLD, told, strict=True)))


class _ProcessorClock:
    """Ends this process (SIGXCPU) when an item takes too much processor time."""

    def __init__(self) -> None:
        self._until = 0

    def allow(self, cpu_s: float) -> None:
        """Let the process go on for `cpu_s` seconds of processor time from now, to the next whole one."""
        if sys.platform == "win32":
            return
        import resource

        until = int(time.process_time() + cpu_s) + 1
        if until != self._until:
            resource.setrlimit(resource.RLIMIT_CPU, (until, resource.getrlimit(resource.RLIMIT_CPU)[1]))
            self._until = until


def _use_one_thread() -> None:
    """Keep torch, where it is used, from starting a thread for each core in each worker."""
    os.environ["OMP_NUM_THREADS"] = "1"  # for a torch that is imported later
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
