"""Metrics: those of scikit-learn on the same scores, and errors that flatter nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.measures.metrics import (
    at_prevalence,
    calibration,
    category_confusion,
    confusion,
    quality,
    slices,
)
from clipmod_cli.evaluate.samples import NSFW, judged_of, same_facts
from tests.evaluate.kit import THRESHOLD, labelled, record

RNG = np.random.default_rng(1)
POSITIVE = RNG.random(400) < 0.3
SCORES = np.round(RNG.beta(np.where(POSITIVE, 3, 1), np.where(POSITIVE, 1.5, 3)), 3)
WEIGHT = np.round(RNG.uniform(1, 40, 400), 1)


@pytest.mark.parametrize("weighted", [False, True])
def test_rates_are_those_of_scikit_learn(weighted: bool) -> None:
    weight = WEIGHT if weighted else None
    found = quality(
        labelled(POSITIVE.tolist(), SCORES.tolist(), weights=WEIGHT.tolist() if weighted else None).answers(
            NSFW
        )
    )
    flagged = SCORES >= THRESHOLD
    how = {"sample_weight": weight}
    assert found.recall.value == pytest.approx(recall_score(POSITIVE, flagged, **how))
    assert found.precision.value == pytest.approx(precision_score(POSITIVE, flagged, **how))
    assert found.accuracy.value == pytest.approx(accuracy_score(POSITIVE, flagged, **how))
    assert found.f1.value == pytest.approx(f1_score(POSITIVE, flagged, **how))
    assert found.auroc.value == pytest.approx(roc_auc_score(POSITIVE, SCORES, **how))
    assert found.average_precision.value == pytest.approx(average_precision_score(POSITIVE, SCORES, **how))
    tn, fp, _, _ = confusion_matrix(POSITIVE, flagged, **how).ravel()
    assert found.false_alarm_rate.value == pytest.approx(fp / (fp + tn))
    assert (found.n, found.positives, found.negatives) == (400, POSITIVE.sum(), (~POSITIVE).sum())
    for estimate in (found.recall, found.precision, found.accuracy, found.f1, found.auroc):
        assert estimate.low is not None
        assert estimate.low < (estimate.value or 0.0) < (estimate.high or 0.0)


def test_review_catches_more_and_costs_looks() -> None:
    found = quality(labelled(POSITIVE.tolist(), SCORES.tolist()).answers(NSFW))
    looked_at = SCORES > 0.4
    assert found.recall_with_review.value == pytest.approx(looked_at[POSITIVE].mean())
    assert found.load.value == pytest.approx(looked_at.mean())


def test_each_model_is_measured_by_its_own_score() -> None:
    truth, scores = [True, True, False, False], [0.6, 0.45, 0.3, 0.2]
    found = labelled(truth, scores, fields={1: {"moved": 0.2}, 3: {"moved": -0.8}})
    assert found.models == ["a", "b"]
    assert found.answers(NSFW).flagged.tolist() == [True, False, False, False]
    # 0.45 + 0.25 * 0.2 = 0.5 of model a, 0.45 - 0.75 * 0.2 of model b; 0.2 + 0.75 * 0.8 = 0.8 of model b
    assert found.answers(NSFW, "a").flagged.tolist() == [True, True, False, False]
    assert found.answers(NSFW, "b").flagged.tolist() == [True, False, False, True]
    assert found.answers(NSFW, "b").score == pytest.approx([0.6, 0.3, 0.3, 0.8])


def test_a_model_that_was_skipped_is_not_asked() -> None:
    found = labelled([True, False], [0.9, 0.1], fields={1: {"per_model_predictions": {}}})
    assert found.answers(NSFW, "a").rows.tolist() == [0]
    assert found.answers(NSFW).rows.tolist() == [0, 1]


def test_errors_are_not_caught_and_not_right() -> None:
    found = quality(labelled([True, True, False, False], [0.9, None, 0.1, None]).answers(NSFW))
    assert found.errors == 2
    assert found.recall.value == 0.5
    assert found.recall_with_review.value == 0.5
    assert found.accuracy.value == 0.5
    assert found.false_alarm_rate.value == 0
    # the failed positive ranks below all; the failed negative is not ranked
    assert found.auroc.value == 0.5
    assert (
        quality(labelled([True, True, False, False], [0.9, None, 0.1, None]).answers(NSFW, "a")).recall.value
        == 0.5
    )


def test_categories_are_asked_where_labels_answer() -> None:
    truth: list[bool | str] = ["explicit", "nudity", "neutral", True, False]
    found = labelled(truth, [0.9, 0.9, 0.1, 0.8, 0.7], fields={0: {"category": "explicit"}})
    assert found.questions == ["NSFW", "neutral", "nudity", "explicit"]
    # a label NSFW does not say which; Safe says that it is no UNSAFE category
    asked = found.answers("explicit")
    assert asked.rows.tolist() == [0, 1, 2, 4]
    assert asked.positive.tolist() == [True, False, False, False]
    assert asked.flagged.tolist() == [True, False, False, False]
    assert asked.score == pytest.approx([0.9, 0, 0, 0])
    assert found.answers("neutral").rows.tolist() == [0, 1, 2, 3]
    assert found.answers("nudity", "a").score == pytest.approx([0.9, 0.9, 0.1, 0.7])
    assert category_confusion(found.pairs, found.categories) == {
        "neutral": {"neutral": 1, "nudity": 0, "explicit": 0},
        "nudity": {"neutral": 0, "nudity": 1, "explicit": 0},
        "explicit": {"neutral": 0, "nudity": 0, "explicit": 1},
    }
    failed = labelled(["explicit"], [None])
    assert category_confusion(failed.pairs, failed.categories) == {"explicit": {"error": 1}}


def test_confusion() -> None:
    found = labelled([True, True, True, False, False], [0.9, 0.45, None, 0.55, 0.0])
    assert confusion(found.pairs) == {
        "NSFW": {"NSFW": 1, "review": 1, "Safe": 0, "error": 1},
        "Safe": {"NSFW": 1, "review": 0, "Safe": 1, "error": 0},
    }


def test_calibration_is_that_of_scikit_learn() -> None:
    found = calibration(labelled(POSITIVE.tolist(), SCORES.tolist()).answers(NSFW))
    assert found is not None
    assert found.brier == pytest.approx(brier_score_loss(POSITIVE, SCORES))
    shares, means = calibration_curve(POSITIVE, SCORES, n_bins=10, strategy="quantile")
    assert [one.positives.value for one in found.bins] == pytest.approx(shares.tolist())
    assert [one.mean_score for one in found.bins] == pytest.approx(means.tolist())
    n = [one.positives.n for one in found.bins]
    assert sum(n) == 400
    assert found.ece == pytest.approx(np.average(np.abs(shares - means), weights=n))


def test_calibrated_scores_have_a_small_error() -> None:
    rng = np.random.default_rng(2)
    scores = np.round(rng.random(5000), 6)
    truth = rng.random(5000) < scores
    right = calibration(labelled(truth.tolist(), scores.tolist()).answers(NSFW))
    wrong = calibration(labelled(truth.tolist(), (scores**3).tolist()).answers(NSFW))
    assert right is not None
    assert wrong is not None
    assert right.ece < 0.03
    assert wrong.ece > 0.2


def test_weights_change_calibration() -> None:
    truth, scores = [True, False] * 10, [0.5] * 20
    found = calibration(labelled(truth, scores, weights=[1.0, 9.0] * 10).answers(NSFW))
    assert found is not None
    assert found.ece == pytest.approx(0.4)  # 0.5 where one in ten is positive


def test_what_to_expect_of_real_traffic() -> None:
    truth = [True] * 100 + [False] * 1000
    scores = [0.9] * 90 + [0.45] * 5 + [0.1] * 5 + [0.9] * 10 + [0.45] * 40 + [0.1] * 950
    found = at_prevalence(labelled(truth, scores).answers(NSFW), 0.005, seconds_each=9.0)
    assert found is not None
    assert found.flagged.value == pytest.approx(1e6 * (0.005 * 0.9 + 0.995 * 0.01))
    assert found.precision.value == pytest.approx(0.0045 / (0.0045 + 0.00995))
    assert found.missed.value == pytest.approx(1e6 * 0.005 * 0.05)
    assert found.looked_at.value == pytest.approx(1e6 * (0.005 * 0.95 + 0.995 * 0.05))
    assert found.hours.value == pytest.approx((found.looked_at.value or 0.0) * 9 / 3600)
    assert (found.precision.low or 1) < 0.25
    assert 0.35 < (found.precision.high or 0) < 1


def test_precision_without_a_false_alarm_is_not_certain() -> None:
    found = at_prevalence(
        labelled([True] * 50 + [False] * 50, [0.9] * 50 + [0.1] * 50).answers(NSFW), 0.005, seconds_each=1
    )
    assert found is not None
    assert found.precision.value == 1
    assert (found.precision.low or 1) < 0.3


def test_nothing_flagged_has_no_precision() -> None:
    answers = labelled([True, False], [0.1, 0.1]).answers(NSFW)
    found = at_prevalence(answers, 0.01, seconds_each=1)
    assert found is not None
    assert (found.precision.value, found.flagged.value) == (None, 0)
    assert quality(answers).precision.value is None
    assert at_prevalence(labelled([True], [0.9]).answers(NSFW), 0.01, seconds_each=1) is None


def test_slices() -> None:
    truth = [True] * 35 + [False] * 5
    fields = {n: {"format": "PNG", "width": 100, "height": 2000} for n in range(30, 40)}
    found = labelled(truth, [0.9] * 40, fields=fields)
    by_format = slices(found.answers(NSFW), found.pairs, "format")
    assert [(one.name, one.n, one.positives, one.few) for one in by_format] == [
        ("JPEG", 30, 30, False),
        ("PNG", 10, 5, True),
    ]
    assert by_format[1].false_alarm_rate.value == 1
    assert [one.name for one in slices(found.answers(NSFW), found.pairs, "size")] == [
        "under 512 px",
        "under 256 px",
    ]
    assert [one.name for one in slices(found.answers(NSFW), found.pairs, "kind")] == ["image"]


def test_records_of_two_thresholds_are_refused() -> None:
    two = [judged_of(record(0, 0.1)), judged_of(record(1, 0.1, threshold=0.7))]
    with pytest.raises(UsageError, match=r"at 0\.5; nsfw \w+ at 0\.7"):
        list(same_facts(two, "out.jsonl"))


def test_a_compact_record_knows_the_decision_alone() -> None:
    compact: dict[str, Any] = {
        "source": "a.jpg",
        "member": None,
        "index": 0,
        "status": "ok",
        "final_decision": "NSFW",
        "review_reasons": [],
        "unsafe_score": 0.9,
        "ensemble_category": "explicit",
        "sha256": "ab" * 32,
        "error": None,
    }
    found = judged_of(compact)
    assert (found.outcome, found.unsafe_score, found.members, found.compute_ms) == ("NSFW", 0.9, {}, None)
