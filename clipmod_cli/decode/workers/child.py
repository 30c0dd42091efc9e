"""The main loop of a decode worker: takes items from a pipe, decodes them within limits, sends pixels back.

A worker has no open file of its parent, no network where the system allows it to drop that, and ends with
its parent. `pool` starts and replaces it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from multiprocessing.connection import Connection
from operator import attrgetter
from pathlib import Path
from typing import Any

from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.workers.shared_memory import SharedBlock
from clipmod_cli.results import BankDecision, BankVerdict, Settled
from clipmod_cli.types import Failure, Frame, Geometry, Item

HOLD, RELEASE, VIDEO, HASH = b"hold ", b"release", b"video", b"hash "
"""Messages before the result: take pixels of the budget (and wait), give them back, the item is a video, ask
whether banks decide for its SHA-256. A result begins with a brace."""

GO, STOP = b"go", b"stop"
"""Answers to HOLD and HASH: go on, or end without decoding."""

MAX_TEXT = 10_000
"""Characters of an error message."""

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_PDEATHSIG = 1
"""Constants of Linux (sched.h, prctl.h) that Python 3.11 has no names for."""

_ITEM_FIELDS = tuple(field.name for field in fields(Item) if field.name != "data")

pack_item: Callable[[Item], tuple[Any, ...]] = attrgetter(*_ITEM_FIELDS)
"""All of an item but its bytes, as plain values: pickling those takes a tenth of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimits:
    """Processor and wall time for one item, in seconds."""

    cpu_s: float
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLimits:
    """Limits of one worker.

    Attributes:
        memory_bytes: beyond what it has at its start.
        picture: for one picture or animation.
        video: for one video.
        items: after so many the worker is replaced, since decoders leak.
    """

    memory_bytes: int = 1_500_000_000
    picture: TimeLimits = TimeLimits(cpu_s=30.0, wall_s=60.0)
    video: TimeLimits = TimeLimits(cpu_s=600.0, wall_s=630.0)
    items: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRequest:
    """What is the same for many items, and sent only when it changes.

    Attributes:
        free_pixels: that a worker may decode at once without HOLD.
        asks: whether there are banks to ask with HASH.
    """

    geometries: tuple[Geometry, ...]
    options: DecodeOptions
    free_pixels: int = 0
    asks: bool = False


def serve(
    pipe: Connection,
    parent_death: Connection,
    block: SharedBlock | None,
    limits: WorkerLimits,
    work: Callable[..., Sequence[Frame | Settled]],
    modules: Sequence[str],
) -> None:
    """Decode items until the pipe closes; the entry point of a worker process.

    `modules` are imported before memory is limited.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _silence_stderr()
    _drop_network()
    _exit_with_parent(parent_death)
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection would write to, and so copy, pages shared with the fork server
    _limit_memory(limits)
    _use_one_thread()
    with contextlib.suppress(EOFError, OSError):
        _serve_items(pipe, block, limits, work)


def _serve_items(
    pipe: Connection,
    block: SharedBlock | None,
    limits: WorkerLimits,
    work: Callable[..., Sequence[Frame | Settled]],
) -> None:
    cpu = _CpuLimit()
    request = DecodeRequest(geometries=(), options=DecodeOptions())
    while True:
        packed, has_data, changed = pickle.loads(pipe.recv_bytes())  # noqa: S301 — written by our parent
        data = pipe.recv_bytes() if has_data else None
        item = Item(data=data, **dict(zip(_ITEM_FIELDS, packed, strict=True)))
        request = changed or request
        cpu.allow(limits.picture.cpu_s)

        def on_video() -> None:
            pipe.send_bytes(VIDEO)
            cpu.allow(limits.video.cpu_s)

        gate = _gate(pipe, request.free_pixels)
        optional = {"compare": partial(_ask, pipe)} if request.asks else {}
        result = work(item, request.geometries, request.options, gate=gate, on_video=on_video, **optional)
        write_result(result, pipe.send_bytes, block)


_OF_PARENT = BankDecision(decided_by="deny", matches=())
"""Stands for what the banks of the parent decide, which a worker does not know."""


def _ask(pipe: Connection, sha256: str) -> BankDecision | None:
    pipe.send_bytes(HASH + sha256.encode())
    return _OF_PARENT if pipe.recv_bytes() == STOP else None


def write_result(
    result: Sequence[Frame | Settled], send: Callable[[bytes], None], block: SharedBlock | None = None
) -> None:
    """Send the frames and the failure of one item, as `wire` reads them; pixels in the block if they fit."""
    frames = [one for one in result if isinstance(one, Frame)]
    failures = [one for one in result if isinstance(one, Failure)]
    media = next((one.media for one in reversed(result) if one.media is not None), None)
    arrays = [array for frame in frames for array in frame.inputs.values()]
    shared = block is not None and block.write(arrays)
    header = {
        "media": None if media is None else asdict(media),
        "frames": [
            [*(f.number, f.time_s, f.last), *(f.view.box, f.view.reading, f.view.scale), _shapes(f)]
            for f in frames
        ],
        # a surrogate, as of a file's name, cannot be sent
        "failures": [
            [f.code, f.message[:MAX_TEXT].encode(errors="replace").decode(), f.stage] for f in failures
        ],
        "shared": shared,
        "stopped": any(isinstance(one, BankVerdict) for one in result),
    }
    send(json.dumps(header).encode())
    for array in () if shared else arrays:
        send(array.tobytes())


def _shapes(frame: Frame) -> list[tuple[int, ...]]:
    return [pixels.shape[:2] for pixels in frame.inputs.values()]


def _silence_stderr() -> None:
    """Point stderr at the null device: libtiff and others print warnings about odd files."""
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


def _exit_with_parent(parent_death: Connection) -> None:
    """Exit soon after the parent's death, also while an item is decoded."""

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            parent_death.recv_bytes()
        os._exit(1)

    if sys.platform == "linux":
        # For a decoder that never releases the GIL: the fork server ends with our parent.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=watch, name="clipmod-parent-death", daemon=True).start()


def _drop_network() -> None:
    """Move to an empty network namespace; no error where the system forbids it (docs/security.md)."""
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


class _CpuLimit:
    """Ends this process (SIGXCPU) when an item takes too much processor time."""

    def __init__(self) -> None:
        self._until = 0

    def allow(self, cpu_s: float) -> None:
        """Allow `cpu_s` more seconds of processor time, rounded up."""
        if sys.platform == "win32":
            return
        import resource

        until = int(time.process_time() + cpu_s) + 1
        if until != self._until:
            resource.setrlimit(resource.RLIMIT_CPU, (until, resource.getrlimit(resource.RLIMIT_CPU)[1]))
            self._until = until


def _use_one_thread() -> None:
    """Keep torch from starting a thread for each core in each worker."""
    os.environ["OMP_NUM_THREADS"] = "1"  # for a later import of torch
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
