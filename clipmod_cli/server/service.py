"""What all endpoints share: models, the device thread, decoders, and the writer of rows.

Blocking code without HTTP, called in threads of requests. `open_service` creates a service.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from clipmod_cli.assemble import banks_of, decoding_options, load_models
from clipmod_cli.banks.watch import UNWATCHED, BankWatch, watch_banks
from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.errors import MissingError, SettingsError, UsageError
from clipmod_cli.judge.choice import ModelChoice, choose
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.policy.reading import load_policy
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.models.backends import FALLBACK as FALLBACK_SPEC
from clipmod_cli.models.hub.client import SILENT, DownloadProgress, Hub
from clipmod_cli.output.history.run import HistoryRun, open_rows
from clipmod_cli.pipeline import Options, infer, run, start_decoders
from clipmod_cli.records import Record, to_line, to_record
from clipmod_cli.results import BankVerdict, Result, Settled
from clipmod_cli.server.configuration import RequestLimits, request_limits_of
from clipmod_cli.server.device_thread import Caller, DeviceThread, Ending, SharedEnsemble
from clipmod_cli.server.fairness.callers import current_caller
from clipmod_cli.server.fairness.places import ServiceLoad
from clipmod_cli.server.panels import Panel, RequestPanels, panels_of, with_stand_in
from clipmod_cli.server.readiness.follow import Readiness, pass_limit_of
from clipmod_cli.server.readiness.reference import LineCheck
from clipmod_cli.settings.definition import Settings
from clipmod_cli.settings.reading import Resolved
from clipmod_cli.types import UNSEEN_REASONS, Evidence, Failure, Item, ReviewReason, UnseenReason, Verdict

log = logging.getLogger(__name__)


MAX_REQUEST_VIEWS = 256
"""Views of one input that are scored at most: a request is to be answered soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedItem:
    """One item's result, its record, and the panel that judged.

    Attributes:
        latency_ms: from when its bytes were there to its verdict, waiting for decoders and models included.
        refused: by which reasons it is answered as an error although it was judged; empty for an answer.
    """

    result: Result
    record: Record
    panel: Panel
    latency_ms: float
    refused: tuple[UnseenReason, ...] = ()


