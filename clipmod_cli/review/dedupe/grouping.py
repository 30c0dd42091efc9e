"""Groups inputs by a method: by the hash of their bytes, or by that and by what stored evidence tells."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from clipmod_cli.evidence.folder import EvidenceFolder
from clipmod_cli.review.dedupe.clusters import EMBEDDING, SHA256, Clusters
from clipmod_cli.review.dedupe.embeddings import EmbeddedPictures
from clipmod_cli.review.dedupe.items import DedupeItems
from clipmod_cli.review.dedupe.leaders import link_to_leaders

_STILLS: Final = "SELECT content, sha256 FROM contents WHERE is_still ORDER BY content"


@dataclass(frozen=True, slots=True)
class Grouped:
    """Clusters, and how many contents could be compared by their bytes alone, where more was asked for."""

    clusters: Clusters
    by_bytes_only: int = 0


def group_by_bytes(items: DedupeItems, *, singles: bool = False) -> Grouped:
    """Return clusters of the same bytes; `singles` are those of one input."""
    count = items.contents
    return Grouped(Clusters.build(items, np.arange(count), np.zeros(count), SHA256, singles=singles))


def group_by_embedding(
    items: DedupeItems,
    stored: EvidenceFolder,
    least: float,
    *,
    singles: bool = False,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Grouped:
    """Return clusters of pictures whose embeddings have a mean cosine of at least `least`.

    What has no embedding (errors, films, animations, inputs that the evidence does not tell of) is grouped by
    its bytes.

    Raises:
        EvidenceError: the evidence has no embeddings, or is damaged.
        OutputError: no temporary file can be written.
    """
    numbers = {row["sha256"]: row["content"] for row in items.reader.rows(_STILLS)}
    leaders, similarity = np.arange(items.contents), np.ones(items.contents)
    with tempfile.TemporaryDirectory(prefix="clipmod-") as scratch:
        pictures = EmbeddedPictures.read(stored, numbers, Path(scratch))
        links = link_to_leaders(pictures, least, on_progress)
        leaders[pictures.contents] = pictures.contents[links.leaders]
        similarity[pictures.contents] = links.similarity
        others = len(leaders) - len(pictures)
        del pictures  # the file is mapped
    return Grouped(Clusters.build(items, leaders, similarity, EMBEDDING, singles=singles), others)
