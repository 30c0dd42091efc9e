"""The one straight line from inputs to verdicts, and nothing else.

    items ──► decode ──► measure ──► judge ──► results

Each stage is a lazy generator that keeps the order it is given. Both front ends and the
library call this.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from clipmod_cli.criteria import Criteria
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.opening import ungated
from clipmod_cli.decode.picture import decode_item
from clipmod_cli.decode.pool import decode
from clipmod_cli.decode.workers import Crew
from clipmod_cli.ensemble import Ensemble, fingerprint
from clipmod_cli.flow import batched
from clipmod_cli.judging import Recheck, judge_closely
from clipmod_cli.policy import Policy, load_policy
from clipmod_cli.sources.local import Rules, expand
from clipmod_cli.types import Evidence, Failure, Item, Result


def default_workers() -> int:
    """Return how many inputs are decoded at once: one for each core this process may use."""
    # decoders release the interpreter's lock, and a forward pass on a GPU needs no core
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How inputs are decoded.

    Attributes:
        decode: limits, exactness and sampling of frames.
        workers: how many inputs are decoded at once.
        isolate: decode in worker processes, so that a decoder that crashes or hangs costs one
            input. A script that turns this on needs `if __name__ == "__main__":` around its own
            calls, as with any use of `multiprocessing`.
    """

    decode: DecodeOptions = field(default_factory=DecodeOptions)
    workers: int = field(default_factory=default_workers)
    isolate: bool = False


def run(
    items: Iterable[Item | Failure],
    ensemble: Ensemble,
    criteria: Criteria,
    options: Options | None = None,
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Result]:
    """Yield one result for each item, in the items' order.

    Args:
        items: what there is to look at.
        ensemble: the models that look.
        criteria: the policy made ready for them (`Ensemble.prepare`).
        options: how inputs are decoded.
        stopped: asked between batches; once true, the batch in flight is finished and no more.
    """
    how = options or Options()
    decoding = replace(how.decode, max_gap_s=criteria.policy.max_gap_s)
    crew = Crew() if how.isolate else None
    frames = decode(items, ensemble.views, decoding, how.workers, crew=crew)
    batches = batched(frames, ensemble.batch_size, stopped=stopped)
    evidence = ensemble.measure(batches)
    return _judge(evidence, ensemble, criteria, replace(how, decode=decoding), stopped)


def _judge(
    evidence: Iterator[Evidence | Failure],
    ensemble: Ensemble,
    criteria: Criteria,
    how: Options,
    stopped: Callable[[], bool],
) -> Iterator[Result]:
    """Yield the results. A second look at a video is had before anything else is judged."""
    closer: deque[Evidence | Failure] = deque()
    crew = Crew() if how.isolate else None  # that of the stage is gone once all items are decoded

    def stream() -> Iterator[Evidence | Failure]:
        for seen in evidence:
            yield seen
            while closer:
                yield closer.popleft()

    try:
        for judged in judge_closely(stream(), criteria):
            if isinstance(judged, Recheck):
                closer.extend(_look_again(judged, ensemble, how.decode, crew, stopped))
            else:
                yield judged
    finally:
        if crew is not None:
            crew.close()


def _look_again(
    wish: Recheck, ensemble: Ensemble, options: DecodeOptions, crew: Crew | None, stopped: Callable[[], bool]
) -> Iterator[Evidence | Failure]:
    if stopped():
        yield Failure(item=wish.item, stage="decode", code="deadline", message="the run was stopped")
        return
    work = crew.decode_item if crew is not None else decode_item
    frames = work(wish.item, ensemble.views, replace(options, spans=wish.spans), gate=ungated)
    size = ensemble.batch_size
    yield from ensemble.measure(frames[at : at + size] for at in range(0, len(frames), size))


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
        sources: paths of files and folders, as for `clipmod scan`.
        ensemble: from `load_ensemble`.
        policy: from `load_policy`, or a built-in policy's name or a policy file.
        threshold: the NSFW threshold, 0..1; default the policy's at medium sensitivity.
        allow_partial: let a model judge a policy that it cannot wholly see.
        rules: which files of folders are looked at.
        options: how inputs are decoded.

    Raises:
        BlindModelError: if a model cannot see an UNSAFE category of the policy.
        PolicyError: if the policy cannot be read.
    """
    chosen = load_policy(policy) if isinstance(policy, str) else policy
    criteria = ensemble.prepare(
        chosen, threshold=chosen.threshold_for("medium", threshold), allow_partial=allow_partial
    )
    return run(expand(sources, rules or Rules()), ensemble, criteria, options)


def run_key(ensemble: Ensemble, criteria: Criteria, options: DecodeOptions) -> str:
    """Return what identifies all that moves a score: records of one output share it."""
    decoding = repr((options.exact, options.frames, options.heic))
    return fingerprint(
        ensemble.identity,
        criteria.policy.hash,
        repr(criteria.threshold),
        ",".join(criteria.unseen),
        decoding,
    )
