"""Labels that were drawn with different chances to those of them that all had the same chance.

The exact bounds of `evaluate.tuning.bounds` are for such a sample. Nothing here depends on what a label says
or on a score.
"""

from __future__ import annotations

from dataclasses import replace

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.samples import LabelledSet
from clipmod_cli.review.sampling import draw_of


def thin(labelled: LabelledSet) -> LabelledSet:
    """Return the labelled inputs of a sample with equal chances; all of them where the weights are equal.

    An input of weight w was drawn with a probability in proportion to 1 / w. It is kept with the chance
    w / (largest w), so that all had the same chance to be drawn and kept. With any smaller divisor some
    chances would be over 1. A hash of the content decides, so the same inputs are kept every time.

    Args:
        labelled: all labels that there are. Those of one category alone would not tell the largest weight.
    """
    if not labelled.weighted:
        return labelled
    largest = max((pair.weight for pair in labelled.pairs), default=1.0)
    kept = [p for p in labelled.pairs if draw_of("thinning", p.judged.content) <= p.weight / largest]
    return replace(labelled, pairs=kept, weighted=False)


def check_drawn(labelled: LabelledSet, unlabelled: int) -> None:
    """Raise UsageError if the labels are of a sorted queue alone, which tells nothing of what it left out.

    Args:
        labelled: the labels.
        unlabelled: how many records have none, unsure ones included.
    """
    unsure = [pair.label.row.undrawn_unsure for pair in labelled.pairs]
    undecided = unlabelled - max((count for count in unsure if count is not None), default=unlabelled)
    if undecided > 0:
        raise UsageError(
            f"no decision was drawn at random, and {undecided:,} records have none: the queue was sorted by "
            "the scores, so its decisions do not tell what was missed. Decide on inputs that are drawn "
            "(`clipmod review --audit 100%`), or on all"
        )