@dataclass(kw_only=True)
class Service:
    """The state that all requests share.

    Attributes:
        panel: the models that judge, with their criteria.
        fallback: the panel that judges if a member of `panel` fails; None without one.
        options: how inputs are decoded.
        by_policy: what judges a request that asks for another policy, by its name.
        deadline_s: for one request, unless the endpoint says otherwise.
        unseen: the answer to an item that would be Safe and of which something was not looked at.
        banks: content that is always NSFW or Safe; read again when its files change.
        load: the places of requests that are judged.
        downloads: those of requests whose URLs are downloaded, before they are judged.
        readiness: whether the line works.
        ending: when the time of all requests is up.
        watchers: called with every judged item.
        draining: no new request is judged, since the service is ending.
    """

    panel: Panel
    fallback: Panel | None
    options: Options
    limits: RequestLimits
    rows: HistoryRun
    device: DeviceThread
    load: ServiceLoad
    downloads: ServiceLoad
    deadline_s: float
    unseen: Literal["error", "flag", "safe"]
    readiness: Readiness
    ending: Ending
    by_policy: Mapping[str, RequestPanels] = field(default_factory=dict)
    banks: BankWatch = UNWATCHED
    watchers: list[Callable[[JudgedItem], None]] = field(default_factory=list)
    started: float = field(default_factory=time.time)
    draining: bool = False
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @property
    def panels(self) -> list[Panel]:
        """The panels that can judge, the one that does first."""
        return [self.panel] if self.fallback is None else [self.panel, self.fallback]

    @property
    def default(self) -> RequestPanels:
        """What judges a request that asks for nothing else."""
        return RequestPanels(panel=self.panel, fallback=self.fallback, options=self.options)

    @property
    def ready(self) -> bool:
        """Whether a new request would be served."""
        return self.unready_reason is None

    @property
    def unready_reason(self) -> str | None:
        """Why a new request would not be served, in words for any caller; None if it would."""
        if self.draining:
            return "the service is ending"
        full = f"all {self.load.most} places for requests are taken" if self.load.full else None
        return self.readiness.fault or full

    def judge(
        self, items: Iterable[Item | Failure], caller: Caller, panels: RequestPanels | None = None
    ) -> Iterator[JudgedItem]:
        """Yield one result for each item, in order, and write its row.

        Args:
            items: the inputs.
            caller: from `caller_of`.
            panels: what judges them; None for `default`.
        """
        panels = panels or self.default
        shared, clock = SharedEnsemble(self.device, caller), _ItemClock()
        try:
            for result in run(
                clock.started(items),
                shared,
                panels.panel.criteria,
                self.options_for(caller, panels.options),
                stopped=lambda: caller.cancelled,
                banks=self.banks.current(),
            ):
                if not isinstance(result, BankVerdict):
                    self.readiness.note(result.code if isinstance(result, Failure) else None)
                judged = self._write(result, panels, clock.latency_ms(result.item))
                for watcher in self.watchers:
                    watcher(judged)
                yield judged
        finally:
            caller.cancel()

    def caller_of(self, ensemble: Ensemble | None = None, *, deadline_s: float | None = None) -> Caller:
        """Return a caller of the device thread; `judge` and `infer` end it."""
        wait = self.deadline_s if deadline_s is None else deadline_s
        deadline = time.monotonic() + wait
        return Caller(ensemble or self.panel.ensemble, deadline, self.ending, current_caller() or None)

    def options_for(self, caller: Caller, options: Options | None = None) -> Options:
        """Return the options by which this caller's items are decoded, in turn with those of others."""
        options = options or self.options
        decoders = options.decoders
        return options if decoders is None else replace(options, decoders=decoders.shared_by(caller.sent_by))

    def infer(
        self, items: Iterable[Item | Failure], caller: Caller, options: Options | None = None
    ) -> Iterator[Evidence | Settled]:
        """Yield the evidence of the items' frames, in order, without judging it; of denied items none."""
        try:
            for seen in infer(
                items, SharedEnsemble(self.device, caller), self.options_for(caller, options),
                stopped=lambda: caller.cancelled, banks=self.banks.current().denying,
            ):  # fmt: skip
                if isinstance(seen, Failure):  # evidence says nothing of the panel's models
                    self.readiness.note(seen.code)
                yield seen
        finally:
            caller.cancel()

    def drain(self, within_s: float) -> None:
        """Judge no new request; those in progress have so many seconds. A signal's handler may call it."""
        self.ending.at = time.monotonic() + within_s
        self.draining = True

    def close(self) -> None:
        """End the device thread and the decoders, and finish the rows of this run."""
        self.draining = True
        self.ending.at = 0.0
        self.readiness.close()
        self.device.close()
        if self.options.decoders is not None:
            self.options.decoders.close()
        self.rows.finish({}, 0)

    def _write(self, result: Result, panels: RequestPanels, latency_ms: float) -> JudgedItem:
        stood_in = isinstance(result, Verdict) and result.deciding.stand_in
        panel = panels.fallback if stood_in and panels.fallback is not None else panels.panel
        record = to_record(result, panel.facts)
        if panel.stand_in and record.decided_by == "models":
            reasons: list[ReviewReason] = [*(record.review_reasons or ()), "fallback_model"]
            record = record.model_copy(update={"needs_review": True, "review_reasons": reasons})
        # rows are keyed by run and index; a request's items count from 0, and all requests are one run
        self.rows.add(to_line(record.model_copy(update={"index": next(self._numbers)})))
        if isinstance(result, BankVerdict):
            record = with_scores(record, panel.policy)
        refused = unseen_reasons(record) if self.unseen != "safe" else ()
        if refused and self.unseen == "flag":
            refused, record = (), record.model_copy(update={"final_decision": "NSFW"})
        return JudgedItem(result=result, record=record, panel=panel, latency_ms=latency_ms, refused=refused)


@dataclass(slots=True)
class _ItemClock:
    """When the items of one request went into the pipeline, by their index."""

    _since: dict[int, float] = field(default_factory=dict)

    def started(self, items: Iterable[Item | Failure]) -> Iterator[Item | Failure]:
        for one in items:
            item = one.item if isinstance(one, Failure) else one
            self._since[item.index] = time.perf_counter()
            yield one

    def latency_ms(self, item: Item) -> float:
        return round((time.perf_counter() - self._since.pop(item.index)) * 1000, 3)


def with_scores(record: Record, policy: Policy) -> Record:
    """Return the record of a bank's verdict with what answers print of every picture: scores of 0 and 1.

    The category is that of an entry's type, if the policy has one of this name and side; else the policy's
    most severe one (NSFW) or its mildest (Safe).
    """
    safety = "UNSAFE" if record.final_decision == "NSFW" else "SAFE"
    names = [category.name for category in policy.categories if category.safety == safety]
    types = {match.type for match in record.matches or ()}
    typed = [name for name in names if name in types]
    category = (typed or names[::-1] if safety == "UNSAFE" else typed or names)[:1]
    shares = {one.name: float(one.name in category) for one in policy.categories}
    return record.model_copy(
        update={
            "degraded": False,
            "confidence": 1.0,
            "unsafe_score": float(safety == "UNSAFE"),
            "ensemble_category": category[0] if category else "",
            "category_ensemble_probabilities": shares,
            "model_agreement": 1.0,
            "models_used": [],
            "per_model_predictions": {},
            "views_scored": 0,
        }
    )


