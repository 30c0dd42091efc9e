"""One object a process, opened at first use. A forked process opens its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Opens an object once in each process, whichever thread asks first. Safe to use from any thread.

    Web servers load an application and then fork their workers. Threads, worker processes and sessions of
    onnxruntime or torch do not survive that, so the child never touches those of its parent.
    """

    def __init__(self, open_one: Callable[[], T]) -> None:
        """Open nothing yet."""
        self._open = open_one
        self._lock = threading.Lock()
        self._value: T | None = None
        self._parents: list[T] = []  # kept: finalizers would stop what the parent still uses
        _ALL.add(self)

    def get(self) -> T:
        """Return the object of this process; opens it, and raises what that raises."""
        with self._lock:
            if self._value is None:
                self._value = self._open()
            return self._value

    def take(self) -> T | None:
        """Return the object if it is open, for the caller to close; the next `get` opens another one."""
        with self._lock:
            value, self._value = self._value, None
            return value

    def on_fork(self) -> None:
        """Leave the parent's object alone; a thread that held the lock does not exist in this process."""
        self._lock = threading.Lock()
        if self._value is not None:
            self._parents.append(self._value)
            self._value = None


_ALL: WeakSet[PerProcess[Any]] = WeakSet()


def _on_fork() -> None:
    for one in list(_ALL):
        one.on_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_on_fork)
