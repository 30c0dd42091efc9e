"""In which order contents are shown: the most uncertain first, the worst first, or at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.review.decisions import QueueOrder
from clipmod_cli.review.queue.contents import ContentTable
from clipmod_cli.review.queue.stacks import NearStacks
from clipmod_cli.review.sampling import draw_of
from clipmod_cli.review.sheet import OUTCOMES

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


def draws_of(table: ContentTable, seed: str) -> Floats:
    """Return each content's place in the draw, 0..1."""
    return np.fromiter((draw_of(seed, key) for key in table.keys), np.float64, len(table))


def priorities_of(table: ContentTable, order: QueueOrder, draws: Floats) -> Floats:
    """Return each content's place in an order, the smallest first.

    `uncertain` is from 0, where the models were least sure, to 1: how far the score is on the way from the
    threshold to the end of the scale, or the agreement on that from one half to all, whichever is less.
    Without a score it is 1 where a bank decided, else 0.
    `severity` is the number of the outcome (0 for NSFW) plus how far the score is from 1.
    """
    scores = np.frombuffer(table.scores, np.float64) if len(table) else np.empty(0)
    match order:
        case "random":
            return draws
        case "severity":
            outcomes = np.frombuffer(bytes(table.outcomes), np.uint8)
            return outcomes + (1.0 - np.nan_to_num(scores, nan=0.0))
        case "uncertain":
            if not len(table):
                return np.empty(0)
            thresholds = np.nan_to_num(np.frombuffer(table.thresholds, np.float64), nan=0.5)
            agreements = np.nan_to_num(np.frombuffer(table.agreements, np.float64), nan=1.0)
            room = np.where(scores >= thresholds, 1 - thresholds, thresholds)
            distance = np.abs(scores - thresholds) / np.maximum(room, 1e-9)
            sure = np.minimum(distance, np.clip(2 * agreements - 1, 0, 1))
            return np.where(np.isnan(scores), _without_score(table), sure)
    raise AssertionError(f"unknown order {order!r}")


def _without_score(table: ContentTable) -> Floats:
    """Return 1 for what is NSFW or Safe, 0 for what could not be decided."""
    decided = [outcome in {"nsfw", "safe"} for outcome in OUTCOMES]
    return np.array(decided, np.float64)[np.frombuffer(bytes(table.outcomes), np.uint8)]


def sort(numbers: Numbers, *keys: Floats) -> Numbers:
    """Return contents by the first of these, those that are equal in it by the next."""
    return numbers[np.lexsort([key[numbers] for key in reversed(keys)])]


def least_of_stacks(values: Floats, queued: Numbers, stacks: NearStacks) -> Floats:
    """Return values in which each queued content has the least one of its queued near copies."""
    found = values.copy()
    in_queue = np.zeros(len(values), bool)
    in_queue[queued] = True
    for members in stacks:
        numbers = np.asarray(members)
        numbers = numbers[in_queue[numbers]]
        if len(numbers):
            found[numbers] = values[numbers].min()
    return found
