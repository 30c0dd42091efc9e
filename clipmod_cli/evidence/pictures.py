"""One vector for each picture of stored evidence: how its text-image models saw it as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from clipmod_cli.errors import EvidenceError
from clipmod_cli.evidence.folder import EvidenceFolder, EvidencePart, parts_of, read_vectors

_STILLS: Final = """
    SELECT file_row_number AS row, media.sha256 AS sha256, first_row,
    [v.box[3]::BIGINT * v.box[4] FOR v IN views] AS area,
    [v.number = 0 AND v.reading = views[1].reading AND NOT v.stand_in FOR v IN views] AS own
    FROM read_parquet($path, file_row_number = true)
    WHERE media.kind = 'image' AND media.sha256 IS NOT NULL AND failure IS NULL AND len(views) > 0
    ORDER BY row
"""


@dataclass(frozen=True, slots=True)
class PictureVectors:
    """The pictures of one part: hashes of their bytes, and float32 `(n, d)`.

    The dot product of two vectors is the mean of their cosines by model, so each has length 1.
    """

    hashes: list[str]
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
    with duckdb.connect(config={"threads": 1}) as con:  # a part is one row group
        for part in parts_of(stored.path):
            vectors = read_vectors(part, stored.identity.members)
            gone = stored.superseded.get(part.rows.name, frozenset())
            rows = [row for row in _stills(part, con) if row["row"] not in gone]
            whole = [_mean(vectors[name], rows) for name in names]
            together = np.concatenate(whole, axis=1) / np.float32(np.sqrt(len(names)))
            seen = np.all([np.isfinite(one).all(axis=1) for one in whole], axis=0)
            hashes = [row["sha256"] for row, kept in zip(rows, seen, strict=True) if kept]
            yield PictureVectors(hashes, together[seen])


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
