"""Evidence as a stage could give it, by the table: a policy, its criteria, and what models saw in frames."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from clipmod_cli.errors import ErrorCode
from clipmod_cli.judge.criteria import Criteria, WeightedReader, unsafe_mask
from clipmod_cli.judge.judging import judge
from clipmod_cli.judge.policy.values import Category, Policy, Safety
from clipmod_cli.judge.readers import LabelReader
from clipmod_cli.results import Result, Settled
from clipmod_cli.types import Box, Evidence, Failure, Item, LabelScores, Media, Verdict, View

SAFETIES: Mapping[str, Safety] = {"neutral": "SAFE", "swimwear": "SAFE", "nude": "UNSAFE", "gore": "UNSAFE"}
NAMES = tuple(SAFETIES)
SPEC = "hf:some/classifier"
NO_OWN: Mapping[str, tuple[float, float]] = {}
VIEW = View(box=Box(0, 0, 8, 8))


def policy_of(
    safeties: Mapping[str, Safety] = SAFETIES, *, own: Mapping[str, tuple[float, float]] = NO_OWN, **more: Any
) -> Policy:
    """Return a policy with these categories, each with one label of its own name.

    `own` has categories' own thresholds and review margins.
    """
    categories = tuple(
        Category(
            name=name,
            safety=safety,
            labels={SPEC: (name,)},
            threshold=own[name][0] if name in own else None,
            review_margin=own[name][1] if name in own else None,
        )
        for name, safety in safeties.items()
    )
    return Policy(name="by-table", categories=categories, **{"review_margin": 0.0, **more})


def criteria_of(
    policy: Policy | None = None,
    *,
    threshold: float = 0.5,
    weights: Sequence[float] = (1.0,),
    unmapped: Collection[str] = (),
    undivided: Collection[int] = (),
    **more: Any,
) -> Criteria:
    """Return criteria for classifiers named m0, m1, ... whose labels are the categories and the unmapped.

    Those whose number is in `undivided` do not tell the UNSAFE categories apart.
    """
    policy = policy or policy_of()
    labels = [frozenset({category.name}) for category in policy.categories]
    unsafe = frozenset(policy.unsafe)
    both = [unsafe if label & unsafe else label for label in labels]
    readers = [
        LabelReader(
            labels=both if i in undivided else labels,
            unmapped=frozenset(unmapped),
            unsafe=unsafe_mask(policy) if policy.is_independent else None,
        )
        for i in range(len(weights))
    ]
    judges = [
        WeightedReader(name=f"m{i}", weight=weight, reader=reader)
        for i, (weight, reader) in enumerate(zip(weights, readers, strict=True))
    ]
    return Criteria(policy=policy, threshold=threshold, judges=judges, **more)


def item_of(index: int = 0) -> Item:
    return Item(source=f"{index}.jpg", index=index)


def media_of(**known: Any) -> Media:
    return Media(**{"started": 0.0, "kind": "image", **known})


def saw(*shares: float, names: Sequence[str] = NAMES) -> LabelScores:
    """Return the scores of a classifier, in the order of the categories."""
    return LabelScores(scores=dict(zip(names, shares, strict=True)))


def saw_unsafe(score: float) -> LabelScores:
    """Return scores of which `score` speaks for UNSAFE."""
    return saw(1 - score, 0.0, score, 0.0)


def evidence(
    *seen: LabelScores, item: Item | None = None, media: Media | None = None, last: bool = True, **more: Any
) -> Evidence:
    """Return what the models m0, m1, ... saw in one frame."""
    return Evidence(
        item=item or item_of(),
        media=media or media_of(),
        last=last,
        seen={f"m{i}": one for i, one in enumerate(seen)},
        forward_ms={f"m{i}": float(i) for i in range(len(seen))},
        **{"number": 0, "time_s": 0.0, "view": VIEW, **more},
    )


def lost(
    item: Item | None = None,
    *,
    media: Media | None = None,
    last: bool = True,
    code: ErrorCode = "decode_error",
) -> Failure:
    """Return a frame, or a whole item, that was not decoded."""
    return Failure(
        item=item or item_of(), stage="decode", code=code, message="broken", media=media, last=last
    )


def animation(
    scores: Sequence[float | None],
    *,
    item: Item | None = None,
    times: Sequence[float] | None = None,
    duration_s: float | None = None,
    truncated: bool = False,
    failures_know_media: bool = True,
) -> list[Evidence | Settled]:
    """Return the frames of an animation by their unsafe scores, a second each; None is a lost one."""
    item = item or item_of()
    times = range(len(scores)) if times is None else times
    media = media_of(
        kind="animation",
        duration_s=float(len(scores)) if duration_s is None else duration_s,
        truncated=truncated,
    )
    stream: list[Evidence | Settled] = []
    for number, (score, time_s) in enumerate(zip(scores, times, strict=True)):
        last = number == len(scores) - 1
        if score is None:
            stream.append(lost(item, media=media if failures_know_media else None, last=last))
        else:
            one = saw_unsafe(score)
            stream.append(
                evidence(one, item=item, media=media, last=last, number=number, time_s=float(time_s))
            )
    return stream


def one(stream: Sequence[Evidence | Settled], criteria: Criteria) -> Result:
    """Return the only result."""
    (result,) = judge(stream, criteria)
    return result


def verdict_of(stream: Sequence[Evidence | Settled], criteria: Criteria | None = None) -> Verdict:
    result = one(stream, criteria or criteria_of())
    assert isinstance(result, Verdict)
    return result
