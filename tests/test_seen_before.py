"""Equal pictures are shown to models once; what is kept is bounded, and never a failure."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.ensemble.cache import EvidenceLru
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.judge.judging import judge
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.results import Settled
from clipmod_cli.types import (
    Box,
    Detection,
    Detections,
    Embedding,
    Evidence,
    Failure,
    Frame,
    LabelScores,
    Media,
    Seen,
    Verdict,
    View,
)
from tests.colour_models import POLICY, AnyColourModel, RedClassifier, RedDetector, RedEmbedder, frame_of
from tests.evidence import lost
from tests.measuring import infer

PLENTY = 10_000_000


def picture(content: int, index: int = 0, **known: object) -> Frame:
    """Return a decoded file; `content` is both its bytes and how red it is, of 20."""
    drawn = frame_of(content / 20, index)
    digest = hashlib.sha256(bytes([content])).hexdigest()
    media = Media(**{"started": float(index), "sha256": digest, "width": 9, "height": 9, **known})  # type: ignore[arg-type]
    return replace(drawn, media=media)


def pictures(*contents: int) -> list[Frame]:
    return [picture(content, index) for index, content in enumerate(contents)]


def ensemble_of(*models: AnyColourModel) -> Ensemble:
    return Ensemble(members=[Member(model, 1 / len(models)) for model in models])


def once(*models: AnyColourModel, most: int = PLENTY) -> Ensemble:
    return ensemble_of(*models).with_duplicate_cache(most)


def look(seeing: Ensemble, *batches: Sequence[Frame | Settled]) -> list[Evidence | Settled]:
    return list(infer(seeing, batches))


def memory_of(seeing: Ensemble) -> EvidenceLru:
    assert seeing.cache is not None
    return seeing.cache.memory


def test_equal_pictures_are_shown_once_in_a_batch_and_after_it() -> None:
    model = RedClassifier()
    results = look(once(model), pictures(1, 2, 1, 1), pictures(2, 3), pictures(3, 3))
    assert model.calls == [2, 1]
    assert [result.item.index for result in results] == [0, 1, 2, 3, 0, 1, 0, 1]
    red = [result.seen["red"] for result in results if isinstance(result, Evidence)]
    assert red == [RedClassifier().infer([picture(content)])[0] for content in (1, 2, 1, 1, 2, 3, 3, 3)]


def test_each_keeps_its_own_item_and_took_no_forward_time() -> None:
    first, second = pictures(7, 7)
    one, other = look(once(RedClassifier()), [first], [second])
    assert isinstance(one, Evidence)
    assert isinstance(other, Evidence)
    assert (one.item, other.item) == (first.item, second.item)
    assert (one.media, other.media) == (first.media, second.media)
    assert one.forward_ms["red"] > 0.0
    assert other.forward_ms == {"red": 0.0}


@given(
    contents=st.lists(st.integers(0, 6) | st.none(), max_size=24),
    size=st.integers(1, 7),
    most=st.sampled_from((0, 4_000, 12_000, PLENTY)),
    early=st.booleans(),
)
def test_law_every_verdict_is_as_without(
    contents: list[int | None], size: int, most: int, early: bool
) -> None:
    stream = [
        lost(frame_of(0.0, index).item) if content is None else picture(content * 3, index)
        for index, content in enumerate(contents)
    ]
    batches = [stream[at : at + size] for at in range(0, len(stream), size)]
    ensemble = ensemble_of(RedEmbedder(name="a"), RedClassifier(name="b"), RedDetector(name="c"))
    criteria = prepare(ensemble, POLICY, threshold=0.4)
    can_skip_rest = criteria.outcome_is_certain if early else None
    seeing = ensemble.with_duplicate_cache(most)
    plain = list(judge(infer(ensemble, batches, can_skip_rest), criteria))
    again = list(judge(infer(seeing, batches, can_skip_rest), criteria))
    assert memory_of(seeing).size <= most
    assert [result.item for result in again] == [result.item for result in plain]
    for one, other in zip(again, plain, strict=True):
        assert type(one) is type(other)
        if isinstance(one, Verdict) and isinstance(other, Verdict):
            assert (one.decision, one.needs_review) == (other.decision, other.needs_review)
            assert one.deciding.probabilities == pytest.approx(other.deciding.probabilities)
            assert (one.deciding.skipped, one.deciding.category) == (
                other.deciding.skipped,
                other.deciding.category,
            )


def test_a_failure_is_not_kept_and_the_next_one_is_tried() -> None:
    times: list[int] = []

    def fail_first(frames: Sequence[Frame]) -> None:
        times.append(len(frames))
        if len(times) < 3:
            raise RuntimeError("only now")

    model = RedClassifier(before=fail_first)
    first, second, third, fourth = look(once(model), pictures(4, 4, 4), pictures(4))
    assert isinstance(first, Failure)
    assert all(isinstance(result, Evidence) for result in (second, third, fourth))
    assert times == [1, 1, 1]


def test_what_a_stand_in_saw_is_kept_as_its_own_and_the_others_are_asked_again() -> None:
    asked: list[int] = []

    def fail(frames: Sequence[Frame]) -> None:
        asked.append(len(frames))
        raise RuntimeError

    model, other = RedEmbedder(name="first"), RedEmbedder(name="second", spec="second", before=fail)
    ensemble = replace(ensemble_of(model, other), stand_in="first")
    seeing = ensemble.with_duplicate_cache(PLENTY)
    results = look(seeing, pictures(5), pictures(5))
    assert [isinstance(one, Evidence) and one.stand_in for one in results] == [True, True]
    assert model.calls == [1]
    assert len(asked) == 2
    assert len(memory_of(seeing)) == 1


@pytest.mark.parametrize(
    ("other", "is_shown"),
    [
        (picture(1, kind="video"), False),
        (picture(1, kind="animation"), False),
        (picture(1, sha256=None), False),
        (picture(1, sha256="f" * 64), False),
        (picture(1, truncated=True), False),
        (replace(picture(1), view=View(box=Box(0, 0, 10, 10))), False),
        (replace(picture(1), inputs=frame_of(0.9).inputs), True),
    ],
    ids=["video", "animation", "no hash", "hash", "truncated", "size", "pixels"],
)
def test_pixels_tell_whether_it_is_shown(other: Frame, is_shown: bool) -> None:
    model = RedClassifier()
    look(once(model), [picture(1)], [other])
    assert model.calls == [1] * (1 + is_shown)


def test_a_file_that_lies_about_its_hash_gets_its_own_scores_and_leaves_others_theirs() -> None:
    """The hash is what the decoding process said; a picture may have taken it over."""
    honest = picture(18, 1)
    liar = replace(picture(0, 0), media=replace(honest.media))
    seen = look(once(RedClassifier()), [liar], [honest])
    shares = [one.seen["red"] for one in seen if isinstance(one, Evidence)]
    assert [one.scores["red"] > 0.5 for one in shares if isinstance(one, LabelScores)] == [False, True]


def test_the_longest_unused_is_forgotten() -> None:
    model = RedClassifier()
    seeing = once(model)
    look(seeing, pictures(1))
    memory = memory_of(seeing)
    memory.max_bytes = 2 * memory.size
    look(seeing, pictures(2), pictures(1), pictures(3), pictures(1), pictures(2))
    assert model.calls == [1, 1, 1, 1]
    assert len(memory) == 2


def test_without_room_nothing_is_kept() -> None:
    model = RedClassifier()
    assert len(look(once(model, most=10), pictures(1, 1), pictures(1))) == 3
    assert model.calls == [1, 1], "equal ones of a batch are still shown once"


def embeddings(rng: np.random.Generator) -> list[Seen]:
    batch = rng.random((64, 1024), dtype=np.float32)
    return [Embedding(vector=batch[3]), Embedding(vector=batch[7])]


def detections(rng: np.random.Generator) -> list[Seen]:
    found = [
        Detection(label="RED", score=rng.random(), box=(int(rng.integers(10**6)), 1, 2, 3)) for _ in range(9)
    ]
    return [Detections(found=tuple(found))]


def labels(rng: np.random.Generator) -> list[Seen]:
    return [LabelScores(scores={f"label {i}": rng.random() for i in range(20)})]


@pytest.mark.parametrize("make", [embeddings, detections, labels])
def test_memory_is_what_it_says(make: Callable[[np.random.Generator], list[Seen]]) -> None:
    """An embedding is a row of its batch's array, which must not be kept for it."""
    rng = np.random.default_rng(0)
    memory = EvidenceLru(3_000_000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(3000):
            memory.put({bytes([i]) + number.to_bytes(15, "big"): one for i, one in enumerate(make(rng))})
        spent = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert memory.size <= memory.max_bytes
    assert spent <= memory.max_bytes
    assert 100 < len(memory) < 6000
