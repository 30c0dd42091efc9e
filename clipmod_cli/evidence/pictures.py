"""Embeddings of stored evidence: one vector for each picture as a whole, or all views of an input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from clipmod_cli.errors import EvidenceError
from clipmod_cli.evidence.folder import (
    EvidenceFolder,
    EvidencePart,
    StoredInput,
    open_database,
    parts_of,
    read_vectors,
)

_STILLS: Final = """
    SELECT file_row_number AS row, media.sha256 AS sha256, first_row,
    coalesce(media.width * media.height, 0) AS pixels,
    [v.box[3]::BIGINT * v.box[4] FOR v IN views] AS area,
    [v.number = 0 AND v.reading = views[1].reading AND NOT v.stand_in FOR v IN views] AS own
    FROM read_parquet($path, file_row_number = true)
    WHERE media.kind = 'image' AND media.sha256 IS NOT NULL AND failure IS NULL AND len(views) > 0
    ORDER BY row
"""
_PLACES: Final = (
    "SELECT file_row_number, first_row, len(views) + len(recheck_views), failure IS NULL AND len(views) > 0 "
    "AND NOT coalesce(list_bool_or([v.stand_in FOR v IN list_concat(views, recheck_views)]), false) "
    "FROM read_parquet($path, file_row_number = true) WHERE list_contains($rows, file_row_number)"
)


@dataclass(frozen=True, slots=True)
class PictureVectors:
    """The pictures of one part: hashes of their bytes, their sizes in pixels, and float32 `(n, d)`.

    The dot product of two vectors is the mean of their cosines by model, so each has length 1.
    """

    hashes: list[str]
    pixels: list[int]
    vectors: NDArray[np.float32]


def picture_vectors(stored: EvidenceFolder) -> Iterator[PictureVectors]:
    """Yield the vectors of all still pictures, part by part.

    A picture's vector is the mean of its largest views: of the whole where a view shows it, else of the
    squares along its longer side. Inputs that could not be judged, films and animations have none, nor has a
    picture of which a model did not see that.

    Raises:
        EvidenceError: no text-image model is among the members, or a part is damaged.
    """
    names = [member.name for member in stored.identity.members if member.kind == "text-image"]
    if not names:
        raise EvidenceError(
            f"{stored.path} holds no embeddings: none of its models "
            f"({', '.join(member.name for member in stored.identity.members)}) is a text-image model"
        )
    with open_database(threads="1") as con:  # a part is one row group
        for part in parts_of(stored.path):
            vectors = read_vectors(part, stored.identity.members)
            gone = stored.superseded.get(part.rows.name, frozenset())
            rows = [row for row in _stills(part, con) if row["row"] not in gone]
            whole = [_mean(vectors[name], rows) for name in names]
            together = np.concatenate(whole, axis=1) / np.float32(np.sqrt(len(names)))
            seen = np.all([np.isfinite(one).all(axis=1) for one in whole], axis=0)
            kept = [row for row, is_seen in zip(rows, seen, strict=True) if is_seen]
            yield PictureVectors(
                [row["sha256"] for row in kept], [row["pixels"] for row in kept], together[seen]
            )


def _stills(part: EvidencePart, con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    try:
        found = con.execute(_STILLS, {"path": str(part.rows)})
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    except duckdb.Error as e:
        raise EvidenceError(f"{part.rows} is damaged: {e}") from e


def _mean(vectors: NDArray[np.float16], rows: list[dict[str, Any]]) -> NDArray[np.float32]:
    """Return one model's unit vector of each picture, `(n, d)`; NaN where it was not asked."""
    made = np.full((len(rows), vectors.shape[1]), np.nan, dtype=np.float32)
    for at, row in enumerate(rows):
        area = np.where(row["own"], row["area"], 0)
        views = row["first_row"] + np.flatnonzero((area == area.max()) & (area > 0))
        mean = vectors[views].astype(np.float32).mean(axis=0) if len(views) else made[at]
        length = np.linalg.norm(mean)
        if length > 0:
            made[at] = mean / length
    return made


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
        with open_database() as con:
            found = con.execute(_PLACES, {"path": str(part.rows), "rows": rows}).fetchall()
    except duckdb.Error as e:
        raise EvidenceError(f"{part.rows} is damaged: {e}") from e
    return {row: _Place(first_row, views) for row, first_row, views, whole in found if whole}


def _spaced(count: int, most: int) -> NDArray[np.intp]:
    return np.round(np.linspace(0, count - 1, min(count, most))).astype(np.intp)
