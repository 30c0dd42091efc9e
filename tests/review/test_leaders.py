"""Clusters around representatives: the laws that hold for any contents."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clipmod_cli.review.dedupe import leaders
from clipmod_cli.review.dedupe.embeddings import EmbeddedPictures
from clipmod_cli.review.dedupe.leaders import Floats, Indices, LeaderLinks, link_to_leaders


class OnALine:
    """Contents as whole numbers: their distance is that on a line."""

    def __init__(self, places: list[int]) -> None:
        self.places = np.asarray(places, dtype=np.float32)

    def __len__(self) -> int:
        return len(self.places)

    def bounds(self, rows: Indices, others: Indices) -> NDArray[np.float32]:
        return np.asarray(1 - np.abs(self.places[rows][:, np.newaxis] - self.places[others]))

    def similarity(self, rows: Indices, others: Indices) -> Floats:
        return np.asarray(1.0 - np.abs(self.places[rows] - self.places[others]).astype(np.float64))


def one_by_one(similar: Floats, least: float) -> LeaderLinks:
    """Link them by the definition, `similar` being `(n, n)`."""
    count = len(similar)
    links = LeaderLinks(np.arange(count), np.ones(count))
    found: list[int] = []
    for row in range(count):
        best = max(found, key=lambda other: similar[row, other], default=None)
        if best is None or similar[row, best] < least:
            found.append(row)
        else:
            links.leaders[row], links.similarity[row] = best, similar[row, best]
    return links


@given(
    st.lists(st.integers(0, 60), max_size=40),
    st.integers(0, 5),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 5),
)
def test_every_member_is_near_its_representative(
    places: list[int], most: int, block: int, tile: int, pairs: int
) -> None:
    contents, least = OnALine(places), 1.0 - most
    with mock.patch.multiple(leaders, BLOCK=block, TILE=tile, PAIRS=pairs):
        links = link_to_leaders(contents, least)
    heads = np.flatnonzero(links.leaders == np.arange(len(places)))
    assert np.isin(links.leaders, heads).all()  # each is in one cluster, that of a representative
    assert (links.leaders <= np.arange(len(places))).all()  # which is the first in order
    assert (links.similarity == contents.similarity(np.arange(len(places)), links.leaders)).all()
    assert (links.similarity >= least).all()
    apart = contents.bounds(heads, heads) < least
    assert (apart | np.eye(len(heads), dtype=bool)).all()  # two representatives are not near copies
    if places:
        rows = np.arange(len(places))
        expected = one_by_one(contents.bounds(rows, rows).astype(np.float64), least)
        assert links.leaders.tolist() == expected.leaders.tolist()


def test_a_chain_does_not_join_what_is_unlike() -> None:
    """0 is like 3, 3 like 6, 6 like 9; 6 is not like 0."""
    links = link_to_leaders(OnALine([0, 3, 6, 9]), least=-2.0)
    assert links.leaders.tolist() == [0, 0, 2, 2]


def test_the_most_similar_representative_is_taken() -> None:
    links = link_to_leaders(OnALine([0, 10, 6, 4]), least=-6.0)
    assert links.leaders.tolist() == [0, 1, 1, 0]
    assert links.similarity.tolist() == [1.0, 1.0, -3.0, -3.0]


@pytest.mark.parametrize("size", [3, 64, 300])
@pytest.mark.parametrize("least", [0.6, 0.97])
def test_a_sketch_loses_no_pair(size: int, least: float) -> None:
    """Vectors that are near copies in groups, of fewer and of more dimensions than a sketch."""
    rng = np.random.default_rng(3)
    centres = np.repeat(rng.standard_normal((40, size)) + 0.5, 6, axis=0)
    vectors = centres + rng.standard_normal(centres.shape) * rng.choice([0.02, 0.2, 0.5], (len(centres), 1))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    rows = rng.permutation(len(vectors))
    pictures = EmbeddedPictures(np.arange(len(rows)), vectors, rows)
    with mock.patch.multiple(leaders, BLOCK=50, TILE=30):
        links = link_to_leaders(pictures, least)
    exact = vectors[rows].astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    expected = one_by_one(np.clip(exact @ exact.T, -1, 1), least)
    assert (links.leaders == expected.leaders).mean() > 0.99  # a cosine may be rounded over the bound
    np.testing.assert_allclose(
        links.similarity, np.einsum("nd,nd->n", exact, exact[links.leaders]), atol=1e-5
    )
    assert 1 < len(np.unique(links.leaders)) < len(rows)


def test_nothing_to_compare() -> None:
    none = np.empty(0, dtype=np.int64)
    links = link_to_leaders(EmbeddedPictures(none, np.empty((0, 4), dtype=np.float16), none), 0.9)
    assert len(links.leaders) == 0
