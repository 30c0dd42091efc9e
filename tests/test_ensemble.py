"""Members look at the same pictures; one that fails costs its own picture and no other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.ensemble.ensemble import Ensemble, Member, fingerprint
from clipmod_cli.judge.judging import judge
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.results import Settled
from clipmod_cli.types import (
    Detection,
    Detections,
    Embedding,
    Evidence,
    Failure,
    Frame,
    LabelScores,
    Seen,
    Verdict,
)
from tests.colour_models import (
    LARGE,
    POLICY,
    SMALL,
    AnyColourModel,
    RedClassifier,
    RedDetector,
    RedEmbedder,
    frame_of,
)
from tests.evidence import lost
from tests.measuring import infer


def ensemble_of(*models: AnyColourModel, weights: Sequence[float] | None = None) -> Ensemble:
    shares = weights or [1 / len(models)] * len(models)
    return Ensemble(members=[Member(model, share) for model, share in zip(models, shares, strict=True)])


def measured(ensemble: Ensemble, frames: Sequence[Frame | Settled]) -> list[Evidence | Settled]:
    return list(infer(ensemble, [frames]))


def unsafe_of(ensemble: Ensemble, redness: float) -> float:
    """Return the unsafe score of a picture this red, after the whole way."""
    (verdict,) = judge(measured(ensemble, [frame_of(redness)]), prepare(ensemble, POLICY, threshold=0.5))
    assert isinstance(verdict, Verdict)
    return verdict.deciding.unsafe_score


def poison_of(
    *numbers: int, error: Callable[[], Exception] = RuntimeError
) -> Callable[[Sequence[Frame]], None]:
    """Return a forward pass that fails as long as one of these pictures is in the batch."""

    def fail(frames: Sequence[Frame]) -> None:
        if any(frame.item.index in numbers for frame in frames):
            raise error()

    return fail


@pytest.mark.parametrize("kind", [RedEmbedder, RedClassifier, RedDetector])
def test_each_kind_of_model_sees_red(kind: Callable[[], AnyColourModel]) -> None:
    ensemble = ensemble_of(kind())
    assert unsafe_of(ensemble, 1.0) >= 0.9
    assert unsafe_of(ensemble, 0.0) <= 0.1


def test_the_weights_by_hand() -> None:
    models = (RedEmbedder(name="e"), RedClassifier(name="c"), RedDetector(name="d"))
    # e^(ln 9 x 1) : e^(ln 9 x 0) is 9 : 1; the classifier and the detector are certain.
    assert unsafe_of(ensemble_of(*models, weights=(0.5, 0.3, 0.2)), 1.0) == pytest.approx(0.5 * 0.9 + 0.5)
    # At 0.2 (51 of 255): the classifier says 0.2, the detector nothing.
    text = 9 ** (0.2 / math.hypot(0.2, 0.8))
    other = 9 ** (0.8 / math.hypot(0.2, 0.8))
    expected = 0.5 * text / (text + other) + 0.3 * 0.2
    unsafe = unsafe_of(ensemble_of(*models, weights=(0.5, 0.3, 0.2)), 0.2)
    assert unsafe == pytest.approx(expected, abs=1e-3)  # embeddings are rounded to float16


@given(
    poisoned=st.sets(st.integers(0, 16)),
    count=st.integers(1, 17),
    failed=st.sets(st.integers(0, 16)),
    size=st.integers(1, 9),
)
def test_law_a_poisoned_picture_costs_itself_alone(
    poisoned: set[int], count: int, failed: set[int], size: int
) -> None:
    frames = [frame_of(i / 16, i) for i in range(count)]
    stream = [lost(f.item) if f.item.index in failed else f for f in frames]
    batches = [stream[at : at + size] for at in range(0, count, size)]
    models = (RedClassifier(name="a", before=poison_of(*poisoned)), RedDetector(name="b"))
    results = list(infer(ensemble_of(*models), batches))
    assert [result.item for result in results] == [frame.item for frame in frames]
    for number, (frame, result) in enumerate(zip(stream, results, strict=True)):
        if isinstance(frame, Failure):
            assert result is frame, "a failure passes through as it is"
        elif number in poisoned:
            assert isinstance(result, Failure)
            assert result.code == "model_error"
        else:
            assert isinstance(result, Evidence)
            assert result.seen["a"] == RedClassifier().infer([frame])[0]
            assert result.seen["b"] == RedDetector().infer([frame])[0]


def test_halving_asks_seldom() -> None:
    model = RedClassifier(before=poison_of(37))
    wide = replace(ensemble_of(model), batch_size=64)
    results = measured(wide, [frame_of(0.5, i) for i in range(64)])
    assert sum(isinstance(result, Failure) for result in results) == 1
    assert model.calls == [64, 32, 32, 16, 8, 4, 4, 2, 1, 1, 2, 8, 16]


@pytest.mark.parametrize("error", [MemoryError, lambda: torch.OutOfMemoryError("CUDA out of memory")])
def test_what_does_not_fit_into_memory_may_fit_later(error: Callable[[], Exception]) -> None:
    model = RedClassifier(before=poison_of(1, error=error))
    fine, failure = measured(ensemble_of(model), [frame_of(0.1, 0), frame_of(0.2, 1)])
    assert isinstance(fine, Evidence)
    assert isinstance(failure, Failure)
    assert (failure.code, failure.stage, failure.retryable) == ("out_of_memory", "infer", True)


def test_a_batch_that_is_too_large_loses_nothing() -> None:
    def small_device(frames: Sequence[Frame]) -> None:
        if len(frames) > 3:
            raise MemoryError

    results = measured(ensemble_of(RedClassifier(before=small_device)), [frame_of(0.5, i) for i in range(20)])
    assert all(isinstance(result, Evidence) for result in results)
    assert [result.item.index for result in results] == list(range(20))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_no_models_fault(error: type[BaseException]) -> None:
    def interrupt(frames: Sequence[Frame]) -> None:
        raise error

    with pytest.raises(error):
        measured(ensemble_of(RedClassifier(before=interrupt)), [frame_of(0.5)])


@pytest.mark.parametrize(
    "broken",
    [
        Embedding(vector=np.array([np.nan, 0], dtype=np.float32)),
        Embedding(vector=np.array([np.inf, 0], dtype=np.float32)),
        LabelScores(scores={"other": 0.5, "red": math.nan}),
        Detections(found=(Detection(label="RED", score=math.nan, box=(0, 0, 0, 0)),)),
    ],
)
def test_what_is_no_number_fails_its_own_picture(broken: Seen) -> None:
    def spoil(seen: list[Seen]) -> Sequence[Seen]:
        return [seen[0], broken, *seen[2:]]

    model = RedClassifier(name="classy", after=spoil)
    results = measured(ensemble_of(RedDetector(name="fine"), model), [frame_of(0.5, i) for i in range(3)])
    assert [isinstance(result, Evidence) for result in results] == [True, False, True]
    failure = results[1]
    assert isinstance(failure, Failure)
    assert (failure.code, failure.stage) == ("non_finite_score", "infer")
    assert "classy" in failure.message
    assert model.calls == [3], "the batch is not run again for it"


@pytest.mark.parametrize(
    "wrong",
    [lambda seen: seen[:-1], lambda seen: seen[1:], lambda _: [], lambda seen: [*seen, seen[0]]],
    ids=["last lost", "first lost", "none", "one too many"],
)
def test_a_wrong_number_of_results_is_never_dealt_out(wrong: Callable[[list[Seen]], Sequence[Seen]]) -> None:
    """They could be anybody's."""
    model = RedClassifier(name="forgetful", after=wrong)
    results = measured(ensemble_of(model), [frame_of(i / 4, i) for i in range(4)])
    for index, result in enumerate(results):
        assert isinstance(result, Failure)
        assert (result.item.index, result.code) == (index, "model_error")
        assert "forgetful" in result.message


