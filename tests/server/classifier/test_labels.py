"""The arithmetic of labels: laws over any scores, and the printed numbers of frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.decode.limits import MAX_SCORED_FRAMES
from clipmod_cli.server.apis.classifier.labels import (
    LabelSearch,
    frame_number,
    highest_of,
    ranked,
    sampling_of,
    scores_of,
    wanted_of,
)
from clipmod_cli.types import (
    Box,
    Detection,
    Detections,
    Embedding,
    Evidence,
    Item,
    Kind,
    LabelScores,
    Media,
    View,
)

LABELS = ("a", "b", "c")
scores = st.fixed_dictionaries({label: st.floats(0, 1) for label in LABELS})
films = st.lists(scores, min_size=1, max_size=12)


def searched(
    film: list[dict[str, float]], wanted: frozenset[str], least: float, *, first: bool
) -> LabelSearch:
    search = LabelSearch(wanted=wanted, least=least, first=first)
    for number, frame in enumerate(film):
        search.take(number, frame)
    return search


@given(films, st.sets(st.sampled_from(LABELS), min_size=1).map(frozenset), st.floats(0, 1))
def test_each_label_has_one_entry_and_its_first_frame(
    film: list[dict[str, float]], wanted: frozenset[str], least: float
) -> None:
    hits = searched(film, wanted, least, first=False).hits
    expected = {
        label: next((n for n, frame in enumerate(film) if frame[label] >= least), None) for label in wanted
    }
    assert {hit.label: hit.frame for hit in hits} == {k: v for k, v in expected.items() if v is not None}
    assert all(hit.frame is not None and film[hit.frame][hit.label] == hit.score for hit in hits)
    assert [hit.frame for hit in hits] == sorted(hit.frame or 0 for hit in hits)


@given(films, st.floats(0, 1))
def test_the_first_label_ends_the_search(film: list[dict[str, float]], least: float) -> None:
    everything = searched(film, frozenset(LABELS), least, first=False).hits
    assert searched(film, frozenset(LABELS), least, first=True).hits == everything[:1]


@given(films)
def test_a_search_is_over_once_nothing_can_be_added(film: list[dict[str, float]]) -> None:
    search = searched(film, frozenset(LABELS), 0.0, first=False)
    assert search.complete
    assert {hit.frame for hit in search.hits} == {0}


@given(films)
def test_two_searches_with_the_same_labels_know_nothing_of_each_other(film: list[dict[str, float]]) -> None:
    wanted = wanted_of(["a", "b"], LABELS)
    first = searched(film, wanted, 0.0, first=False)
    assert searched(film, wanted, 0.0, first=False).hits == first.hits
    assert wanted == {"a", "b"}


@given(films)
def test_the_highest_score_of_any_frame_counts(film: list[dict[str, float]]) -> None:
    assert highest_of(film) == {label: max(frame[label] for frame in film) for label in LABELS}


@given(scores)
def test_labels_are_ranked_and_all_there(frame: dict[str, float]) -> None:
    order = ranked(frame)
    assert dict(order) == frame
    assert [score for _, score in order] == sorted(frame.values(), reverse=True)


def test_without_labels_all_of_the_models_are_wanted() -> None:
    assert wanted_of([], LABELS) == set(LABELS)
    assert wanted_of(["b", "of another model"], LABELS) == {"b"}
    assert wanted_of(["of another model"], LABELS) == frozenset()


def test_what_a_detector_did_not_find_scores_nothing() -> None:
    found = tuple(Detection(label="a", score=score, box=(0, 0, 1, 1)) for score in (0.4, 0.9))
    assert scores_of(Detections(found=found), LABELS) == {"a": 0.9, "b": 0.0, "c": 0.0}
    assert scores_of(LabelScores(scores={"a": 0.5}), LABELS) == {"a": 0.5}
    with pytest.raises(TypeError, match="Embedding"):
        scores_of(Embedding(vector=np.ones(1, np.float32)), LABELS)


@pytest.mark.parametrize(("kind", "number"), [("image", None), ("animation", 7), ("video", 8)])
def test_frames_are_numbered_as_the_document_prints_them(kind: Kind, number: int | None) -> None:
    seen = Evidence(
        item=Item(source="x", index=0), media=Media(started=0.0, kind=kind), number=7, time_s=0.7, last=True,
        view=View(box=Box(0, 0, 1, 1)), seen={}, forward_ms={},
    )  # fmt: skip
    assert frame_number(seen) == number


@given(st.floats(0, 100, allow_nan=False), st.integers(1, 400))
def test_no_sampling_leaves_a_film_empty(percent: float, frames: int) -> None:
    starts = [number / 10 for number in range(frames)]
    chosen = sampling_of(fast=True, step_percent=percent).choose(starts)
    assert {0, frames - 1} <= set(chosen)
    assert len(chosen) <= MAX_SCORED_FRAMES


def test_fast_mode_takes_a_frame_each_so_many_per_cent() -> None:
    starts = [number / 10 for number in range(201)]
    assert sampling_of(fast=True, step_percent=5).choose(starts) == tuple(range(0, 201, 10))
    assert sampling_of(fast=False, step_percent=5).choose(starts) == tuple(range(201))
    assert sampling_of(fast=True, step_percent=100).choose(starts) == (0, 200)
    assert sampling_of(fast=True, step_percent=0).choose(starts) == tuple(range(201))
