"""Independent scoring: each UNSAFE category is scored as if it were the only one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clipmod_cli.errors import BlindModelError
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.frame_scores import score_frame
from clipmod_cli.judge.policy.values import Category, Policy, Safety
from clipmod_cli.judge.prepare import criteria_of, reader_of
from clipmod_cli.models.seam import ModelWithLabels, ModelWithPrompts
from clipmod_cli.types import (
    Detection,
    Detections,
    Embedding,
    Evidence,
    FrameScore,
    LabelScores,
    Seen,
)
from tests.evidence import VIEW, evidence, item_of, media_of, policy_of, saw, verdict_of
from tests.evidence import criteria_of as classifiers

DIMENSIONS = 6


@dataclass
class WordModel:
    """A text-image model by whose texts every word has a direction of its own."""

    name: str = "words"
    spec: str = "words"
    revision: str = "1"
    kind: Literal["text-image"] = "text-image"
    dtype: str = "float32"
    logit_scale: float = 10.0

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return a direction for each text, always the same."""
        return np.stack([direction(text) for text in prompts])


@dataclass
class OwnLabels:
    """A classifier or detector that is not run: what it saw is given."""

    name: str
    spec: str
    kind: Literal["classifier", "detector"]
    labels: Sequence[str]
    revision: str = "1"
    dtype: str = "float32"


def direction(text: str) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(DIMENSIONS)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


UNSAFE_NAMES = ("nudity", "weapons", "gore", "drugs")
LABELS = ("normal", "calm", *UNSAFE_NAMES, "any", "none_of_these")


def category(name: str, safety: Safety = "UNSAFE", *, negatives: Sequence[str] = (), **more: Any) -> Category:
    """Return a category with two prompts, and labels of a classifier and a detector.

    The classifier does not divide `any`, which stands for all that is UNSAFE.
    """
    said = (name, "any") if safety == "UNSAFE" else (name,)
    labels = {"classes": said, "boxes": (name.upper(),)}
    prompts = (name, f"much {name}")
    return Category(
        name=name, safety=safety, prompts=prompts, labels=labels, negatives=tuple(negatives), **more
    )


def policy(*unsafe: Category, **more: Any) -> Policy:
    safe = (category("normal", "SAFE", otherwise=True), category("calm", "SAFE"))
    templates = ("{}", "a photo of {}")
    return Policy(
        name="independent", scoring="independent", templates=templates, categories=(*safe, *unsafe), **more
    )


MODELS: Sequence[tuple[ModelWithPrompts | ModelWithLabels, float]] = (
    (WordModel(), 0.5),
    (OwnLabels("classes", "classes", "classifier", LABELS), 0.3),
    (OwnLabels("boxes", "boxes", "detector", tuple(label.upper() for label in LABELS)), 0.2),
)


def criteria(judged: Policy, threshold: float = 0.5) -> Criteria:
    return criteria_of(MODELS, judged, threshold=threshold, degraded=False)


def judged_by(seen: Mapping[str, Seen], judged: Policy) -> FrameScore:
    frame = Evidence(
        item=item_of(), media=media_of(), last=True, seen=seen, number=0, time_s=0.0, view=VIEW,
        forward_ms=dict.fromkeys(seen, 0.0),
    )  # fmt: skip
    score = score_frame(frame, criteria(judged))
    assert isinstance(score, FrameScore)
    return score


numbers = st.integers(0, 20).map(lambda step: step / 20)


@st.composite
def sights(draw: st.DrawFn) -> Mapping[str, Seen]:
    """Return what each of the models saw in a view."""
    vector = np.array(
        draw(st.lists(st.integers(-5, 5), min_size=DIMENSIONS, max_size=DIMENSIONS)), np.float32
    )
    said = dict(zip(LABELS, draw(st.lists(numbers, min_size=len(LABELS), max_size=len(LABELS))), strict=True))
    said["normal"] = max(said["normal"], 0.05)  # a classifier that says nothing cannot be judged
    found = draw(st.lists(st.tuples(st.sampled_from(LABELS), numbers), max_size=4))
    return {
        "words": Embedding(vector=vector / (np.linalg.norm(vector) or 1.0)),
        "classes": LabelScores(scores=said),
        "boxes": Detections(
            found=tuple(Detection(label=a.upper(), score=b, box=(0, 0, 1, 1)) for a, b in found)
        ),
    }


