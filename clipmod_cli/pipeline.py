"""The line from inputs to verdicts. All front ends and the library call it.

    items ──► fetch ──► decode ──► batch ──► infer ──► judge ──► results

Each stage is a lazy generator that keeps the order of its input.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from typing import Final, Protocol

from clipmod_cli.banks.bank import NO_BANKS, Banks
from clipmod_cli.cores import usable_cores
from clipmod_cli.decode.job import Compare, in_no_bank
from clipmod_cli.decode.limits import Coverage, DecodeOptions
from clipmod_cli.decode.stage import Decoders, decode_with
from clipmod_cli.decode.workers.pool import WorkerPool
from clipmod_cli.ensemble.batch import CanSkipRest
from clipmod_cli.ensemble.ensemble import Ensemble, InferenceEngine, PendingEvidence, fingerprint
from clipmod_cli.flow import ahead, batched
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.exits.rule import CalibratedExit
from clipmod_cli.judge.judging import Recheck, judge_until_hit, judge_with_rechecks
from clipmod_cli.judge.policy.reading import load_policy
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.results import BankVerdict, Result, Settled
from clipmod_cli.sources.base import Rules
from clipmod_cli.sources.registry import expand
from clipmod_cli.sources.spill import TemporaryFiles
from clipmod_cli.sources.stores.fetch import fetch_stored
from clipmod_cli.types import Evidence, Failure, Frame, Item

GATHERED: Final = 4
"""With early exit, how many batches the first models see together, so that those after them, which few frames
reach, have whole batches too."""


def default_workers() -> int:
    """Return the number of decoding workers: the cores that this process may use."""
    return usable_cores()  # decoders release the GIL, and a forward pass on a GPU needs no core


class EvidenceSink(Protocol):
    """Keeps the evidence of a run, called by the thread that takes the results."""

    def add(self, seen: Evidence | Failure) -> None:
        """Take what was seen of the next frame; frames of an item come one after the other."""
        ...

    def add_recheck(
        self, item: Item, spans: Sequence[tuple[float, float]], seen: Sequence[Evidence | Settled]
    ) -> None:
        """Take what was seen of an item's frames in these spans, after its other frames."""
        ...

    def finish(self, item: Item) -> None:
        """Note that an item was judged: nothing more of it follows."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How inputs are decoded and run through the models.

    Attributes:
        decode: limits, exactness and sampling of frames.
        workers: how many inputs are decoded at once.
        isolate: decode in worker processes, so that a decoder that crashes or hangs costs one input. A script
            that turns this on needs `if __name__ == "__main__":` around its own calls, as with any use of
            `multiprocessing`.
        decoders: decoders shared between runs, instead of `workers` and `isolate`; None starts some for the
            time of the run.
        infer_ahead: submit the next batch, in a thread of its own, while the caller uses results.
        early_exit: of a still, skip the models that can no longer change the outcome.
        exits: of a still, skip models at a stated risk; takes the place of `early_exit`.
        duplicate_cache_bytes: the size of the run's cache of evidence, by which the models of an `Ensemble`
            see equal pictures once; 0 has none.
    """

    decode: DecodeOptions = field(default_factory=DecodeOptions)
    workers: int = field(default_factory=default_workers)
    isolate: bool = False
    decoders: Decoders | None = None
    infer_ahead: bool = False
    early_exit: bool = False
    exits: CalibratedExit | None = None
    duplicate_cache_bytes: int = 0


def infer(
    items: Iterable[Item | Failure],
    engine: InferenceEngine,
    options: Options | None = None,
    *,
    stopped: Callable[[], bool] = lambda: False,
    banks: Banks = NO_BANKS,
) -> Iterator[Evidence | Settled]:
    """Yield the evidence of the items' frames, unjudged, in the items' order.

    Args:
        items: the inputs.
        engine: the models.
        options: how inputs are decoded and run through the models.
        stopped: called between batches; once true, the batch in flight is finished and no more.
        banks: items in them are not decoded.
    """
    with TemporaryFiles() as temporary:
        options = _hashing(options or Options(), banks)
        for seen in _infer(items, engine, options, temporary, stopped, banks=banks):
            if seen.last:
                temporary.remove(seen.item)
            yield seen


