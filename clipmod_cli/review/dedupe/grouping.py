"""Groups inputs by a method: by the hash of their bytes, and then by PDQ or by what stored evidence tells."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from clipmod_cli.evidence.folder import EvidenceFolder
from clipmod_cli.review.dedupe.clusters import EMBEDDING, PDQ, SHA256, Clusters
from clipmod_cli.review.dedupe.embeddings import EmbeddedPictures
from clipmod_cli.review.dedupe.hashed import HashedPictures, PictureHasher, bits_of, similarity_of
from clipmod_cli.review.dedupe.items import DedupeItems
from clipmod_cli.review.dedupe.leaders import Floats, Indices, link_to_leaders

OnProgress: TypeAlias = Callable[[int], None]
"""Called with the number of contents that are compared."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """Clusters, and how many contents could be compared by their bytes alone, where more was asked for.

    Attributes:
        poor: of these, how many have too little structure for PDQ.
        failed: of these, the names of those that could not be read, with the reason.
    """

    clusters: Clusters
    by_bytes_only: int = 0
    poor: int = 0
    failed: Sequence[tuple[str, str]] = ()


def group_by_bytes(items: DedupeItems, *, singles: bool = False) -> Grouped:
    """Return clusters of the same bytes; `singles` are those of one input."""
    count = items.contents
    return Grouped(Clusters.build(items, np.arange(count), np.zeros(count), SHA256, singles=singles))


def group_by_pdq(
    items: DedupeItems, most: int, *, singles: bool = False, on_progress: OnProgress = lambda _: None
) -> Grouped:
    """Return clusters of pictures whose PDQ hashes differ in at most `most` of 256 bits.

    Pictures whose record has no PDQ hash are read and decoded. What gets none (errors, films, animations,
    pictures with too little structure or that cannot be read) is grouped by its bytes.

    Raises:
        OutputError: no temporary file can be written.
    """
    hasher = PictureHasher()
    pictures = hasher.hash(items.stills())
    leaders, similarity = _link(items, pictures, similarity_of(most), on_progress)
    clusters = Clusters.build(items, leaders, bits_of(similarity), PDQ, singles=singles)
    return Grouped(clusters, len(leaders) - len(pictures), hasher.poor, hasher.failed)


def group_by_embedding(
    items: DedupeItems,
    stored: EvidenceFolder,
    least: float,
    *,
    singles: bool = False,
    on_progress: OnProgress = lambda _: None,
) -> Grouped:
    """Return clusters of pictures whose embeddings have a mean cosine of at least `least`.

    What has no embedding (errors, films, animations, inputs that the evidence does not tell of) is grouped by
    its bytes.

    Raises:
        EvidenceError: the evidence has no embeddings, or is damaged.
        OutputError: no temporary file can be written.
    """
    numbers = {still.sha256: content for content, still in items.stills()}
    with tempfile.TemporaryDirectory(prefix="clipmod-") as scratch:
        pictures = EmbeddedPictures.read(stored, numbers, Path(scratch))
        leaders, similarity = _link(items, pictures, least, on_progress)
        others = len(leaders) - len(pictures)
        del pictures  # the file is mapped
    return Grouped(Clusters.build(items, leaders, similarity, EMBEDDING, singles=singles), others)


def _link(
    items: DedupeItems,
    pictures: HashedPictures | EmbeddedPictures,
    least: float,
    on_progress: OnProgress,
) -> tuple[Indices, Floats]:
    """Return the leader of each content, and how similar they are; what is no picture leads itself."""
    leaders, similarity = np.arange(items.contents, dtype=np.int64), np.ones(items.contents)
    links = link_to_leaders(pictures, least, on_progress)
    leaders[pictures.contents] = pictures.contents[links.leaders]
    similarity[pictures.contents] = links.similarity
    return leaders, similarity
