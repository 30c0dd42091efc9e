"""From what one model saw to a distribution over categories: hand-computed, and the laws of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.judge.criteria import categories_with_prompts, mapped_labels, mean_vectors, severity_order
from clipmod_cli.judge.policy.values import Category, Policy, Safety
from clipmod_cli.judge.readers import DetectorReader, LabelReader, Probabilities, TextReader
from clipmod_cli.types import Detection, Detections, Embedding, LabelScores, Seen

CLOSE = 1e-9


def embedding(*vector: float) -> Embedding:
    return Embedding(vector=np.array(vector, dtype=np.float32))


def found(*detections: tuple[str, float]) -> Detections:
    return Detections(
        found=tuple(Detection(label=label, score=score, box=(0, 0, 1, 1)) for label, score in detections)
    )


def text_reader(*vectors: Sequence[float], scale: float, visible: Sequence[int] | None = None) -> TextReader:
    shown = range(len(vectors)) if visible is None else visible
    return TextReader(
        vectors=np.array(vectors, dtype=np.float32), visible=shown, total=max(shown) + 1, scale=scale
    )


# Softmax of scale x cosine.


@pytest.mark.parametrize(
    ("seen", "scale", "expected"),
    [
        ((1.0, 0.0), math.log(3), (0.75, 0.25)),  # e^(ln 3 x 1) : e^(ln 3 x 0) = 3 : 1
        ((0.0, 1.0), math.log(3), (0.25, 0.75)),
        ((0.6, 0.8), math.log(4), (4**0.6 / (4**0.6 + 4**0.8), 4**0.8 / (4**0.6 + 4**0.8))),
        ((-1.0, 0.0), math.log(3), (0.25, 0.75)),
        ((1.0, 0.0), 0.0, (0.5, 0.5)),
        ((1.0, 0.0), 1e4, (1.0, 0.0)),  # nothing overflows
    ],
)
def test_a_text_image_model_by_hand(
    seen: tuple[float, float], scale: float, expected: tuple[float, float]
) -> None:
    shares = text_reader((1, 0), (0, 1), scale=scale).read(embedding(*seen))
    assert shares == pytest.approx(np.array(expected), abs=1e-6)


def test_a_category_without_prompts_gets_nothing() -> None:
    shares = text_reader((1, 0), (0, 1), scale=math.log(3), visible=(0, 2)).read(embedding(1, 0))
    assert shares == pytest.approx(np.array([0.75, 0.0, 0.25]))


def test_the_vector_of_a_category_is_the_normalised_mean_of_all_its_texts() -> None:
    policy = Policy(
        name="x",
        templates=("a {}", "{}"),
        categories=(
            Category(name="one", safety="SAFE", prompts=("cat",)),
            Category(name="silent", safety="SAFE", labels={"m": ("x",)}),
            Category(name="two", safety="UNSAFE", prompts=("dog", "wolf")),
        ),
    )
    texts = {
        "a cat": (0.0, 1.0), "cat": (1.0, 0.0),
        "a dog": (1.0, 0.0), "dog": (1.0, 0.0), "a wolf": (0.0, 1.0), "wolf": (0.6, 0.8),
    }  # fmt: skip
    vectors = mean_vectors({text: np.array(v, dtype=np.float32) for text, v in texts.items()}, policy)
    # two: the sum is (2.6, 1.8); one prompt counts as much as the other
    long = math.hypot(2.6, 1.8)
    assert vectors == pytest.approx(np.array([[math.sqrt(0.5)] * 2, [2.6 / long, 1.8 / long]]), abs=1e-6)
    assert vectors.dtype == np.float32


# Sums of mapped labels, renormalised.

LABELS = [frozenset({"a", "b"}), frozenset({"c"}), frozenset[str]()]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"a": 0.5, "b": 0.1, "c": 0.4}, (0.6, 0.4, 0.0)),
        ({"a": 0.1, "b": 0.1, "c": 0.2, "unmapped": 0.6}, (0.5, 0.5, 0.0)),
        ({"a": 0.0, "b": 0.0, "c": 1e-6}, (0.0, 1.0, 0.0)),
        ({"a": 0.9, "b": 0.9, "c": 0.6}, (0.75, 0.25, 0.0)),  # each label a sigmoid of its own
    ],
)
def test_a_classifier_by_hand(scores: Mapping[str, float], expected: tuple[float, ...]) -> None:
    assert LabelReader(labels=LABELS).read(LabelScores(scores=scores)) == pytest.approx(np.array(expected))


def test_a_classifier_without_any_mapped_score_says_nothing() -> None:
    shares = LabelReader(labels=LABELS).read(LabelScores(scores={"a": 0.0, "b": 0.0, "c": 0.0, "other": 1.0}))
    assert not np.isfinite(shares).any()


@pytest.mark.parametrize(
    ("scores", "share"),
    [
        ({"a": 0.3, "b": 0.1, "c": 0.6, "x": 0.0, "y": 0.0}, 0.0),
        ({"a": 0.1, "b": 0.1, "c": 0.2, "x": 0.5, "y": 0.1}, 0.6),
        ({"a": 0.9, "b": 0.9, "c": 0.6, "x": 0.8, "y": 0.8}, 0.4),  # each label a sigmoid of its own
        ({"a": 0.0, "b": 0.0, "c": 0.0, "x": 0.0, "y": 0.0}, 0.0),
    ],
)
def test_the_share_of_labels_without_a_category(scores: Mapping[str, float], share: float) -> None:
    reader = LabelReader(labels=LABELS, unmapped=frozenset({"x", "y"}))
    assert reader.unmapped_share(LabelScores(scores=scores)) == share


def test_a_label_that_a_classifier_lacks_is_no_zero() -> None:
    with pytest.raises(KeyError):
        LabelReader(labels=LABELS).read(LabelScores(scores={"a": 0.5, "b": 0.5}))


# UNSAFE from the last listed to the first, then SAFE likewise; each its highest score or what is left.

POLICY = Policy(
    name="detected",
    categories=(
        Category(name="nothing", safety="SAFE", otherwise=True),
        Category(name="face", safety="SAFE", labels={"nudenet": ("FACE",)}),
        Category(name="belly", safety="SAFE", labels={"nudenet": ("BELLY", "FEET")}),
        Category(name="nude", safety="UNSAFE", labels={"nudenet": ("BREAST", "BUTTOCKS")}),
        Category(name="explicit", safety="UNSAFE", labels={"nudenet": ("GENITALIA",), "other": ("x",)}),
    ),
)
DETECTOR = DetectorReader(labels=mapped_labels(POLICY, "nudenet"), order=severity_order(POLICY), rest=0)


@pytest.mark.parametrize(
    ("detections", "expected"),
    [
        ([], (1, 0, 0, 0, 0)),
        ([("FACE", 0.9)], (0.1, 0.9, 0, 0, 0)),
        ([("GENITALIA", 0.9), ("BREAST", 0.8)], (0, 0, 0, 0.1, 0.9)),
        ([("BREAST", 0.5), ("BUTTOCKS", 0.7), ("BREAST", 0.6)], (0.3, 0, 0, 0.7, 0)),  # the highest, no sum
        ([("BREAST", 0.6), ("FACE", 0.9), ("FEET", 0.3)], (0, 0.1, 0.3, 0.6, 0)),  # belly before face
        ([("GENITALIA", 1.0), ("FACE", 1.0)], (0, 0, 0, 0, 1)),
        ([("ARMPITS", 0.9), ("BREAST", 0.25)], (0.75, 0, 0, 0.25, 0)),  # unmapped labels say nothing
        ([("x", 0.9)], (1, 0, 0, 0, 0)),  # another model's label
    ],
)
def test_a_detector_by_hand(detections: list[tuple[str, float]], expected: tuple[float, ...]) -> None:
    for order in permutations(detections):
        assert DETECTOR.read(found(*order)) == pytest.approx(np.array(expected))


def test_otherwise_takes_the_rest_beside_its_own_labels() -> None:
    reader = DetectorReader(labels=[frozenset({"CAT"}), frozenset({"DOG"})], order=(1, 0), rest=0)
    assert reader.read(found(("CAT", 0.3), ("DOG", 0.2))) == pytest.approx(np.array([0.8, 0.2]))


@pytest.mark.parametrize(
    ("safeties", "order"),
    [
        (("SAFE", "SAFE", "UNSAFE", "UNSAFE"), (3, 2, 1, 0)),
        (("UNSAFE", "SAFE", "UNSAFE", "SAFE"), (2, 0, 3, 1)),
        (("UNSAFE", "SAFE"), (0, 1)),
        (("SAFE", "SAFE"), (1, 0)),
    ],
)
def test_the_order_of_severity(safeties: tuple[Safety, ...], order: tuple[int, ...]) -> None:
    categories = tuple(Category(name=str(i), safety=safety) for i, safety in enumerate(safeties))
    assert severity_order(Policy(name="x", categories=categories)) == order


def test_which_labels_and_prompts_count() -> None:
    assert mapped_labels(POLICY, "other") == (frozenset(),) * 4 + (frozenset({"x"}),)
    assert mapped_labels(POLICY, "nobody") == (frozenset(),) * 5
    assert categories_with_prompts(POLICY) == ()


@pytest.mark.parametrize(
    ("reader", "wrong"),
    [
        (text_reader((1, 0), scale=1.0), LabelScores(scores={})),
        (LabelReader(labels=LABELS), Detections(found=())),
        (DETECTOR, embedding(1, 0)),
    ],
)
def test_evidence_of_another_kind_is_a_bug(
    reader: TextReader | LabelReader | DetectorReader, wrong: Seen
) -> None:
    with pytest.raises(TypeError, match="gives"):
        reader.read(wrong)


# Laws.

shares = st.floats(0, 1, allow_subnormal=False)
angles = st.floats(0, 2 * math.pi)
detector_labels = st.sampled_from(["FACE", "BELLY", "FEET", "BREAST", "BUTTOCKS", "GENITALIA", "ARMPITS"])
detections = st.lists(st.tuples(detector_labels, shares), max_size=8)


def is_distribution(values: Probabilities) -> bool:
    return bool(np.all(values >= 0) and math.isclose(values.sum(), 1.0, abs_tol=CLOSE))


@given(directions=st.lists(angles, min_size=2, max_size=5), seen=angles, scale=st.floats(0, 200))
def test_law_a_text_image_models_shares_follow_its_cosines(
    directions: list[float], seen: float, scale: float
) -> None:
    reader = text_reader(*((math.cos(a), math.sin(a)) for a in directions), scale=scale)
    values = reader.read(embedding(math.cos(seen), math.sin(seen)))
    assert is_distribution(values)
    cosines = [math.cos(a - seen) for a in directions]
    assert values[int(np.argmax(cosines))] >= values.max() - 1e-3


@given(scores=st.fixed_dictionaries({"a": shares, "b": shares, "c": shares}))
def test_law_a_classifiers_shares_are_a_distribution_or_nothing(scores: dict[str, float]) -> None:
    values = LabelReader(labels=LABELS).read(LabelScores(scores=scores))
    assert is_distribution(values) if sum(scores.values()) > 0 else not np.isfinite(values).any()


@given(seen=detections)
def test_law_a_detectors_shares_are_a_distribution_and_the_worst_is_whole(
    seen: list[tuple[str, float]],
) -> None:
    values = DETECTOR.read(found(*seen))
    assert is_distribution(values)
    assert values[4] == max((score for label, score in seen if label == "GENITALIA"), default=0.0)
    worst = max((score for label, score in seen if label in {"GENITALIA", "BREAST", "BUTTOCKS"}), default=0.0)
    assert values[3] + values[4] >= worst - CLOSE


@given(
    seen=detections,
    label=st.sampled_from(["BREAST", "BUTTOCKS", "GENITALIA"]),
    more=shares,
    at=st.integers(0, 7),
)
def test_law_one_more_unsafe_detection_is_never_milder(
    seen: list[tuple[str, float]], label: str, more: float, at: int
) -> None:
    before, after = DETECTOR.read(found(*seen)), DETECTOR.read(found(*seen[:at], (label, more), *seen[at:]))
    assert after[3:].sum() >= before[3:].sum() - CLOSE
    assert after[4] >= before[4]
    raised = [(name, max(score, more)) if name == label else (name, score) for name, score in seen]
    assert DETECTOR.read(found(*raised))[3:].sum() >= before[3:].sum() - CLOSE
