"""Models are asked only about what no run has shown to them; all that could matter is part of the key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import clipmod_cli.ensemble.cache
from clipmod_cli.ensemble.cache import EvidenceCache
from clipmod_cli.ensemble.cache_file import pack, unpack
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.ensemble.forward import ModelRunner, on_grid
from clipmod_cli.models.seam import Model
from clipmod_cli.types import Box, Detections, Evidence, Failure, Frame, LabelScores, Seen, View
from tests.colour_models import LARGE, AnyColourModel, RedClassifier, RedDetector, RedEmbedder, frame_of
from tests.evidence_of_all_kinds import is_same
from tests.measuring import infer


@dataclass
class Shelf:
    """Keeps evidence as the file does: as bytes, under keys."""

    kept: dict[bytes, bytes] = field(default_factory=dict)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Seen]:
        """Return what is kept under these keys."""
        read = {key: unpack(self.kept[key]) for key in keys if key in self.kept}
        return {key: seen for key, seen in read.items() if seen is not None}

    def put(self, seen: Mapping[bytes, Seen]) -> None:
        """Keep these."""
        self.kept.update({key: pack(one) for key, one in seen.items()})


def frames(*reds: int) -> list[Frame]:
    return [frame_of(red / 20, index) for index, red in enumerate(reds)]


def ask(shelf: Shelf, model: Model, *reds: int) -> list[Seen]:
    """Return what a run of its own sees."""
    return [output.seen for output in runner(shelf).run(model, frames(*reds))]


def runner(shelf: Shelf) -> ModelRunner:
    """Return what runs models with this cache."""
    return ModelRunner(EvidenceCache(shelf))


@given(st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=6), max_size=4))
def test_all_kinds_of_models_say_what_they_say_without_it(runs: list[list[int]]) -> None:
    models: list[Callable[[], AnyColourModel]] = [RedClassifier, RedDetector, RedEmbedder]
    for make in models:
        shelf, model = Shelf(), make()
        for reds in runs:
            expected = map(on_grid, make().infer(frames(*reds)))
            assert all(map(is_same, ask(shelf, model, *reds), expected))
        assert sum(model.calls) == len({red for reds in runs for red in reds})


def test_only_what_is_new_is_shown_and_what_is_known_took_no_time() -> None:
    shelf, model = Shelf(), RedClassifier()
    ask(shelf, model, 1, 2)
    told = runner(shelf).run(model, frames(2, 3, 1, 3))
    assert model.calls == [2, 1]
    assert [one.forward_ms > 0.0 for one in told] == [False, True, False, False]


@pytest.mark.parametrize(
    "other",
    [RedClassifier(revision="2"), RedClassifier(spec="hf:other"), RedClassifier(geometry=LARGE)],
    ids=["revision", "spec", "view"],
)
def test_another_model_is_asked(other: RedClassifier) -> None:
    shelf = Shelf()
    ask(shelf, RedClassifier(), 1)
    ask(shelf, other, 1)
    assert other.calls == [1]


def test_another_precision_is_asked() -> None:
    shelf, model = Shelf(), RedClassifier()
    ask(shelf, model, 1)
    model.dtype = "bfloat16"
    ask(shelf, model, 1)
    assert model.calls == [1, 1]


def test_another_version_of_the_program_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, model = Shelf(), RedClassifier()
    ask(shelf, model, 1)
    monkeypatch.setattr(clipmod_cli.ensemble.cache, "__version__", "another")
    ask(shelf, model, 1)
    assert model.calls == [1, 1]


def test_a_picture_that_differs_in_one_bit_is_shown() -> None:
    shelf, model = Shelf(), RedClassifier()
    (frame,) = frames(5)
    geometries = {geometry: pixels.copy() for geometry, pixels in frame.inputs.items()}
    geometries[model.geometry][-1, -1, -1] ^= 1
    one = runner(shelf)
    one.run(model, [frame])
    one.run(model, [replace(frame, inputs=geometries)])
    assert model.calls == [1, 1]


@pytest.mark.parametrize(
    ("model", "calls"), [(RedDetector(), [2]), (RedClassifier(), [1]), (RedEmbedder(), [1])]
)
def test_equal_views_are_shown_once_but_to_a_detector_whose_boxes_depend_on_their_place(
    model: AnyColourModel, calls: list[int]
) -> None:
    (frame,) = frames(20)
    beside = replace(frame, view=View(box=Box(0, 0, 640, 480)))
    first, second = runner(Shelf()).run(model, [frame, beside])
    assert model.calls == calls
    assert first.seen is not None
    assert is_same(first.seen, second.seen)  # the colour of both


def test_pixels_count_and_not_how_they_lie_in_memory() -> None:
    shelf, model = Shelf(), RedClassifier()
    (frame,) = frames(5)
    turned = {geometry: np.asfortranarray(pixels) for geometry, pixels in frame.inputs.items()}
    runner(shelf).run(model, [frame])
    runner(shelf).run(model, [replace(frame, inputs=turned)])
    assert model.calls == [1]


def test_a_failure_is_not_kept() -> None:
    def fail(_: object) -> None:
        raise RuntimeError("the device is gone")

    shelf, model = Shelf(), RedClassifier(before=fail)
    ensemble = Ensemble([Member(model, 1.0)], cache=EvidenceCache(shelf))
    (result,) = infer(ensemble, [frames(1)])
    assert isinstance(result, Failure)
    assert shelf.kept == {}
    model.before = lambda _: None
    (result,) = infer(ensemble, [frames(1)])
    assert isinstance(result, Evidence)


def test_what_is_not_finite_is_not_kept_and_stays_a_failure() -> None:
    def break_(seen: list[Seen]) -> list[Seen]:
        return [LabelScores(scores={"other": float("nan"), "red": 0.0}) for _ in seen]

    shelf, model = Shelf(), RedClassifier(after=break_)
    ensemble = Ensemble([Member(model, 1.0)], cache=EvidenceCache(shelf))
    for _ in range(2):
        (result,) = infer(ensemble, [frames(1)])
        assert isinstance(result, Failure)
        assert result.code == "non_finite_score"
    assert model.calls == [1, 1]


def test_a_model_that_answers_for_too_few_is_no_answer() -> None:
    model = RedClassifier(after=lambda seen: seen[:-1])
    with pytest.raises(ValueError, match="gave 1 results for 2"):
        runner(Shelf()).run(model, frames(1, 2))


def test_members_with_one_view_share_a_hash_and_each_keeps_its_own() -> None:
    shelf = Shelf()
    one, other = RedClassifier(name="one"), RedDetector(name="other")
    ensemble = Ensemble([Member(one, 0.5), Member(other, 0.5)], cache=EvidenceCache(shelf))
    first = list(infer(ensemble, [frames(0, 20)]))
    again = list(infer(ensemble, [frames(20, 0)]))
    assert (one.calls, other.calls) == ([2], [2])
    assert len(shelf.kept) == 4
    for left, right in zip(first, reversed(again), strict=True):
        assert isinstance(left, Evidence)
        assert isinstance(right, Evidence)
        assert left.seen == right.seen
        assert set(right.forward_ms.values()) == {0.0}
    assert isinstance(first[0], Evidence)
    assert first[0].seen["other"] == Detections(found=())