texts = st.lists(st.sampled_from(["toy", "statue", "kitchen knife", "swimwear"]), max_size=2, unique=True)
drawn = st.lists(st.sampled_from(UNSAFE_NAMES), min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.tuples(*(st.builds(category, st.just(name), negatives=texts) for name in names))
)


@given(seen=sights(), categories=drawn, data=st.data())
def test_law_adding_or_removing_an_unsafe_category_moves_no_other_score(
    seen: Mapping[str, Seen], categories: Sequence[Category], data: st.DataObject
) -> None:
    kept = data.draw(st.lists(st.sampled_from(categories), min_size=1, unique_by=lambda c: c.name))
    all_of_them, some = judged_by(seen, policy(*categories)), judged_by(seen, policy(*kept))
    names = [c.name for c in kept]
    assert {n: all_of_them.category_scores[n] for n in names} == pytest.approx(some.category_scores, abs=2e-6)
    for name, share in some.probabilities.items():
        assert all_of_them.probabilities[name] == pytest.approx(share, abs=1e-12)
        for model, scores in some.by_model.items():
            found = all_of_them.by_model[model].probabilities[name]
            assert found == pytest.approx(scores.probabilities[name], abs=1e-12)
    assert all_of_them.unsafe_score >= some.unsafe_score - 1e-6


@given(seen=sights(), categories=drawn)
def test_law_the_unsafe_score_is_the_highest_category(
    seen: Mapping[str, Seen], categories: Sequence[Category]
) -> None:
    score = judged_by(seen, policy(*categories))
    assert score.unsafe_score == max(score.category_scores.values())
    assert all(0.0 <= share <= 1.0 for share in score.probabilities.values())
    assert score.confidence == max(score.probabilities.values())
    assert 0.0 <= score.agreement <= 1.0
    for shares in [score.probabilities, *(one.probabilities for one in score.by_model.values())]:
        assert max(shares["normal"], shares["calm"]) <= 0.5 + 1e-12
    assert score.by_model["words"].probabilities["normal"] == pytest.approx(0.5) or (
        score.by_model["words"].probabilities["calm"] == pytest.approx(0.5)
    )


@given(seen=sights(), categories=drawn, which=st.integers(0, 3), text=st.text("abc", min_size=1, max_size=3))
def test_law_a_negative_never_raises_its_category_and_moves_no_other(
    seen: Mapping[str, Seen], categories: Sequence[Category], which: int, text: str
) -> None:
    chosen = categories[which % len(categories)]
    more = [replace(c, negatives=(*c.negatives, text)) if c is chosen else c for c in categories]
    before, after = judged_by(seen, policy(*categories)), judged_by(seen, policy(*more))
    for name, score in before.category_scores.items():
        if name == chosen.name:
            assert after.category_scores[name] <= score
        else:
            assert after.category_scores[name] == score


@given(seen=sights(), name=st.sampled_from(UNSAFE_NAMES))
def test_law_labels_of_one_unsafe_category_score_as_with_softmax(seen: Mapping[str, Seen], name: str) -> None:
    """A category is scored as if it were the only UNSAFE one, so where it is, labels do not differ."""
    independent, softmax = (
        judged_by(seen, replace(policy(category(name)), scoring=scoring)).by_model
        for scoring in ("softmax", "independent")
    )
    for model in ("classes", "boxes"):
        found = independent[model].probabilities[name]
        assert found == pytest.approx(softmax[model].probabilities[name], abs=1e-12)


