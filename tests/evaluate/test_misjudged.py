"""Lists: what was missed, flagged wrongly, and labels that may be wrong."""

from __future__ import annotations

import numpy as np

from clipmod_cli.evaluate.measures.misjudged import misjudged, suspect_labels
from clipmod_cli.evaluate.samples import NSFW
from tests.evaluate.kit import labelled


def test_every_wrong_answer_is_in_one_list_the_worst_first() -> None:
    truth = [True, True, True, True, False, False, False]
    found = labelled(truth, [0.9, 0.2, 0.45, None, 0.6, 0.9, 0.45])
    lists = misjudged(found.answers(NSFW), found.pairs)
    assert [(one.source, one.error) for one in lists.missed] == [
        ("p/3.jpg", "decode_error"),
        ("p/1.jpg", None),
    ]
    assert [one.source for one in lists.reviewed] == ["p/2.jpg"]
    assert [(one.source, one.score, one.label) for one in lists.false_alarms] == [
        ("p/5.jpg", 0.9, "Safe"),
        ("p/4.jpg", 0.6, "Safe"),
    ]


def test_swapped_labels_are_suspect() -> None:
    rng = np.random.default_rng(1)
    truth = np.arange(200) < 60
    scores = np.round(np.where(truth, rng.beta(8, 2, 200), rng.beta(2, 8, 200)), 6)
    given = truth.copy()
    swapped = range(0, 200, 10)
    given[swapped] = ~given[swapped]
    found = labelled(given.tolist(), scores.tolist())
    suspects = suspect_labels(found.answers(NSFW), found.pairs)
    numbers = [int(one.source[2:-4]) for one in suspects]
    # by its rule about half of the wrong labels are found, and few others
    assert len(set(swapped) & set(numbers)) >= 7
    assert len(set(numbers) - set(swapped)) <= 1
    distance = [abs(scores[number] - given[number]) for number in numbers]
    assert distance == sorted(distance, reverse=True)


def test_scores_that_know_nothing_accuse_nobody() -> None:
    found = labelled([True, False, True, False], [0.1, 0.9, 0.5, 0.5])
    assert suspect_labels(found.answers(NSFW), found.pairs) == []
    one_kind = labelled([True, True], [0.1, 0.9])
    assert suspect_labels(one_kind.answers(NSFW), one_kind.pairs) == []
