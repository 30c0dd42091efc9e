"""Evidence of every kind that a model can give, drawn by hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from clipmod_cli.types import Detection, Detections, Embedding, LabelScores, Seen

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PIXELS = st.integers(-100_000, 100_000)

embeddings = arrays(
    np.float32, st.integers(1, 40), elements=st.floats(allow_nan=False, allow_infinity=False, width=32)
).map(lambda vector: Embedding(vector=vector))
label_scores = st.dictionaries(st.text(max_size=20), NUMBERS, max_size=5).map(
    lambda scores: LabelScores(scores=scores)
)
detections = st.lists(
    st.builds(Detection, label=st.text(max_size=20), score=NUMBERS, box=st.tuples(*[PIXELS] * 4)), max_size=5
).map(lambda found: Detections(found=tuple(found)))
any_evidence: st.SearchStrategy[Seen] = st.one_of(embeddings, label_scores, detections)


def is_same(one: Seen | None, other: Seen | None) -> bool:
    """Return whether two pieces of evidence are the same to the bit."""
    if isinstance(one, Embedding) and isinstance(other, Embedding):
        return one.vector.dtype == other.vector.dtype and one.vector.tobytes() == other.vector.tobytes()
    return type(one) is type(other) and repr(one) == repr(other)
