"""The one straight line from inputs to verdicts, and nothing else.

    items ──► fetch ──► decode ──► measure ──► judge ──► results

Each stage is a lazy generator that keeps the order it is given. Fetching is for what is in an
object store; other items pass through. Both front ends and the library call this.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from clipmod_cli.decode.decoders import Decoders
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.stage import decode_with
from clipmod_cli.decode.workers.pool import WorkerPool
from clipmod_cli.ensemble.ensemble import Ensemble, Looking, Measures, fingerprint
from clipmod_cli.ensemble.looks import Enough
from clipmod_cli.ensemble.seen_before import Memory, SeenBefore
from clipmod_cli.flow import ahead, batched
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.judging import Recheck, judge_closely
from clipmod_cli.judge.policy import Policy, load_policy
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.sources.base import Rules
from clipmod_cli.sources.registry import expand
from clipmod_cli.sources.spill import TemporaryFiles
from clipmod_cli.sources.stores.fetch import fetch_stored
from clipmod_cli.types import Evidence, Failure, Frame, Item, Result


def default_workers() -> int:
    """Return how many inputs are decoded at once: one for each core this process may use."""
    # decoders release the interpreter's lock, and a forward pass on a GPU needs no core
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How inputs are looked at.

    Attributes:
        decode: limits, exactness and sampling of frames.
        workers: how many inputs are decoded at once.
        isolate: decode in worker processes, so that a decoder that crashes or hangs costs one
            input. A script that turns this on needs `if __name__ == "__main__":` around its own
            calls, as with any use of `multiprocessing`.
        decoders: whoever shares theirs between runs gives them here, and then `workers` and `isolate`
            mean nothing; None starts some for the time of the run.
        measure_ahead: have the models look at the next batch while results are taken; for whoever writes
            them out in between. A thread of its own then begins with batches.
        early_exit: of a still, skip the models that can no longer change the outcome.
        remembered_bytes: how much a run keeps of what models saw, so that equal pictures are shown to
            them once; 0 shows them all.
    """

    decode: DecodeOptions = field(default_factory=DecodeOptions)
    workers: int = field(default_factory=default_workers)
    isolate: bool = False
    decoders: Decoders | None = None
    measure_ahead: bool = False
    early_exit: bool = False
    remembered_bytes: int = 0


def look(
    items: Iterable[Item | Failure],
    ensemble: Measures,
    options: Options | None = None,
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Evidence | Failure]:
    """Yield what the ensemble sees in the frames of the items, unjudged, in the items' order.

    Args:
        items: what there is to look at.
        ensemble: the models that look.
        options: how inputs are looked at.
        stopped: asked between batches; once true, the batch in flight is finished and no more.
    """
    with TemporaryFiles() as temporary:
        for seen in _see(items, ensemble, options or Options(), temporary, stopped, threading.Event()):
            if seen.last:
                temporary.done(seen.item)
            yield seen


def _see(
    items: Iterable[Item | Failure],
    ensemble: Measures,
    how: Options,
    temporary: TemporaryFiles,
    stopped: Callable[[], bool],
    left: threading.Event,
    enough: Enough | None = None,
) -> Generator[Evidence | Failure, None, None]:
    """Yield what is seen. Once `left` is set it ends, also while the items say nothing."""
    with open_decoders(how) as decoders:
        fetched = temporary.watch(fetch_stored(items, how.decode.limits))
        frames = decode_with(decoders, fetched, ensemble.views, how.decode)
        ended, idle, under_way = (lambda: stopped() or left.is_set()), threading.Event(), _UnderWay()
        wanted = lambda: idle.is_set() and under_way.none  # noqa: E731
        batches = batched(frames, ensemble.batch_size, stopped=ended, wanted=wanted)
        # A device would wait while the next batch is put together; so that is done while it computes.
        with closing(ahead(_prepare(batches, ensemble), 1, leaving=left.set, waiting=idle)) as prepared:
            begun = under_way.begin_all(prepared, ensemble, enough)
            if how.measure_ahead:
                begun = ahead(begun, 1, leaving=left.set)
            with closing(begun):
                for wait in begun:
                    yield from under_way.end(wait)


@dataclass(slots=True)
class _UnderWay:
    """Counts the batches that were begun with, and those whose results are there.

    A device that has work needs no batch that is not full. Each number is one thread's alone.
    """

    _begun: int = 0
    _ended: int = 0

    @property
    def none(self) -> bool:
        """Whether there is none whose results are awaited."""
        return self._begun == self._ended

    def begin_all(
        self, batches: Iterable[Sequence[Frame | Failure]], ensemble: Measures, enough: Enough | None
    ) -> Generator[Looking, None, None]:
        """Begin with one batch after the other."""
        for batch in batches:
            self._begun += 1
            yield ensemble.begin(batch, enough)

    def end(self, wait: Looking) -> Iterator[Evidence | Failure]:
        """Yield the results of a batch as they come."""
        seen = iter(wait())
        first = next(seen, None)
        self._ended += 1
        if first is not None:
            yield first
            yield from seen


