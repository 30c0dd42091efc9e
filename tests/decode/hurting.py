"""Decoders that misbehave in the ways a taken-over or broken one does; run inside worker processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.results import Settled
from clipmod_cli.types import Failure, Frame, Geometry, Item

Decoded = list[Frame | Settled]

FOR_EVER_S = 600
"""Longer than any limit and any patience: only being ended ends what lasts so long."""

NAP_S = 7
"""Longer than a picture may take where a test says so, and far shorter than a film may."""

LIES: dict[str, tuple[bytes, ...]] = {
    "word": (b"good day",),
    "nothing": (b"",),
    "negative": (b"hold -5",),
    "number": (b"hold many",),
    "twice": (b"hold 5000000", b"hold 5000000"),
    "unheld": (b"release",),
    "pickle": (b"\x80\x04\x95",),
    "header": (b"{" + b" " * 2_000_000,),
    "deep": (b"{" + b'"a":{' * 100_000,),
}
"""What a worker that was taken over says, by name."""


def misbehave(  # noqa: C901 — a list of ills
    item: Item, geometries: Sequence[Geometry], options: DecodeOptions, **gate: Any
) -> Decoded:
    """Do what the item's name says, or decode it."""
    match item.source.rpartition("/")[2].partition(".")[0]:
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "terminated":
            os.kill(os.getpid(), signal.SIGTERM)
        case "hung up":
            os.kill(os.getpid(), signal.SIGHUP)
        case "exit":
            os._exit(3)
        case "nap":
            return decode_item(item, geometries, options, gate=gate["gate"], on_video=lambda: _nap(gate))
        case "cut":
            return [_said(item, _cut_block())]
        case "lie":
            _say(gate["gate"], LIES[item.source.rpartition("/")[2].split(".")[1]])
            time.sleep(FOR_EVER_S)
        case "half":
            os.write(_pipe_of(gate["gate"]).fileno(), struct.pack("!i", 1000) + b"{")
            time.sleep(FOR_EVER_S)
        case "sleep":
            _begin(item)
            time.sleep(FOR_EVER_S)
        case "spin":
            _begin(item)
            while True:
                pass
        case "eat":
            return [_said(item, f"ate {len(bytearray(3_000_000_000))}")]
        case "network":
            return [_said(item, _network())]
        case "descriptors":
            return [_said(item, " ".join(sorted(_open_files())))]
        case "pid":
            return [_said(item, str(os.getpid()))]
    return decode_item(item, geometries, options, **gate)


def _nap(gate: dict[str, Any]) -> None:
    gate["on_video"]()
    time.sleep(NAP_S)


def begun(source: str) -> Path:
    """Return where a worker leaves a file once it is in the midst of this item."""
    return Path(f"{source}.begun")


def _begin(item: Item) -> None:
    begun(item.source).touch()


def tell_modules(item: Item, *_: object, **__: object) -> Decoded:
    """Say which libraries of models this worker has imported."""
    return [_said(item, " ".join(name for name in ("torch", "torchvision", "cv2") if name in sys.modules))]


def _said(item: Item, text: str) -> Failure:
    return Failure(item=item, stage="decode", code="internal_error", message=text)


def _network() -> str:
    with socket.socket() as connection:
        connection.settimeout(1)
        try:
            connection.connect(("127.0.0.1", int(os.environ["CANARY_PORT"])))
        except OSError as e:
            return f"refused {e.errno}"
    return "connected"


def _open_files() -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(link.readlink()))
    return found


def _pipe_of(gate: Any) -> Connection:
    """Return the pipe to the parent, which the gate has."""
    cells = (cell.cell_contents for cell in gate.__wrapped__.__closure__)
    return next(cell for cell in cells if isinstance(cell, Connection))


def _say(gate: Any, messages: Sequence[bytes]) -> None:
    for message in messages:
        _pipe_of(gate).send_bytes(message)


def _cut_block() -> str:
    """Try to cut, grow and open up the memory that is shared with the parent."""
    block, *_ = (
        int(link.name) for link in Path("/proc/self/fd").iterdir() if "clipmod-pixels" in _target(link)
    )
    tries = (
        lambda: os.ftruncate(block, 0),
        lambda: os.ftruncate(block, 1 << 30),
        lambda: fcntl.fcntl(block, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
    )
    return " ".join(_refusal(attempt) for attempt in tries)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _refusal(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as e:
        return errno.errorcode[e.errno or 0]
    return "done"
