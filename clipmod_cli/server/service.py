"""What all endpoints share: who judges, the thread that measures, the decoders, and where rows go.

Blocking code, called in threads of requests; knows nothing of HTTP. `clipmod_cli.server.app` opens
and closes it.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.output.history.rows import RowSink
from clipmod_cli.pipeline import Options, infer, run
from clipmod_cli.records import Record, to_line, to_record
from clipmod_cli.server.batching.device_thread import DeviceThread, SharedEnsemble
from clipmod_cli.server.batching.fair_queue import Caller
from clipmod_cli.server.panel import Panel
from clipmod_cli.server.request_limits import RequestLimits
from clipmod_cli.types import Evidence, Failure, Item, Result, Verdict

log = logging.getLogger(__name__)


class BusyError(Exception):
    """As many requests are under way as the service takes; come again soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedItem:
    """One item's end.

    Attributes:
        panel: who judged.
    """

    result: Result
    record: Record
    panel: Panel


@dataclass
class ServiceLoad:
    """How many requests are under way. Safe to use from any thread."""

    most: int
    now: int = 0
    peak: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @contextmanager
    def one(self) -> Iterator[int]:
        """Count a request for the time of the block; gives how many there are.

        Raises:
            BusyError: if there are as many as may be.
        """
        with self._lock:
            if self.now >= self.most:
                raise BusyError
            self.now += 1
            self.peak = max(self.peak, self.now)
            count = self.now
        try:
            yield count
        finally:
            with self._lock:
                self.now -= 1

    @property
    def full(self) -> bool:
        """Whether one more would be refused."""
        return self.now >= self.most


@dataclass(kw_only=True)
class Service:
    """Everything that is made once and shared by all requests.

    Attributes:
        panel: who judges.
        fallback: who judges where a member of the panel fails; None where nobody is left.
        options: how inputs are decoded.
        deadline_s: for one request, unless the endpoint says otherwise.
        watchers: called with every judged item.
    """

    panel: Panel
    fallback: Panel | None
    options: Options
    limits: RequestLimits
    rows: RowSink
    device: DeviceThread
    load: ServiceLoad
    deadline_s: float
    watchers: list[Callable[[JudgedItem], None]] = field(default_factory=list)
    started: float = field(default_factory=time.time)
    draining: bool = False
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @property
    def ready(self) -> bool:
        """Whether a request that came now would be served."""
        return self.device.alive and not self.load.full and not self.draining

    def judge(self, items: Iterable[Item | Failure], caller: Caller) -> Iterator[JudgedItem]:
        """Yield one result for each item, in order, and keep its row. `caller` comes from `caller_of`."""
        shared = SharedEnsemble(self.device, caller)
        try:
            for result in run(
                items, shared, self.panel.criteria, self.options, stopped=lambda: caller.cancelled
            ):
                judged = self._write(result, self._who_judged(result))
                for watcher in self.watchers:
                    watcher(judged)
                yield judged
        finally:
            caller.cancel()

    def judge_all(
        self, items: Sequence[Item | Failure], *, deadline_s: float | None = None
    ) -> list[JudgedItem]:
        """Return one result for each item, in order; those that time was too short for get `deadline`."""
        done = list(self.judge(items, self.caller_of(deadline_s=deadline_s)))
        late = [one if isinstance(one, Failure) else _late(one) for one in items[len(done) :]]
        return done + [self._write(failure, self.panel) for failure in late]

    def caller_of(self, ensemble: Ensemble | None = None, *, deadline_s: float | None = None) -> Caller:
        """Return one request's place with the measuring thread; `judge` and `look` end it."""
        wait = self.deadline_s if deadline_s is None else deadline_s
        return Caller(ensemble or self.panel.ensemble, time.monotonic() + wait)

    def look(
        self, items: Iterable[Item | Failure], caller: Caller, options: Options | None = None
    ) -> Iterator[Evidence | Failure]:
        """Yield what the caller's ensemble sees in the frames of the items, unjudged, in order."""
        try:
            yield from infer(
                items, SharedEnsemble(self.device, caller), options or self.options,
                stopped=lambda: caller.cancelled,
            )  # fmt: skip
        finally:
            caller.cancel()

    def close(self) -> None:
        """End the measuring thread, the decoders and the run's rows."""
        self.draining = True
        self.device.close()
        if self.options.decoders is not None:
            self.options.decoders.close()
        self.rows.finish({}, 0)

    def _who_judged(self, result: Result) -> Panel:
        stood_in = isinstance(result, Verdict) and result.deciding.stand_in
        return self.fallback if stood_in and self.fallback is not None else self.panel

    def _write(self, result: Result, panel: Panel) -> JudgedItem:
        record = to_record(result, panel.facts)
        if panel.stand_in and record.status == "ok":
            record = record.model_copy(update={"needs_review": True})
        # A request's items count from 0, and rows are known by run and number: here one run is all requests.
        self.rows.add(to_line(record.model_copy(update={"index": next(self._numbers)})))
        return JudgedItem(result=result, record=record, panel=panel)


def _late(item: Item) -> Failure:
    return Failure(item=item, stage="infer", code="deadline", message="the request's time was up")