def test_a_lost_frame_keeps_its_place_in_its_animation() -> None:
    first = frame_of(0.5, 0)
    frames = [replace(first, last=False), replace(first, number=1, time_s=1.5)]
    spoiled = [
        LabelScores(scores={"other": math.nan, "red": 0.0}),
        LabelScores(scores={"other": 1, "red": 0}),
    ]
    failure, evidence = measured(ensemble_of(RedClassifier(after=lambda _: spoiled)), frames)
    assert (isinstance(failure, Failure), failure.last, failure.media) == (True, False, first.media)
    assert isinstance(evidence, Evidence)
    assert (evidence.number, evidence.time_s, evidence.last) == (1, 1.5, True)
    poisoned = RedClassifier(before=poison_of(0))
    assert [result.last for result in measured(ensemble_of(poisoned), frames)] == [False, True]


def test_nothing_to_look_at_asks_no_model() -> None:
    model = RedClassifier()
    failures = [lost(), lost()]
    assert list(infer(ensemble_of(model), [[], failures])) == failures
    assert model.calls == []


def test_forward_time_is_told_for_each_model() -> None:
    (evidence,) = measured(ensemble_of(RedClassifier(name="a"), RedDetector(name="b")), [frame_of(0.5)])
    assert isinstance(evidence, Evidence)
    assert list(evidence.forward_ms) == list(evidence.seen) == ["a", "b"]
    assert all(time_ms >= 0 for time_ms in evidence.forward_ms.values())