def text_scores(vector: NDArray[np.float32], *unsafe: Category, **more: Any) -> dict[str, float]:
    judged = policy(*unsafe, **more)
    shares = reader_of(WordModel(), judged).read(Embedding(vector=vector))
    return dict(zip([c.name for c in judged.categories], shares.tolist(), strict=True))


def prompt_vector(prompt: str) -> NDArray[np.float32]:
    mean = direction(prompt) + direction(f"a photo of {prompt}")
    return np.asarray(mean / np.linalg.norm(mean))


def test_a_text_image_model_by_hand() -> None:
    seen = prompt_vector("nudity")

    def best(*prompts: str) -> float:
        return max(float(seen @ prompt_vector(prompt)) for prompt in prompts)

    neutral = best("normal", "much normal", "calm", "much calm")
    plain = text_scores(seen, category("nudity"), category("gore"))
    assert plain["nudity"] == pytest.approx(1 / (1 + math.exp(-10 * (1.0 - neutral))), abs=1e-5)
    gore = best("gore", "much gore")
    assert plain["gore"] == pytest.approx(1 / (1 + math.exp(-10 * (gore - neutral))), abs=1e-5)
    opposed = text_scores(seen, category("nudity", negatives=["nudity.", "statue"]), category("gore"))
    against = max(neutral, best("nudity.", "statue"))
    assert opposed["nudity"] == pytest.approx(1 / (1 + math.exp(-10 * (1.0 - against))), abs=1e-5)
    assert opposed["gore"] == plain["gore"]


def test_one_of_several_prompts_is_enough() -> None:
    """A mean over them would not be near any: that is what softmax scoring compares."""
    many = Category(name="many", safety="UNSAFE", prompts=tuple(f"kind {i}" for i in range(30)))
    scores = text_scores(prompt_vector("kind 7"), many)
    few = text_scores(prompt_vector("kind 7"), replace(many, prompts=("kind 7",)))
    assert scores["many"] == pytest.approx(few["many"])
    assert scores["many"] > 0.5


def test_nothing_overflows() -> None:
    sharp = WordModel(logit_scale=1e6)
    judged = policy(category("nudity"), category("gore"))
    shares = reader_of(sharp, judged).read(Embedding(vector=prompt_vector("nudity")))
    assert shares[2] == 1.0
    assert np.isfinite(shares).all()
    nothing = reader_of(sharp, judged).read(Embedding(vector=np.full(DIMENSIONS, np.nan, np.float32)))
    assert not np.isfinite(nothing).any()


@pytest.mark.parametrize(
    ("scores", "nudity", "gore"),
    [
        ({"normal": 0.5, "nudity": 0.5}, 0.5, 0.0),
        ({"normal": 0.1, "calm": 0.1, "nudity": 0.2, "gore": 0.6}, 0.5, 0.75),
        ({"nudity": 1e-6}, 1.0, 0.0),  # nothing SAFE
        ({"gore": 0.9}, 0.0, 1.0),
        ({"normal": 0.2, "any": 0.6}, 0.75, 0.75),  # not divided: in full for each
        ({"normal": 0.3, "none_of_these": 0.6, "gore": 0.1}, 0.0, 0.25),
    ],
)
def test_a_classifier_compares_each_category_with_the_safe_ones(
    scores: Mapping[str, float], nudity: float, gore: float
) -> None:
    reader = reader_of(MODELS[1][0], policy(category("nudity"), category("gore")))
    shares = reader.read(LabelScores(scores={**dict.fromkeys(LABELS, 0.0), **scores}))
    assert shares[2:] == pytest.approx(np.array([nudity, gore]))