def _infer(
    items: Iterable[Item | Failure],
    engine: InferenceEngine,
    options: Options,
    temporary: TemporaryFiles,
    stopped: Callable[[], bool],
    can_skip_rest: CanSkipRest | None = None,
    hits: set[Item] | None = None,
    banks: Banks = NO_BANKS,
) -> Generator[Evidence | Settled, None, None]:
    """Yield the evidence; can be closed even while the items block. Frames of items in `hits` are dropped."""
    idle, closed = threading.Event(), threading.Event()
    in_flight: deque[None] = deque()  # one for each batch that is submitted and not yet computed

    def submit(batch: Sequence[Frame | Settled]) -> PendingEvidence:
        in_flight.append(None)
        return engine.submit(batch, can_skip_rest)

    with ExitStack() as stack:
        decoders = stack.enter_context(open_decoders(options))
        fetched = temporary.track(fetch_stored(items, options.decode.limits))
        compare: Compare = banks.decide if banks else in_no_bank
        decoded = decode_with(decoders, fetched, engine.geometries, options.decode, compare=compare)
        if banks.has_pdq:
            decoded = _deny_near(banks, decoded)
        frames = decoded if hits is None else _drop_frames_of(hits, decoded)
        batches = batched(
            frames,
            engine.batch_size * (1 if can_skip_rest is None else GATHERED),
            stopped=lambda: stopped() or closed.is_set(),
            may_close=lambda: idle.is_set() and not in_flight,  # a busy device needs no partial batch
        )
        prepared = ahead(_prepare(batches, engine), 1, closing=closed.set, waiting=idle)
        submitted = (submit(batch) for batch in stack.enter_context(closing(prepared)))
        if options.infer_ahead:
            submitted = ahead(submitted, 1, closing=closed.set)
        for wait in stack.enter_context(closing(submitted)):
            results = iter(wait())
            first = list(islice(results, 1))  # shared engines yield results as they are computed
            in_flight.popleft()
            yield from chain(first, results)


def _drop_frames_of(hits: set[Item], frames: Iterable[Frame | Settled]) -> Iterator[Frame | Settled]:
    for frame in frames:
        if frame.item not in hits:
            yield frame
        elif frame.last:
            hits.discard(frame.item)


def _prepare(
    batches: Iterable[Sequence[Frame | Settled]], engine: InferenceEngine
) -> Iterator[Sequence[Frame | Settled]]:
    """Yield the batches, prepared: a device would wait while a batch is stacked."""
    for batch in batches:
        engine.prepare_batch(batch)
        yield batch


def open_decoders(options: Options) -> AbstractContextManager[Decoders]:
    """Return the shared decoders of the options, or some that end with the block."""
    return start_decoders(options) if options.decoders is None else nullcontext(options.decoders)


def start_decoders(options: Options) -> Decoders:
    """Return decoders that runs can share; close them after the last."""
    pool = WorkerPool() if options.isolate else None
    return Decoders(options.workers, pool=pool, pixels_in_flight=options.decode.limits.pixels_in_flight)


def run(
    items: Iterable[Item | Failure],
    ensemble: InferenceEngine,
    criteria: Criteria,
    options: Options | None = None,
    *,
    stopped: Callable[[], bool] = lambda: False,
    keep: EvidenceSink | None = None,
    banks: Banks = NO_BANKS,
) -> Generator[Result, None, None]:
    """Yield one result for each item, in the items' order.

    Args:
        items: the inputs.
        ensemble: the models.
        criteria: the policy made ready for them (`prepare`).
        options: how inputs are decoded and run through the models.
        stopped: called between batches; once true, the batch in flight is finished and no more.
        keep: keeps the evidence; not with early exit, nor until a hit, by which it is incomplete.
        banks: items in them are neither decoded nor scored; with `keep` they are, so that the evidence is
            complete, and the banks decide after that.
    """
    options = options or Options()
    decode = decoding_for(criteria.policy, options.decode)
    options = _hashing(replace(options, decode=decode), banks)
    exits = options.exits
    can_skip_rest = criteria.outcome_is_certain if options.early_exit else None
    can_skip_rest = can_skip_rest if exits is None else exits.can_skip_rest
    with open_decoders(options) as decoders, TemporaryFiles() as temporary:
        options = replace(options, decoders=decoders)
        if options.duplicate_cache_bytes and isinstance(ensemble, Ensemble):
            ensemble = ensemble.with_duplicate_cache(options.duplicate_cache_bytes)
        hits: set[Item] | None = set() if decode.frames.until_hit else None
        recheck = partial(
            _recheck, engine=ensemble, options=options.decode, decoders=decoders, stopped=stopped
        )
        before = banks if keep is None else NO_BANKS
        evidence = _infer(items, ensemble, options, temporary, stopped, can_skip_rest, hits, before)
        watched = evidence if exits is None else exits.watch(evidence)
        seen = watched if keep is None else _keep(watched, keep)
        judged = (
            _judge(seen, criteria, recheck, keep) if hits is None else judge_until_hit(seen, criteria, hits)
        )
        with closing(evidence):
            for result in judged:
                temporary.remove(result.item)
                if keep is not None:
                    keep.finish(result.item)
                yield decided_by(banks, result)


def decoding_for(policy: Policy, options: DecodeOptions) -> DecodeOptions:
    """Return the options by which inputs are decoded that this policy judges."""
    decode = replace(options, max_gap_s=policy.max_gap_s)
    return decode if policy.unsafe else replace(decode, coverage=Coverage(full=False))  # no view is the worst


def _hashing(options: Options, banks: Banks) -> Options:
    """Return the options by which stills get the hashes that the banks compare."""
    return replace(options, decode=replace(options.decode, pdq=banks.has_pdq))


