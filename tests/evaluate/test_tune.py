"""From labelled records to promises: which scores count, what is refused, and splits by content."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.samples import LabelledSet
from clipmod_cli.evaluate.tuning.bounds import PromisedThreshold, threshold_for_recall
from clipmod_cli.evaluate.tuning.thresholds import (
    Target,
    TuningRefused,
    cost_of,
    labels_digest,
    sum_scores,
    tune_budget,
    tune_categories,
    tune_sum,
)
from clipmod_cli.judge.policy.tuning import Promise
from tests.evaluate.kit import POLICY, labelled

RECALL = Target(rate="recall", value=0.95, delta=0.05)
PRECISION = Target(rate="precision", value=0.5, delta=0.05, prevalence=0.1)
POSITIVES, NEGATIVES = 100, 400


def rounded(values: object) -> list[float]:
    return [float(one) for one in np.asarray(values).round(6)]


RNG = np.random.default_rng(4)
HIGH, LOW = rounded(RNG.beta(4, 2, POSITIVES)), rounded(RNG.beta(1, 6, NEGATIVES))
TRUTHS = [True] * POSITIVES + [False] * NEGATIVES


def both(**fields: Any) -> LabelledSet:
    return labelled(TRUTHS, [*HIGH, *LOW], fields=fields.get("fields"))


def sums(found: LabelledSet) -> NDArray[np.float64]:
    return np.array(list(sum_scores((pair.judged for pair in found.pairs), found.policy)))


def promise(outcome: Promise | TuningRefused) -> Promise:
    assert isinstance(outcome, Promise)
    return outcome


def test_a_recall_is_promised_by_the_scores_of_the_positives() -> None:
    found = promise(tune_sum(both(), RECALL))
    expected = threshold_for_recall(np.array(HIGH), 0.95, 0.05)
    assert isinstance(expected, PromisedThreshold)
    assert (found.threshold, found.bound) == (expected.threshold, expected.bound)
    assert (found.rate, found.target, found.category) == ("recall", 0.95, None)
    assert (found.positives, found.inputs) == (POSITIVES, POSITIVES + NEGATIVES)


def test_an_input_that_could_not_be_judged_is_not_caught() -> None:
    few = labelled([True] * 60, [None, *HIGH[:59]])
    refused = tune_sum(few, RECALL)
    assert isinstance(refused, TuningRefused)
    assert refused.shortfall.missing > 0
    assert promise(tune_sum(labelled([True] * 59, HIGH[:59]), RECALL)).threshold == min(HIGH[:59])


def test_what_a_category_flags_by_its_own_threshold_is_caught_whatever_the_sum() -> None:
    own = {"category_scores": {"nudity": 0.5, "explicit": 0.0}, "matched_categories": ["nudity"]}
    none = {"category_scores": {"nudity": 0.0, "explicit": 0.0}}
    categories = [replace(c, threshold=0.4) if c.name == "nudity" else c for c in POLICY.categories]
    policy = replace(POLICY, categories=tuple(categories))
    scores = [0.1 + number / 1000 for number in range(59)]
    plain = labelled([True] * 59, scores, fields={n: own if n == 0 else none for n in range(59)})
    assert promise(tune_sum(plain, RECALL)).threshold == 0.1
    assert promise(tune_sum(replace(plain, policy=policy), RECALL)).threshold == 0.101
    compact = replace(labelled([True] * 59, scores), policy=policy)
    with pytest.raises(UsageError, match="compact records have no scores of categories"):
        tune_sum(compact, RECALL)


def test_the_pilot_and_the_tests_of_a_precision_are_other_inputs_and_always_the_same() -> None:
    found = promise(tune_sum(both(), PRECISION))
    assert found.prevalence == 0.1
    shuffled = both()
    again = promise(tune_sum(shuffled.with_pairs(shuffled.pairs[::-1]), PRECISION))
    assert again == found
    whole = np.array(HIGH), np.array(LOW)
    assert found.bound >= 0.5
    caught, alarms = (int((part >= found.threshold).sum()) for part in whole)
    share = 0.1 * caught / POSITIVES
    assert share / (share + 0.9 * alarms / NEGATIVES) >= 0.5


def test_each_category_is_tuned_on_the_labels_that_tell_of_it() -> None:
    truths = ["nudity"] * 70 + ["explicit"] * 60 + [False] * 100 + [True] * 20
    rng = np.random.default_rng(5)
    own = [
        {"category_scores": {"nudity": round(float(a), 6), "explicit": round(float(b), 6)}}
        for a, b in zip(rng.uniform(0.2, 0.5, 250), rng.uniform(0.1, 0.4, 250), strict=True)
    ]
    found = labelled(truths, rounded(rng.uniform(0.5, 0.9, 250)), fields=dict(enumerate(own)))
    outcomes, unlabelled = tune_categories(found, RECALL)
    assert unlabelled == []
    nudity, explicit = (promise(one) for one in outcomes)
    assert (nudity.category, explicit.category) == ("nudity", "explicit")
    assert (nudity.positives, nudity.inputs) == (70, 230), "the 20 NSFW ones may or may not be nudity"
    scores = np.array([one["category_scores"]["explicit"] for one in own[70:130]])
    assert explicit.threshold == float(scores.min()), "60 positives allow no miss"
    only, left = tune_categories(found.with_pairs([*found.pairs[:70], *found.pairs[130:230]]), RECALL)
    assert (promise(only[0]).category, left) == ("nudity", ["explicit"])
    few, _ = tune_categories(found.with_pairs(found.pairs[:100]), RECALL)
    assert isinstance(few[1], TuningRefused)
    assert few[1].shortfall.missing == 29
    with pytest.raises(UsageError, match="none of the 120 labels used names an UNSAFE category"):
        tune_categories(found.with_pairs(found.pairs[130:]), RECALL)


def test_a_budget_counts_inputs_that_could_not_be_judged_as_not_flagged() -> None:
    target = Target(rate="flagged", value=0.02, delta=0.05)
    found = promise(tune_budget(sums(both()), target))
    assert cost_of(both().pairs, POLICY, found.threshold).flagged <= 0.02
    assert (found.rate, found.positives, found.inputs) == ("flagged", 0, 500)
    lost = labelled(TRUTHS, [*[None] * POSITIVES, *LOW])
    fewer = promise(tune_budget(sums(lost), target))
    assert fewer.threshold < found.threshold


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"models_skipped": ["b"]}, "p/3.jpg was not judged by all models"),
        ({"frames_sampling": "auto, until a hit"}, "--stop-on-hit"),
    ],
)
def test_records_that_do_not_have_all_scores_are_refused(fields: dict[str, Any], message: str) -> None:
    partial = both(fields={3: fields})
    with pytest.raises(UsageError, match=message):
        tune_sum(partial, RECALL)
    with pytest.raises(UsageError, match=message):
        sums(partial)


def test_films_whose_frames_count_by_the_threshold_are_refused() -> None:
    films = replace(both(fields={3: {"kind": "video"}}), policy=replace(POLICY, persistence_s=1.0))
    with pytest.raises(UsageError, match=r"p/3\.jpg is a film"):
        tune_sum(films, RECALL)
    pictures = replace(both(), policy=replace(POLICY, persistence_s=1.0))
    assert promise(tune_sum(pictures, RECALL)) == promise(tune_sum(both(), RECALL))


def test_labels_that_were_drawn_with_different_chances_are_never_tuned_on_as_they_are() -> None:
    """Where flagged inputs were all labelled and others seldom, a share of the labels is no share of use."""
    weighted = labelled([True] * 60, HIGH[:60], weights=[1.0] * 30 + [100.0] * 30)
    with pytest.raises(AssertionError, match="different weights"):
        tune_sum(weighted, RECALL)
    with pytest.raises(AssertionError, match="different weights"):
        tune_categories(weighted, RECALL)


def test_labels_that_were_all_drawn_with_the_same_chance_are_as_good_as_unweighted_ones() -> None:
    audit = labelled([True] * 60, HIGH[:60], weights=[200.0] * 60)
    assert promise(tune_sum(audit, RECALL)) == promise(tune_sum(labelled([True] * 60, HIGH[:60]), RECALL))


def test_the_digest_is_of_the_labels_whatever_their_order() -> None:
    pairs = both().pairs
    assert labels_digest(pairs) == labels_digest(pairs[::-1])
    changed = [replace(pairs[0], label=replace(pairs[0].label, decision="Safe")), *pairs[1:]]
    assert labels_digest(changed) != labels_digest(pairs)


def test_the_cost_is_what_the_thresholds_do_on_the_labels() -> None:
    found = cost_of(labelled([True, True, False, False], [0.9, 0.3, 0.4, 0.1]).pairs, POLICY, 0.35)
    assert (found.flagged, found.caught, found.alarms) == (0.5, 0.5, 0.5)
    assert cost_of(labelled([True], [None]).pairs, POLICY, 0.0).caught == 0.0
