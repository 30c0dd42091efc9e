"""What all endpoints share: models, the device thread, decoders, and the writer of rows.

Blocking code without HTTP, called in threads of requests. `open_service` creates a service.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from clipmod_cli.assemble import ModelChoice, choose, decoding_options, load_models
from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.errors import MissingError
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.models.backends import FALLBACK
from clipmod_cli.models.hub.client import SILENT, DownloadProgress, Hub
from clipmod_cli.output.history.run import HistoryRun, open_rows
from clipmod_cli.pipeline import Options, infer, run, start_decoders
from clipmod_cli.records import Record, to_line, to_record
from clipmod_cli.server.batching.device_thread import DeviceThread, SharedEnsemble
from clipmod_cli.server.batching.fair_queue import Caller
from clipmod_cli.server.configuration import RequestLimits, request_limits_of, with_limits
from clipmod_cli.server.panel import Panel, fallback_of, make_panel, with_stand_in
from clipmod_cli.settings.definition import Settings
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.types import Evidence, Failure, Item, Result, Verdict

log = logging.getLogger(__name__)


class BusyError(Exception):
    """The service is full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedItem:
    """One item's result, its record, and the panel that judged."""

    result: Result
    record: Record
    panel: Panel


@dataclass
class ServiceLoad:
    """The number of requests in progress. Safe to use from any thread."""

    most: int
    now: int = 0
    peak: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @contextmanager
    def one(self) -> Iterator[int]:
        """Count a request for the time of the block, and give the number in progress.

        Raises:
            BusyError: all places are taken.
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
    """The state that all requests share.

    Attributes:
        panel: the models that judge, with their criteria.
        fallback: the panel that judges if a member of `panel` fails; None without one.
        options: how inputs are decoded.
        deadline_s: for one request, unless the endpoint says otherwise.
        watchers: called with every judged item.
    """

    panel: Panel
    fallback: Panel | None
    options: Options
    limits: RequestLimits
    rows: HistoryRun
    device: DeviceThread
    load: ServiceLoad
    deadline_s: float
    watchers: list[Callable[[JudgedItem], None]] = field(default_factory=list)
    started: float = field(default_factory=time.time)
    draining: bool = False
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @property
    def panels(self) -> list[Panel]:
        """The panels that can judge, the one that does first."""
        return [self.panel] if self.fallback is None else [self.panel, self.fallback]

    @property
    def ready(self) -> bool:
        """Whether a new request would be served."""
        return self.device.alive and not self.load.full and not self.draining

    def judge(self, items: Iterable[Item | Failure], caller: Caller) -> Iterator[JudgedItem]:
        """Yield one result for each item, in order, and write its row. `caller` is from `caller_of`."""
        shared = SharedEnsemble(self.device, caller)
        try:
            for result in run(
                items, shared, self.panel.criteria, self.options, stopped=lambda: caller.cancelled
            ):
                judged = self._write(result, self._panel_of(result))
                for watcher in self.watchers:
                    watcher(judged)
                yield judged
        finally:
            caller.cancel()

    def judge_all(
        self, items: Sequence[Item | Failure], *, deadline_s: float | None = None
    ) -> list[JudgedItem]:
        """Return one result for each item, in order; `deadline` failures for items without time left."""
        done = list(self.judge(items, self.caller_of(deadline_s=deadline_s)))
        late = [one if isinstance(one, Failure) else _late(one) for one in items[len(done) :]]
        return done + [self._write(failure, self.panel) for failure in late]

    def caller_of(self, ensemble: Ensemble | None = None, *, deadline_s: float | None = None) -> Caller:
        """Return a caller of the device thread; `judge` and `infer` end it."""
        wait = self.deadline_s if deadline_s is None else deadline_s
        return Caller(ensemble or self.panel.ensemble, time.monotonic() + wait)

    def infer(
        self, items: Iterable[Item | Failure], caller: Caller, options: Options | None = None
    ) -> Iterator[Evidence | Failure]:
        """Yield the evidence of the items' frames, in order, without judging it."""
        try:
            yield from infer(
                items, SharedEnsemble(self.device, caller), options or self.options,
                stopped=lambda: caller.cancelled,
            )  # fmt: skip
        finally:
            caller.cancel()

    def close(self) -> None:
        """End the device thread and the decoders, and finish the rows of this run."""
        self.draining = True
        self.device.close()
        if self.options.decoders is not None:
            self.options.decoders.close()
        self.rows.finish({}, 0)

    def _panel_of(self, result: Result) -> Panel:
        stood_in = isinstance(result, Verdict) and result.deciding.stand_in
        return self.fallback if stood_in and self.fallback is not None else self.panel

    def _write(self, result: Result, panel: Panel) -> JudgedItem:
        record = to_record(result, panel.facts)
        if panel.stand_in and record.status == "ok":
            record = record.model_copy(update={"needs_review": True})
        # rows are keyed by run and index; a request's items count from 0, and all requests are one run
        self.rows.add(to_line(record.model_copy(update={"index": next(self._numbers)})))
        return JudgedItem(result=result, record=record, panel=panel)


def _late(item: Item) -> Failure:
    return Failure(item=item, stage="infer", code="deadline", message="the request's time was up")


SECOND_PATIENCE_S = 2.0
"""Timeout of the hub for the fallback after loading the ensemble failed: both within the promised 10 s."""


def open_service(
    resolved: Resolved,
    choice: ModelChoice,
    policy: Policy,
    hub: Hub,
    *,
    command: str,
    progress: DownloadProgress | None = None,
) -> Service:
    """Return a service whose models are loaded and whose device thread runs.

    Raises:
        MissingError: if weights or a package are missing and cannot be downloaded.
        BlindModelError: if a model does not cover an UNSAFE category and that is not allowed.
    """
    settings = resolved.settings
    limits = request_limits_of(settings)
    options = decoding_options(settings, heic=settings.heic)
    options = replace(options, decode=with_limits(options.decode, limits))
    options = replace(options, decoders=start_decoders(options))
    ensemble, criteria, stand_in = _load(settings, choice, policy, hub, progress or SILENT)
    ensemble = with_stand_in(ensemble)
    panel = make_panel(ensemble, criteria, options.decode, stand_in=stand_in)
    service = Service(
        panel=panel,
        fallback=fallback_of(panel, options.decode),
        options=options,
        limits=limits,
        rows=open_rows(settings, panel.facts, [m.model.spec for m in ensemble.members], command),
        device=DeviceThread(),
        load=ServiceLoad(settings.max_requests),
        deadline_s=settings.deadline,
    )
    service.device.start()
    return service


def _load(
    settings: Settings, choice: ModelChoice, policy: Policy, hub: Hub, progress: DownloadProgress
) -> tuple[Ensemble, Criteria, bool]:
    """Return the models, and whether they replace an ensemble that cannot be loaded."""
    try:
        return *load_models(settings, choice, policy, hub, progress), False
    except MissingError as error:
        if len(choice.members) < 2:
            raise
        log.warning("the ensemble cannot be loaded (%s); the fallback judges, and all needs review", error)
        fallback = replace(choose([FALLBACK], policy, hub), degraded=True)
        asked_again = replace(hub, timeout_s=min(hub.timeout_s, SECOND_PATIENCE_S))
        return *load_models(settings, fallback, policy, asked_again, progress), True