def unseen_reasons(record: Record) -> tuple[UnseenReason, ...]:
    """Return why something of an input that would be Safe was not looked at."""
    if record.final_decision != "Safe":
        return ()
    return tuple(reason for reason in UNSEEN_REASONS if reason in (record.review_reasons or ()))


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
    """Return a service whose models are loaded and, unless they fail, have judged the reference picture.

    Raises:
        MissingError: if weights or a package are missing and cannot be downloaded.
        BlindModelError: if a model does not cover an UNSAFE category and that is not allowed.
        PolicyError: a policy that requests may ask for cannot be read.
        UsageError: early exit at a stated risk is set.
    """
    settings = resolved.settings
    check_early_exit(settings)
    others = allowed_policies(settings, policy)
    banks = watch_banks(banks_of(resolved))
    limits = request_limits_of(settings)
    options = _start_decoding(settings, limits)
    ensemble, criteria, stand_in = _load(settings, choice, policy, hub, progress or SILENT)
    ensemble = with_stand_in(ensemble)
    default = panels_of(ensemble, criteria, options, stand_in=stand_in)
    by_policy = {one.name: _prepare_other(one, settings, default) for one in others}
    for one in (default, *by_policy.values()):
        _warn_of_unseen(one.panel, settings)
    device, ending = DeviceThread(), Ending()
    device.start()
    panels = [one for one in (default.panel, default.fallback) if one is not None]
    check = LineCheck(panels, options, device, ending)
    readiness = Readiness(device, check, pass_limit_of(settings.deadline))
    readiness.start(options.workers)
    places = settings.max_requests, settings.max_requests_per_caller
    return Service(
        panel=default.panel,
        fallback=default.fallback,
        options=options,
        by_policy=by_policy,
        limits=limits,
        rows=open_rows(settings, default.panel.facts, [m.model.spec for m in ensemble.members], command),
        device=device,
        load=ServiceLoad(*places),
        downloads=ServiceLoad(*places),
        deadline_s=settings.deadline,
        unseen=settings.unseen,
        readiness=readiness,
        ending=ending,
        banks=banks,
    )


def _start_decoding(settings: Settings, limits: RequestLimits) -> Options:
    """Return how inputs are decoded, with the decoders of all requests."""
    options = decoding_options(settings, heic=settings.heic)
    sizes = replace(
        options.decode.limits,
        max_file_bytes=limits.image_bytes,
        max_video_bytes=limits.video_bytes,
        max_views=MAX_REQUEST_VIEWS,
    )
    options = replace(options, decode=replace(options.decode, limits=sizes))
    return replace(options, decoders=start_decoders(options))


def check_early_exit(settings: Settings) -> None:
    """Refuse early exit at a stated risk.

    Raises:
        UsageError: it is set.
    """
    if settings.early_exit == "calibrated":
        raise UsageError(
            "--early-exit calibrated is for scan and urls: callers of a service choose what comes next. "
            "Here: --early-exit exact"
        )


def allowed_policies(settings: Settings, default: Policy) -> list[Policy]:
    """Return the policies that requests may ask for, without the default.

    Raises:
        PolicyError: one cannot be read.
        SettingsError: two have one name.
    """
    found: dict[str, Policy] = {}
    for name in settings.allow_policy:
        policy = load_policy(name)
        known = found.setdefault(policy.name, policy)
        if known.hash != policy.hash or (policy.name == default.name and policy.hash != default.hash):
            raise SettingsError(
                f"--allow-policy {name}: another policy has the name {policy.name!r} too; change one"
            )
    return [policy for policy in found.values() if policy.name != default.name]


def _prepare_other(policy: Policy, settings: Settings, default: RequestPanels) -> RequestPanels:
    """Return what judges by another policy than the default; `--threshold` is for the default alone."""
    panel = default.panel
    threshold = policy.threshold_for(settings.sensitivity)
    criteria = prepare(panel.ensemble, policy, threshold=threshold, allow_partial=settings.allow_partial)
    run_id, stand_in = panel.facts.run_id, panel.stand_in
    return panels_of(panel.ensemble, criteria, default.options, run_id=run_id, stand_in=stand_in)


def _warn_of_unseen(panel: Panel, settings: Settings) -> None:
    if panel.criteria.unseen and settings.unseen == "error":
        log.warning(
            "by the policy %s every picture without a hit is answered as an error, since no model sees %s; "
            "--unseen flag or --unseen safe answers otherwise",
            panel.policy.name,
            ", ".join(panel.criteria.unseen),
        )


def _load(
    settings: Settings, choice: ModelChoice, policy: Policy, hub: Hub, progress: DownloadProgress
) -> tuple[Ensemble, Criteria, bool]:
    """Return the models, and whether they replace an ensemble that cannot be loaded."""
    try:
        return *load_models(settings, choice, policy, hub, progress), False
    except MissingError as error:
        if len(choice.members) < 2 or choice.auto:  # which never downloads
            raise
        log.warning("the ensemble cannot be loaded (%s); the fallback judges, and all needs review", error)
        fallback = replace(choose([FALLBACK_SPEC], policy, hub), degraded=True)
        asked_again = replace(hub, timeout_s=min(hub.timeout_s, SECOND_PATIENCE_S))
        return *load_models(settings, fallback, policy, asked_again, progress), True