def test_equal_views_are_asked_for_once() -> None:
    models = [RedClassifier(geometry=geometry) for geometry in (LARGE, SMALL, LARGE)]
    assert ensemble_of(*models).geometries == (LARGE, SMALL)


def test_all_that_moves_a_score_is_in_the_identity() -> None:
    base = ensemble_of(RedClassifier(), RedDetector())
    others = [
        ensemble_of(RedClassifier(), RedDetector(), weights=(0.4, 0.6)),
        ensemble_of(RedDetector(), RedClassifier()),
        ensemble_of(RedClassifier(revision="2"), RedDetector()),
        ensemble_of(RedClassifier(spec="hf:other"), RedDetector()),
        ensemble_of(RedClassifier()),
        replace(base, dtype="bfloat16"),
    ]
    assert len({base.identity, *(other.identity for other in others)}) == 7
    assert ensemble_of(RedClassifier(), RedDetector()).identity == base.identity
    assert replace(base, batch_size=99, degraded=True).identity == base.identity
    assert len({fingerprint("a", "bc"), fingerprint("ab", "c"), fingerprint("abc")}) == 3


def verdict_without(*broken: str, stand_in: str | None = "first") -> Verdict | Settled:
    """Return what becomes of a red picture where these members fail at it."""
    models = [
        RedEmbedder(name=name, before=poison_of(0) if name in broken else lambda _: None)
        for name in ("first", "second")
    ]
    ensemble = replace(ensemble_of(*models), stand_in=stand_in)
    criteria = prepare(ensemble, POLICY, threshold=0.5)
    (result,) = judge(measured(ensemble, [frame_of(1.0)]), criteria)
    return result


def test_a_member_that_fails_leaves_the_stand_in_to_judge_and_a_person_to_look() -> None:
    verdict = verdict_without("second")
    assert isinstance(verdict, Verdict)
    assert list(verdict.deciding.by_model) == ["first"]
    assert verdict.deciding.unsafe_score == pytest.approx(0.9)
    assert verdict.degraded
    assert verdict.needs_review


def test_without_a_stand_in_or_with_one_that_fails_too_it_is_an_error() -> None:
    for failed in (
        verdict_without("second", stand_in=None),
        verdict_without("first"),
        verdict_without("first", "second"),
    ):
        assert isinstance(failed, Failure)
        assert failed.code == "model_error"


def test_who_needs_no_stand_in_is_judged_by_all() -> None:
    verdict = verdict_without()
    assert isinstance(verdict, Verdict)
    assert list(verdict.deciding.by_model) == ["first", "second"]
    assert not verdict.degraded