def _deny_near(banks: Banks, decoded: Iterable[Frame | Settled]) -> Generator[Frame | Settled]:
    """Yield a BankVerdict in place of all frames of an item that is nearly the same as one in a deny bank."""
    item, by = None, None
    for one in decoded:
        if one.item is not item:
            item, by = one.item, None if one.media is None else banks.decide_near(one.media.pdq)
            if by is not None and one.media is not None and not isinstance(one, BankVerdict):
                yield BankVerdict(item=one.item, media=one.media, by=by)
                continue
            by = None
        if by is None:
            yield one


def decided_by(banks: Banks, result: Result) -> Result:
    """Return what banks decide for the content of a judged item; the result itself if nothing."""
    media = result.media
    by = None if media is None else banks.decide(media.sha256) or banks.decide_near(media.pdq)
    if by is None or result.media is None or isinstance(result, BankVerdict):
        return result
    total_ms = None if isinstance(result, Failure) else result.total_ms
    return BankVerdict(item=result.item, media=result.media, by=by, total_ms=total_ms)


def _keep(evidence: Iterable[Evidence | Settled], keep: EvidenceSink) -> Iterator[Evidence | Settled]:
    for seen in evidence:
        if isinstance(seen, BankVerdict):
            raise AssertionError("evidence is kept without banks")  # noqa: TRY004 — a bug, not a wrong type
        keep.add(seen)
        yield seen


def _judge(
    evidence: Iterator[Evidence | Settled],
    criteria: Criteria,
    recheck: Callable[[Recheck], Iterator[Evidence | Settled]],
    keep: EvidenceSink | None,
) -> Iterator[Result]:
    """Yield the results. The evidence of a video's recheck comes before that of other items."""
    rechecked: deque[Evidence | Settled] = deque()

    def stream() -> Iterator[Evidence | Settled]:
        for seen in evidence:
            yield seen
            while rechecked:
                yield rechecked.popleft()

    for judged in judge_with_rechecks(stream(), criteria):
        if isinstance(judged, Recheck):
            rechecked.extend(recheck(judged))
            if keep is not None:
                keep.add_recheck(judged.item, judged.spans, rechecked)
        else:
            yield judged


def _recheck(
    request: Recheck,
    *,
    engine: InferenceEngine,
    options: DecodeOptions,
    decoders: Decoders,
    stopped: Callable[[], bool],
) -> Iterator[Evidence | Settled]:
    if stopped():
        yield Failure(item=request.item, stage="decode", code="deadline", message="the run was stopped")
        return
    frames = decoders.submit(request.item, engine.geometries, replace(options, spans=request.spans)).result()
    size = engine.batch_size
    for at in range(0, len(frames), size):
        yield from engine.submit(frames[at : at + size])()


def scan(
    sources: Iterable[str],
    ensemble: Ensemble,
    policy: Policy | str,
    *,
    threshold: float | None = None,
    allow_partial: bool = False,
    rules: Rules | None = None,
    options: Options | None = None,
    banks: Banks = NO_BANKS,
) -> Iterator[Result]:
    """Yield one result for each input found in files and folders, in order.

    It is a `Verdict`, a `Failure`, or with `banks` a `BankVerdict`.

    Args:
        sources: paths of files and folders and names in object stores, as for `clipmod scan`.
        ensemble: from `load_ensemble`.
        policy: from `load_policy`, or a built-in policy's name or a policy file.
        threshold: the NSFW threshold, 0..1; default the policy's at medium sensitivity.
        allow_partial: let a model judge a policy that it cannot wholly see.
        rules: which files of folders are inputs.
        options: how inputs are decoded and run through the models.
        banks: content that is always NSFW or always Safe.

    Raises:
        BlindModelError: if a model cannot see an UNSAFE category of the policy.
        PolicyError: if the policy cannot be read.
    """
    chosen = load_policy(policy) if isinstance(policy, str) else policy
    criteria = prepare(
        ensemble, chosen, threshold=chosen.threshold_for("medium", threshold), allow_partial=allow_partial
    )
    return run(expand(sources, rules or Rules()), ensemble, criteria, options, banks=banks)


def run_key(ensemble: Ensemble, criteria: Criteria, options: DecodeOptions) -> str:
    """Return the hash of all that can change an outcome; the records of one output share it.

    Early exit is no part of it: it changes no outcome, and a record names the models it skipped.
    """
    return run_key_of(ensemble.identity, criteria, decoding_key(options))


def run_key_of(models: str, criteria: Criteria, decoding: str) -> str:
    """Return the `run_key` of models with this identity and inputs decoded by these settings."""
    policy = criteria.policy.hash
    return fingerprint(models, policy, repr(criteria.threshold), ",".join(criteria.unseen), decoding)


def decoding_key(options: DecodeOptions) -> str:
    """Return what identifies the settings of decoding that can change an outcome."""
    return repr((options.exact, options.frames, options.coverage, options.heic))
