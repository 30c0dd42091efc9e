"""Early exit in the ensemble: a model that cannot change the outcome is really not asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.judge.judging import judge
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.results import Settled
from clipmod_cli.types import Evidence, Failure, Frame, LabelScores, Media, Seen, Verdict
from tests.colour_models import POLICY, AnyColourModel, RedClassifier, RedDetector, RedEmbedder, frame_of
from tests.evidence import lost
from tests.measuring import infer

WEIGHTS = (0.40, 0.35, 0.25)


class Trio:
    """Three classifiers that count, and their ensemble."""

    def __init__(self, **changes: object) -> None:
        self.models = [RedClassifier(name=name) for name in ("large", "huge", "giant")]
        members = [Member(model, weight) for model, weight in zip(self.models, WEIGHTS, strict=True)]
        self.ensemble = Ensemble(members=members, **changes)  # type: ignore[arg-type]
        self.criteria = prepare(self.ensemble, POLICY, threshold=0.5)

    @property
    def calls(self) -> list[list[int]]:
        """How many pictures each model saw, by forward pass."""
        return [model.calls for model in self.models]

    def look(self, *frames: Frame | Settled) -> list[Evidence | Settled]:
        """Return what is seen of these in one batch, with early exit."""
        return list(infer(self.ensemble, [frames], self.criteria.outcome_is_certain))


def skipped(results: Sequence[Evidence | Settled]) -> list[tuple[str, ...]]:
    return [one.skipped for one in results if isinstance(one, Evidence)]


def test_only_what_is_open_is_shown_to_the_next() -> None:
    trio = Trio()
    results = trio.look(*(frame_of(redness, i) for i, redness in enumerate((1.0, 0.5, 0.0, 0.6, 0.9))))
    assert trio.calls == [[5], [5], [2]]
    assert skipped(results) == [("giant",), (), ("giant",), (), ("giant",)]
    assert [result.item.index for result in results] == [0, 1, 2, 3, 4]
    for result in results:
        assert isinstance(result, Evidence)
        assert list(result.seen) == list(result.forward_ms) == [
            name for name in ("large", "huge", "giant") if name not in result.skipped
        ]  # fmt: skip


def test_what_is_left_of_several_batches_is_shown_to_the_next_together() -> None:
    """Passes of one model hold at most a batch, and nearly equally many; few frames are left for the last."""
    trio = Trio(batch_size=8)
    trio.look(*(frame_of(0.6 if i % 5 == 0 else 0.0, i) for i in range(26)))
    assert trio.calls == [[7, 7, 7, 5], [7, 7, 7, 5], [6]]


def test_each_frame_keeps_what_was_seen_in_itself() -> None:
    trio = Trio()
    for redness, result in zip(
        (1.0, 0.5, 0.0, 0.6), trio.look(*map(frame_of, (1.0, 0.5, 0.0, 0.6))), strict=True
    ):
        assert isinstance(result, Evidence)
        for seen in result.seen.values():
            assert isinstance(seen, LabelScores)
            assert seen.scores["red"] == pytest.approx(redness, abs=1 / 255)


def test_nobody_is_called_with_nothing() -> None:
    trio = Trio()
    trio.look(frame_of(1.0), frame_of(0.0))
    assert trio.calls == [[2], [2], []]


def test_without_the_question_everybody_is_asked() -> None:
    trio = Trio()
    results = list(infer(trio.ensemble, [[frame_of(1.0), frame_of(0.0)]]))
    assert trio.calls == [[2], [2], [2]]
    assert skipped(results) == [(), ()]


@pytest.mark.parametrize("kind", ["animation", "video"])
def test_frames_of_what_moves_are_seen_by_all(kind: str) -> None:
    still = frame_of(1.0, 1)
    moving = replace(frame_of(1.0), media=Media(started=0.0, kind=kind))  # type: ignore[arg-type]
    trio = Trio()
    assert skipped(trio.look(moving, still)) == [(), ("giant",)]
    assert trio.calls == [[2], [2], [1]]


def test_failures_pass_through_in_their_place() -> None:
    trio = Trio()
    gone = lost()
    first, second, third = trio.look(frame_of(1.0), gone, frame_of(0.0))
    assert second is gone
    assert skipped([first, third]) == [("giant",), ("giant",)]


def test_a_picture_that_breaks_one_model_costs_itself_alone() -> None:
    def fail(frames: Sequence[Frame]) -> None:
        if any(frame.item.index == 1 for frame in frames):
            raise RuntimeError("this one")

    trio = Trio()
    trio.models[1].before = fail
    first, second, third = trio.look(frame_of(1.0, 0), frame_of(1.0, 1), frame_of(0.0, 2))
    assert isinstance(second, Failure)
    assert (second.code, second.item.index) == ("model_error", 1)
    assert skipped([first, third]) == [("giant",), ("giant",)]
    assert trio.models[2].calls == []


def test_what_is_no_number_fails_whatever_the_others_say() -> None:
    broken: Seen = LabelScores(scores={"other": 0.0, "red": math.nan})
    trio = Trio()
    trio.models[0].after = lambda seen: [broken, *seen[1:]]
    first, second = trio.look(frame_of(1.0, 0), frame_of(1.0, 1))
    assert isinstance(first, Failure)
    assert (first.code, skipped([second])) == ("non_finite_score", [("giant",)])
    assert trio.calls == [[2], [2], [1]], "one that has failed is shown to all, as without early exit"
    trio.models[0].after = lambda _: [broken]
    (alone,) = trio.look(frame_of(1.0))
    assert isinstance(alone, Failure)


def test_a_stand_in_judges_alone_and_skips_nobody() -> None:
    def fail(_frames: Sequence[Frame]) -> None:
        raise RuntimeError

    trio = Trio(stand_in="large")
    trio.models[1].before = fail
    (result,) = trio.look(frame_of(1.0))
    assert isinstance(result, Evidence)
    assert (result.stand_in, result.skipped, list(result.seen)) == (True, (), ["large"])
    (verdict,) = judge([result], trio.criteria)
    assert isinstance(verdict, Verdict)
    assert (verdict.needs_review, verdict.degraded, verdict.deciding.bounds) == (True, True, None)


def test_all_kinds_of_models_take_part() -> None:
    models: tuple[AnyColourModel, ...] = (
        RedEmbedder(name="e"),
        RedClassifier(name="c"),
        RedDetector(name="d"),
    )
    ensemble = Ensemble(members=[Member(one, weight) for one, weight in zip(models, WEIGHTS, strict=True)])
    criteria = prepare(ensemble, POLICY, threshold=0.5)
    frames = [frame_of(i / 20, i) for i in range(21)]
    early = list(judge(infer(ensemble, [frames], criteria.outcome_is_certain), criteria))
    full = list(judge(infer(ensemble, [frames]), criteria))
    assert 0 < models[2].calls[0] < len(frames)
    for one, other in zip(early, full, strict=True):
        assert isinstance(one, Verdict)
        assert isinstance(other, Verdict)
        assert (one.decision, one.needs_review) == (other.decision, other.needs_review)