def _prepare(
    batches: Iterable[Sequence[Frame | Failure]], ensemble: Measures
) -> Iterator[Sequence[Frame | Failure]]:
    for batch in batches:
        ensemble.prepare_batch(batch)
        yield batch


@contextmanager
def open_decoders(options: Options) -> Iterator[Decoders]:
    """Give the decoders of a run: those that it shares, or some of its own that end with the block."""
    if options.decoders is not None:
        yield options.decoders
        return
    with start_decoders(options) as own:
        yield own


def start_decoders(options: Options) -> Decoders:
    """Return decoders as the options want them, to be shared by runs and closed after the last."""
    crew = WorkerPool() if options.isolate else None
    return Decoders(options.workers, crew=crew, pixels_in_flight=options.decode.limits.pixels_in_flight)


def run(
    items: Iterable[Item | Failure],
    ensemble: Measures,
    criteria: Criteria,
    options: Options | None = None,
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> Generator[Result, None, None]:
    """Yield one result for each item, in the items' order.

    Args:
        items: what there is to look at.
        ensemble: the models that look.
        criteria: the policy made ready for them (`Ensemble.prepare`).
        options: how inputs are looked at.
        stopped: asked between batches; once true, the batch in flight is finished and no more.
    """
    how = options or Options()
    decoding = replace(how.decode, max_gap_s=criteria.policy.max_gap_s)
    left = threading.Event()
    with open_decoders(how) as decoders, TemporaryFiles() as temporary:
        how = replace(how, decode=decoding, decoders=decoders)
        # the plain ensemble: what remembers is begun by one thread, and remembers no video
        closer = partial(_look_again, ensemble=ensemble, options=decoding, decoders=decoders, stopped=stopped)
        if how.remembered_bytes:
            ensemble = SeenBefore(ensemble, Memory(how.remembered_bytes))
        enough = criteria.decided if how.early_exit else None
        with closing(_see(items, ensemble, how, temporary, stopped, left, enough)) as evidence:
            for result in _judge(evidence, criteria, closer):
                temporary.done(result.item)
                yield result


def _judge(
    evidence: Iterator[Evidence | Failure],
    criteria: Criteria,
    look_again: Callable[[Recheck], Iterator[Evidence | Failure]],
) -> Iterator[Result]:
    """Yield the results. A second look at a video is had before anything else is judged."""
    closer: deque[Evidence | Failure] = deque()

    def stream() -> Iterator[Evidence | Failure]:
        for seen in evidence:
            yield seen
            while closer:
                yield closer.popleft()

    for judged in judge_closely(stream(), criteria):
        if isinstance(judged, Recheck):
            closer.extend(look_again(judged))
        else:
            yield judged


def _look_again(
    wish: Recheck,
    *,
    ensemble: Measures,
    options: DecodeOptions,
    decoders: Decoders,
    stopped: Callable[[], bool],
) -> Iterator[Evidence | Failure]:
    if stopped():
        yield Failure(item=wish.item, stage="decode", code="deadline", message="the run was stopped")
        return
    frames = decoders.submit(wish.item, ensemble.views, replace(options, spans=wish.spans)).result()
    size = ensemble.batch_size
    for at in range(0, len(frames), size):
        yield from ensemble.begin(frames[at : at + size])()


def scan(
    sources: Iterable[str],
    ensemble: Ensemble,
    policy: Policy | str,
    *,
    threshold: float | None = None,
    allow_partial: bool = False,
    rules: Rules | None = None,
    options: Options | None = None,
) -> Iterator[Result]:
    """Yield one `Verdict` or `Failure` for each input found in files and folders, in order.

    Args:
        sources: paths of files and folders and names in object stores, as for `clipmod scan`.
        ensemble: from `load_ensemble`.
        policy: from `load_policy`, or a built-in policy's name or a policy file.
        threshold: the NSFW threshold, 0..1; default the policy's at medium sensitivity.
        allow_partial: let a model judge a policy that it cannot wholly see.
        rules: which files of folders are looked at.
        options: how inputs are looked at.

    Raises:
        BlindModelError: if a model cannot see an UNSAFE category of the policy.
        PolicyError: if the policy cannot be read.
    """
    chosen = load_policy(policy) if isinstance(policy, str) else policy
    criteria = prepare(
        ensemble, chosen, threshold=chosen.threshold_for("medium", threshold), allow_partial=allow_partial
    )
    return run(expand(sources, rules or Rules()), ensemble, criteria, options)


def run_key(ensemble: Ensemble, criteria: Criteria, options: DecodeOptions) -> str:
    """Return what identifies all that moves an outcome: records of one output share it.

    Early exit is no part of it: it changes no outcome, and a record names the models it skipped.
    """
    return fingerprint(
        ensemble.identity,
        criteria.policy.hash,
        repr(criteria.threshold),
        ",".join(criteria.unseen),
        repr((options.exact, options.frames, options.heic)),
    )
