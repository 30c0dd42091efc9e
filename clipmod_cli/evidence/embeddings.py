"""The embeddings of single inputs in a folder of evidence: for those who learn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from clipmod_cli.errors import EvidenceError
from clipmod_cli.evidence.folder import EvidenceFolder, EvidencePart, StoredInput, read_vectors

_PLACES: Final = (
    "SELECT file_row_number, first_row, len(views) + len(recheck_views), failure IS NULL AND len(views) > 0 "
    "AND NOT coalesce(list_bool_or([v.stand_in FOR v IN list_concat(views, recheck_views)]), false) "
    "FROM read_parquet($path, file_row_number = true) WHERE list_contains($rows, file_row_number)"
)

Embeddings = dict[str, NDArray[np.float32]]
"""Of all views of an input, frame after frame, by text-image model: `(views, d)`."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an input's embeddings begin in the matrices of its part, and how many views it has."""

    first_row: int
    views: int


def embeddings_of(
    stored: EvidenceFolder, inputs: Sequence[StoredInput], *, most: int
) -> list[Embeddings | None]:
    """Return the embeddings of each input; None for one that was not decoded whole or not by all models seen.

    Args:
        stored: the folder.
        inputs: of `stored_inputs`, in its order.
        most: of more views than this, so many are taken, evenly spaced.

    Raises:
        EvidenceError: a part is damaged, or embeddings are missing.
    """
    found: list[Embeddings | None] = []
    for part, group in groupby(inputs, key=lambda one: one.part):
        rows = [one.row for one in group]
        places = _places(part, rows)
        vectors = read_vectors(part, stored.identity.members)
        for row in rows:
            if (place := places.get(row)) is None:
                found.append(None)
                continue
            views = place.first_row + _spaced(place.views, most)
            if any(len(matrix) <= views[-1] for matrix in vectors.values()):
                raise EvidenceError(f"{part.vectors} has fewer embeddings than {part.rows} tells")
            found.append({name: matrix[views].astype(np.float32) for name, matrix in vectors.items()})
    return found


def _places(part: EvidencePart, rows: Sequence[int]) -> dict[int, _Place]:
    """Return where the embeddings are of those rows that were seen whole."""
    try:
        with duckdb.connect() as con:
            found = con.execute(_PLACES, {"path": str(part.rows), "rows": rows}).fetchall()
    except duckdb.Error as e:
        raise EvidenceError(f"{part.rows} is damaged: {e}") from e
    return {row: _Place(first_row, views) for row, first_row, views, whole in found if whole}


def _spaced(count: int, most: int) -> NDArray[np.intp]:
    return np.round(np.linspace(0, count - 1, min(count, most))).astype(np.intp)
