"""Clusters around representatives: a content joins the most similar earlier one, or becomes one itself.

No chain is followed: where A is like B and B like C, C joins A only if it is like A. So a cluster never holds
two pictures of which neither is like the representative. All pairs are compared, in blocks: the time grows
with the square of the number, the memory does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

BLOCK: Final = 1_024
"""Contents that are compared at once with a tile of representatives."""
TILE: Final = 16_384
"""Representatives in a tile: its matrix takes 64 MB."""
PAIRS: Final = 4_096
"""Pairs whose exact similarity is computed at once."""

Indices: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


class ComparableContents(Protocol):
    """Contents that can be compared, the larger before the smaller ones, which they represent."""

    def __len__(self) -> int: ...

    def bounds(self, rows: Indices, others: Indices) -> NDArray[np.float32]:
        """Return `(len(rows), len(others))`: no pair is more similar than its number here."""

    def similarity(self, rows: Indices, others: Indices) -> Floats:
        """Return the similarity of each pair, `(len(rows),)`."""


@dataclass(frozen=True, slots=True)
class LeaderLinks:
    """For each content, `(n,)`: the row of its representative (its own for one), and how similar they are."""

    leaders: Indices
    similarity: Floats


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Pairs that are similar enough, by row, the best other first."""

    rows: Indices
    others: Indices
    similarity: Floats


def link_to_leaders(
    contents: ComparableContents, least: float, on_progress: Callable[[int], None] = lambda _: None
) -> LeaderLinks:
    """Return the links of all contents.

    A content is linked to the most similar representative of those before it, at equal similarity to the
    first; it becomes a representative where none is similar enough.

    Args:
        contents: what to compare.
        least: the similarity from which two are near copies.
        on_progress: called with the number of contents done.
    """
    count = len(contents)
    links = LeaderLinks(np.arange(count, dtype=np.int64), np.ones(count))
    leaders = np.empty(0, dtype=np.int64)
    for start in range(0, count, BLOCK):
        rows = np.arange(start, min(start + BLOCK, count), dtype=np.int64)
        for at in range(0, len(leaders), TILE):
            _link(links, _near(contents, rows, leaders[at : at + TILE], least))
        _link_within(links, contents, rows, least)
        leaders = np.concatenate([leaders, rows[links.leaders[rows] == rows]])
        on_progress(int(rows[-1]) + 1)
    return links


def _link(links: LeaderLinks, pairs: _Pairs) -> None:
    """Link each row to its best other, if that is more similar than what it is linked to."""
    rows, first = np.unique(pairs.rows, return_index=True)
    others, similarity = pairs.others[first], pairs.similarity[first]
    better = (links.leaders[rows] == rows) | (similarity > links.similarity[rows])
    links.leaders[rows[better]] = others[better]
    links.similarity[rows[better]] = similarity[better]


def _link_within(links: LeaderLinks, contents: ComparableContents, rows: Indices, least: float) -> None:
    """Link rows of a block to those rows before them that turn out to be representatives."""
    free = rows[links.leaders[rows] == rows]
    pairs = _near(contents, rows, free, least)
    before = pairs.others < pairs.rows
    found = zip(
        pairs.rows[before].tolist(),
        pairs.others[before].tolist(),
        pairs.similarity[before].tolist(),
        strict=True,
    )
    for row, other, similarity in found:
        if links.leaders[other] != other:
            continue
        if links.leaders[row] == row or similarity > links.similarity[row]:
            links.leaders[row], links.similarity[row] = other, similarity


def _near(contents: ComparableContents, rows: Indices, others: Indices, least: float) -> _Pairs:
    at, to = np.nonzero(contents.bounds(rows, others) >= least)
    pairs = [
        _exact(contents, rows[at[n : n + PAIRS]], others[to[n : n + PAIRS]], least)
        for n in range(0, len(at), PAIRS)
    ]
    found = [np.concatenate(parts) for parts in zip(*pairs, strict=True)]
    if not found:
        return _Pairs(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0))
    order = np.lexsort((found[1], -found[2], found[0]))
    return _Pairs(found[0][order], found[1][order], found[2][order])


def _exact(
    contents: ComparableContents, rows: Indices, others: Indices, least: float
) -> tuple[Indices, Indices, Floats]:
    similarity = contents.similarity(rows, others)
    near = similarity >= least
    return rows[near], others[near], similarity[near]
