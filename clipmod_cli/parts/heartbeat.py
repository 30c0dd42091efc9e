"""Heartbeat files: a process rewrites its file while it works, so that others see when it was lost.

A process is lost if it ran on this machine and has ended, or if its file was not written for `LOST_AFTER_S`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self, TypeGuard

from clipmod_cli.errors import ClipmodError, DeviceLostError, OutputError
from clipmod_cli.parts.store import PartStore

BEAT_S: Final = 20.0
LOST_AFTER_S: Final = 90.0
"""Four beats: a store may be slow, and a machine may be busy."""


def this_process() -> dict[str, Any]:
    """Return what identifies this process among those of all machines."""
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name  # containers may share a host's name
    except OSError:
        namespace = ""
    return {"host": socket.gethostname(), "namespace": namespace, "pid": os.getpid()}


def _is_gone(holder: dict[str, Any]) -> bool:
    """Return whether a process had a fault, or ran on this machine and does not any more."""
    here = this_process()
    if holder.get("pid") is None:
        return True
    if sys.platform == "win32" or any(holder.get(name) != here[name] for name in ("host", "namespace")):
        return False
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return False


class HeartbeatFile:
    """A file of this process in a store, with the fields of `this_process` and others."""

    def __init__(self, store: PartStore, name: str, content: bytes) -> None:
        """Begin to keep a file fresh that this process has just written."""
        self._store, self._name, self._content = store, name, content
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.is_lost = False
        self._thread = threading.Thread(target=self._beat, name="clipmod-heartbeat", daemon=True)
        self._thread.start()

    @classmethod
    def create(cls, store: PartStore, name: str, **fields: Any) -> Self | None:
        """Create the file; return None if there is one of this name."""
        content = _content(fields)
        return cls(store, name, content) if store.create(name, content) else None

    @classmethod
    def take(cls, store: PartStore, name: str, **fields: Any) -> Self | None:
        """Create the file, or take the place of a lost process; None if another process holds it."""
        if (held := cls.create(store, name, **fields)) is not None:
            return held
        before = store.read(name)
        if before is None or not is_lost(store, name, before):
            return None
        content = _content(fields)
        return cls(store, name, content) if store.replace(name, before, content) else None

    def set(self, **fields: Any) -> None:
        """Write other values of some fields.

        Raises:
            OutputError: the file cannot be written.
        """
        with self._lock:
            self._replace(_with_next_beat(self._content, fields))

    def check(self) -> None:
        """Raise OutputError if another process has taken the file."""
        with self._lock:
            self._replace(_with_next_beat(self._content))
        if self.is_lost:
            raise OutputError(
                f"another process has taken over {self._store.name}{self._name}. Give the command again"
            )

    def __enter__(self) -> Self:
        """Do nothing more."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Delete the file if it is still this process's; a fault leaves it, as that of a lost process."""
        self._closed.set()
        self._thread.join()
        is_fault = isinstance(error, Exception) and (
            isinstance(error, DeviceLostError) or not isinstance(error, ClipmodError)
        )
        with contextlib.suppress(OutputError):
            if is_fault:
                self._replace(_with_next_beat(self._content, {"pid": None}))
            elif not self.is_lost:
                self._store.delete(self._name)

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_S) and not self.is_lost:
            with self._lock, contextlib.suppress(OutputError):  # the next beat may reach the store
                self._replace(_with_next_beat(self._content))

    def _replace(self, content: bytes) -> None:
        """Write the content, unless another process has taken the file."""
        if self.is_lost:
            return
        if not self._store.replace(self._name, self._content, content):
            # A write that failed may have taken place all the same: then the file is still this process's.
            found = self._store.read(self._name)
            self.is_lost = not self._is_own(found) or not self._store.replace(self._name, found, content)
        if not self.is_lost:
            self._content = content

    def _is_own(self, found: bytes | None) -> TypeGuard[bytes]:
        """Return whether this object has written a content of the file."""
        with contextlib.suppress(ValueError):
            holder, own = json.loads(found or b"null"), json.loads(self._content)
            return isinstance(holder, dict) and all(holder.get(key) == own[key] for key in ("pid", "holder"))
        return False


def is_lost(store: PartStore, name: str, content: bytes) -> bool:
    """Return whether the process that wrote this content of a file does not run any more."""
    try:
        holder = json.loads(content)
    except ValueError:
        return True
    age_s = store.age_s(name)
    return not isinstance(holder, dict) or _is_gone(holder) or (age_s is not None and age_s > LOST_AFTER_S)


def mark_lost(store: PartStore, folder: str, process: Mapping[str, Any]) -> None:
    """Mark the files of a folder whose process is known to have ended, before they grow old.

    Args:
        store: holds the files.
        folder: of heartbeat files.
        process: of `this_process`.
    """
    for name in store.list(folder):
        content = store.read(name)
        if content is None or is_lost(store, name, content):
            continue
        holder = json.loads(content)
        if all(holder.get(key) == process[key] for key in ("host", "namespace", "pid")):
            store.replace(name, content, json.dumps({**holder, "pid": None}).encode())


def _content(fields: Mapping[str, Any]) -> bytes:
    return json.dumps({**this_process(), **fields, "holder": uuid.uuid4().hex, "beat": 0}).encode()


def _with_next_beat(content: bytes, fields: Mapping[str, Any] = MappingProxyType({})) -> bytes:
    """Return a content with some other fields and the next beat, for no two contents of a file are equal."""
    before = json.loads(content)
    return json.dumps({**before, **fields, "beat": before["beat"] + 1}).encode()