def test_a_classifier_without_any_mapped_score_says_nothing() -> None:
    reader = reader_of(MODELS[1][0], policy(category("nudity")))
    nothing = LabelScores(scores={**dict.fromkeys(LABELS, 0.0), "none_of_these": 1.0})
    assert not np.isfinite(reader.read(nothing)).any()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], (0.5, 0.0, 0.0, 0.0)),
        ([("NUDITY", 0.9), ("GORE", 0.8), ("GORE", 0.3)], (0.5, 0.0, 0.9, 0.8)),
        ([("CALM", 0.6), ("GORE", 0.4)], (0.2, 0.3, 0.0, 0.4)),
    ],
)
def test_a_detector_gives_each_category_its_highest_score(
    found: Sequence[tuple[str, float]], expected: Sequence[float]
) -> None:
    reader = reader_of(MODELS[2][0], policy(category("nudity"), category("gore")))
    seen = Detections(found=tuple(Detection(label=a, score=b, box=(0, 0, 1, 1)) for a, b in found))
    assert reader.read(seen) == pytest.approx(np.array(expected))


INDEPENDENT = policy_of(scoring="independent", agreement_threshold=0.7)


def test_members_agree_where_they_take_the_same_side() -> None:
    """Two things may be true at once: to name another of them is no disagreement."""
    both = [saw(0.1, 0.0, 0.5, 0.4), saw(0.1, 0.0, 0.4, 0.5)]
    verdict = verdict_of([evidence(*both)], classifiers(INDEPENDENT, weights=(0.5, 0.5)))
    assert verdict.deciding.agreement == 1.0
    assert verdict.decision == "NSFW"
    apart = [saw(0.1, 0.0, 0.9, 0.0), saw(0.9, 0.1, 0.0, 0.0)]
    verdict = verdict_of([evidence(*apart)], classifiers(INDEPENDENT, threshold=0.4, weights=(0.6, 0.4)))
    assert verdict.deciding.unsafe_score == pytest.approx(0.54)
    assert verdict.deciding.agreement == 0.6
    assert verdict.review_reasons == ("low_agreement",)


def test_members_that_see_different_unsafe_things_are_sent_to_review() -> None:
    """The highest category is under the threshold, yet each member is sure of something."""
    seen = [saw(0.1, 0.0, 0.9, 0.0), saw(0.1, 0.0, 0.0, 0.9)]
    verdict = verdict_of([evidence(*seen)], classifiers(INDEPENDENT, weights=(0.5, 0.5)))
    assert verdict.deciding.unsafe_score == pytest.approx(0.45)
    assert (verdict.decision, verdict.review_reasons) == ("Safe", ("low_agreement",))


def test_a_label_that_is_not_divided_names_the_mildest_and_counts_in_full_for_each() -> None:
    verdict = verdict_of([evidence(saw(0.2, 0.0, 0.3, 0.5))], classifiers(INDEPENDENT, undivided=[0]))
    assert verdict.deciding.category == "nude"
    assert verdict.category_scores == pytest.approx({"nude": 0.8, "gore": 0.8})


@given(rows=st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=1, max_size=3), more=numbers)
def test_law_more_of_an_unsafe_label_is_never_milder(rows: list[list[float]], more: float) -> None:
    assume(all(sum(row) > 0 for row in rows))
    weights = [1 / len(rows)] * len(rows)
    worse = [[*rows[0][:3], rows[0][3] + more], *rows[1:]]
    mild, severe = (
        verdict_of([evidence(*(saw(*row) for row in each))], classifiers(INDEPENDENT, weights=weights))
        for each in (rows, worse)
    )
    assert severe.deciding.unsafe_score >= mild.deciding.unsafe_score - 1e-9


def test_a_model_that_sees_nothing_safe_has_nothing_to_compare_with() -> None:
    only_labels = [
        replace(c, prompts=()) if c.safety == "SAFE" else c
        for c in policy(category("gore"), category("drugs")).categories
    ]
    judged = replace(policy(), categories=tuple(only_labels))
    with pytest.raises(BlindModelError, match="at least two, one of them SAFE, need prompts"):
        criteria_of(MODELS[:1], judged, threshold=0.5, degraded=False)
    criteria_of(MODELS[1:2], judged, threshold=0.5, degraded=False)
