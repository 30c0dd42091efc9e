"""Decoders that misbehave in the ways a taken-over or broken one does; run inside worker processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.picture import decode_item
from clipmod_cli.types import Failure, Frame, Item, View

Decoded = list[Frame | Failure]


def misbehave(  # noqa: C901 — a list of ills
    item: Item, views: Sequence[View], options: DecodeOptions, **gate: Any
) -> Decoded:
    """Do what the item's name says, or decode it."""
    match item.source.rpartition("/")[2].partition(".")[0]:
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exit":
            os._exit(3)
        case "sleep":
            time.sleep(60)
        case "spin":
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
    return decode_item(item, views, options, **gate)


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
