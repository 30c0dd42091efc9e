"""Work done ahead by a few threads, in the order of what it is done on, within a budget of bytes.

Knows nothing of stores. A slow producer holds no finished result back, and no thread outlives the
iteration by more than the work it has begun.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

G = TypeVar("G")
R = TypeVar("R")


class ByteBudget:
    """A number of bytes that may be held at once. More than all of it is had by who holds it alone.

    Taken by one thread, in the order in which it is given back: so nobody waits for who comes later.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._changed = threading.Condition()
        self._shut = False

    def take(self, amount: int) -> None:
        """Wait until this much is free, and take it."""
        with self._changed:
            self._changed.wait_for(lambda: self._shut or not self._held or self._held + amount <= self._most)
            self._held += amount

    def give(self, amount: int) -> None:
        """Give back what was taken."""
        with self._changed:
            self._held -= amount
            self._changed.notify_all()

    def shut(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._shut = True
            self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class _End:
    """Nothing follows; `error` is what the producer raised, if it did."""

    error: BaseException | None


class Prefetch(Generic[G, R]):
    """The results of `work` on each of `given`, in their order; to be iterated once.

    Args:
        given: pulled in a thread of its own.
        work: never raises, unless the run is to end.
        threads: how many work at once.
        ahead: how many are begun, at most, before their results are taken.
        cost: the bytes that a result will hold until it is taken.
        most_bytes: of all of them.
    """

    def __init__(
        self,
        given: Iterable[G],
        work: Callable[[G], R],
        *,
        threads: int,
        ahead: int,
        cost: Callable[[G], int] = lambda _: 0,
        most_bytes: int = 0,
    ) -> None:
        self._given = given
        self._work = work
        self._cost = cost
        self._threads = threads
        self._budget = ByteBudget(most_bytes)
        self._free = threading.Semaphore(ahead)
        self._left = threading.Event()
        self._begun: queue.SimpleQueue[tuple[G, Future[R]] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Future[R], int] | _End] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[R]:
        """Yield the results; what the producer or the work raises is raised in its place."""
        threading.Thread(target=self._feed, name="clipmod-ahead-feed", daemon=True).start()
        try:
            while not isinstance(got := self._results.get(), _End):
                future, cost = got
                result = future.result()
                self._free.release()
                self._budget.give(cost)
                yield result
            if got.error is not None:
                raise got.error
        finally:
            self._left.set()
            self._free.release()
            self._budget.shut()

    def _feed(self) -> None:
        error: BaseException | None = None
        iterator = iter(self._given)
        begun = 0
        try:
            while self._has_room() and (one := next(iterator, None)) is not None:
                cost = self._cost(one)
                self._budget.take(cost)
                if self._left.is_set():
                    break
                future: Future[R] = Future()
                self._results.put((future, cost))
                self._begun.put((one, future))
                if begun < self._threads:
                    begun += 1
                    # Daemons: the program's end must not wait for a server that does not answer.
                    threading.Thread(target=self._do, name="clipmod-ahead", daemon=True).start()
        except BaseException as e:  # noqa: BLE001 — it is raised again in the consumer's thread
            error = e
        finally:
            self._results.put(_End(error))
            for _ in range(begun):
                self._begun.put(None)
            if isinstance(iterator, Generator):
                iterator.close()

    def _do(self) -> None:
        while (got := self._begun.get()) is not None and not self._left.is_set():
            one, future = got
            try:
                future.set_result(self._work(one))
            except BaseException as e:  # noqa: BLE001 — it is raised again in the consumer's thread
                future.set_exception(e)

    def _has_room(self) -> bool:
        self._free.acquire()
        return not self._left.is_set()
