"""Pictures compared by stored embeddings. Their vectors are on the disk; a sketch of each is in memory."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.errors import OutputError
from clipmod_cli.evidence.folder import EvidenceFolder
from clipmod_cli.evidence.pictures import picture_vectors
from clipmod_cli.review.dedupe.leaders import Floats, Indices

SKETCH: Final = 127
"""Dimensions that are kept of each vector, with the length of the rest."""
SAMPLE: Final = 8_192
"""Vectors from which the directions of the sketch are computed."""
SLACK: Final = 2e-3
"""Added to a bound: the vectors on the disk are rounded to 16 bit."""
ROUNDS: Final = 4
"""Of the subspace iteration; more change little."""
TINY: Final = 1e-6
"""Keeps directions apart along which no vector goes."""
DIGITS: Final = 6


class EmbeddedPictures:
    """Contents with a vector, as `ComparableContents`.

    Attributes:
        contents: their numbers, those of the largest first, `(n,)`.
    """

    def __init__(self, contents: Indices, vectors: NDArray[np.float16], places: Indices) -> None:
        """Compute the sketches.

        Args:
            contents: their numbers, those of the largest first.
            vectors: unit vectors `(m, d)`, may be mapped from a file.
            places: the row of each content in it.
        """
        self.contents = contents
        self._vectors, self._places = vectors, places
        directions = _directions(vectors)
        self._sketches = np.empty((len(contents), directions.shape[1] + 1), dtype=np.float32)
        for at in range(0, len(contents), SAMPLE):
            self._sketches[at : at + SAMPLE] = _sketch(
                self._read(np.arange(at, min(at + SAMPLE, len(self)))), directions
            )

    @classmethod
    def read(cls, stored: EvidenceFolder, numbers: Mapping[str | None, int], scratch: Path) -> Self:
        """Return the pictures of stored evidence.

        Args:
            stored: the evidence.
            numbers: of contents, by hash; pictures with another hash are left out.
            scratch: a folder for the file of vectors, which lasts as long as the pictures.

        Raises:
            EvidenceError: it has no embeddings, or a part is damaged.
            OutputError: the file cannot be written.
        """
        path = scratch / "vectors.f16"
        contents, pixels = array("q"), array("q")
        size = 0
        try:
            with path.open("wb") as file:
                for part in picture_vectors(stored):
                    size = part.vectors.shape[1] or size
                    found = [numbers.get(one, -1) for one in part.hashes]
                    known = np.asarray(found, dtype=np.int64) >= 0
                    file.write(part.vectors[known].astype(np.float16).tobytes())
                    contents.extend(number for number in found if number >= 0)
                    pixels.extend(n for n, number in zip(part.pixels, found, strict=True) if number >= 0)
        except OSError as e:
            raise OutputError(f"cannot write the vectors to {scratch}: {e.strerror}") from e
        kept, places = np.unique(np.asarray(contents, dtype=np.int64), return_index=True)
        if not len(kept):
            return cls(kept, np.empty((0, 1), dtype=np.float16), places)
        order = np.lexsort((kept, -np.asarray(pixels, dtype=np.int64)[places]))
        vectors = np.memmap(path, dtype=np.float16, mode="r", shape=(len(contents), size))
        return cls(kept[order], vectors, places[order])

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.contents)

    def bounds(self, rows: Indices, others: Indices) -> NDArray[np.float32]:
        """Return upper bounds of the cosines `(len(rows), len(others))` (Cauchy-Schwarz for what is cut)."""
        return self._sketches[rows] @ self._sketches[others].T + np.float32(SLACK)

    def similarity(self, rows: Indices, others: Indices) -> Floats:
        """Return the cosine of each pair, `(len(rows),)`."""
        cosines = np.einsum("nd,nd->n", self._read(rows), self._read(others)).astype(np.float64)
        return np.asarray(np.clip(np.round(cosines, DIGITS), -1.0, 1.0))

    def _read(self, rows: Indices) -> NDArray[np.float32]:
        return _unit(self._vectors[self._places[rows]].astype(np.float32))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _directions(vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return orthonormal directions `(d, k)` along which the vectors are long, by subspace iteration."""
    step = max(len(vectors) // SAMPLE, 1)
    sample = vectors[::step][:SAMPLE].astype(np.float32)
    size = sample.shape[1]
    found = np.random.default_rng(0).standard_normal((size, min(SKETCH, size)), dtype=np.float32)
    for _ in range(ROUNDS):
        found, _triangle = np.linalg.qr(sample.T @ (sample @ found) + np.float32(TINY) * found)
    return np.asarray(found, dtype=np.float32)


def _sketch(vectors: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.float32]:
    kept = vectors @ directions
    rest = np.sqrt(np.maximum(1.0 - np.einsum("nk,nk->n", kept, kept), 0.0))
    return np.concatenate([kept, rest[:, np.newaxis]], axis=1)
