"""Reads embeddings where a policy has heads in place of prompts. Formulas: docs/policies.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.judge.policy.heads import HeadOfModel
from clipmod_cli.judge.readers import HALF, Probabilities, VectorReader


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadReader(VectorReader):
    """A head's category has the head's probability; the others share what is left, as their prompts say.

    As with a detector, UNSAFE categories come first, the most severe before the others: what is SAFE, by a
    head or by prompts, takes nothing from a head of an UNSAFE category, nor a SAFE head from UNSAFE prompts.

    Attributes:
        heads: index of a category and its head, UNSAFE ones from the last listed to the first, then SAFE ones
            likewise.
        unsafe: by category, whether it is UNSAFE.
        prompts: reads the categories that have prompts; None if there are none.
        rest: the index of the `otherwise` category, which has what is left where no category has prompts.
        independent: UNSAFE categories are scored independently of each other; then no SAFE one has a head.
    """

    heads: Sequence[tuple[int, HeadOfModel]]
    unsafe: Sequence[bool]
    prompts: VectorReader | None
    rest: int
    independent: bool = False

    @property
    def has_own_scores(self) -> bool:
        """Whether heads of several UNSAFE categories may be true at once, and so share a probability."""
        return not self.independent and sum(self.unsafe[index] for index, _ in self.heads) > 1

    def read_vectors(self, vectors: NDArray[np.floating[Any]]) -> Probabilities:
        """Return the probabilities of each embedding."""
        return self.read_both(vectors)[0]

    def read_both(self, vectors: NDArray[np.floating[Any]]) -> tuple[Probabilities, Probabilities]:
        """Return the probabilities of each embedding, and its scores with each UNSAFE head in full."""
        vectors = np.asarray(vectors, np.float64)  # once for all heads
        shares = self._by_prompts(vectors)
        found = [(index, head.probabilities(vectors)) for index, head in self.heads]
        unsafe = [(index, scores) for index, scores in found if self.unsafe[index]]
        if self.independent:
            own = _with(shares, unsafe)
            return own, own
        is_safe = ~np.asarray(self.unsafe)
        dangers = _take(np.ones(len(vectors)), unsafe)
        shares = shares * dangers.rest[:, np.newaxis]
        harmless = shares[:, is_safe].sum(axis=1)
        named = _take(harmless, [(index, scores) for index, scores in found if not self.unsafe[index]])
        scale = np.divide(named.rest, harmless, out=np.zeros_like(harmless), where=harmless > 0)
        shares[:, is_safe] *= scale[:, np.newaxis]
        shares = _with(shares, [*dangers.taken, *named.taken])
        return shares, _with(shares, unsafe)

    def _by_prompts(self, vectors: NDArray[np.floating[Any]]) -> Probabilities:
        if self.prompts is not None:
            return self.prompts.read_vectors(vectors)
        shares = np.zeros((len(vectors), len(self.unsafe)))
        shares[:, self.rest] = HALF if self.independent else 1.0
        return shares


Columns = Sequence[tuple[int, Probabilities]]
"""Index of a category, and its scores `(n,)`."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """What categories took of a probability one after the other, and what is left of it `(n,)`."""

    taken: Columns
    rest: Probabilities


def _take(whole: Probabilities, wanted: Columns) -> _Taken:
    """Give each category what it wants, or what the ones before it left if that is less."""
    taken, rest = [], whole
    for index, scores in wanted:
        share = np.minimum(scores, rest)
        taken.append((index, share))
        rest = rest - share
    return _Taken(taken, rest)


def _with(shares: Probabilities, columns: Columns) -> Probabilities:
    """Return shares with other columns for some categories."""
    changed = shares.copy()
    for index, scores in columns:
        changed[:, index] = scores
    return changed
