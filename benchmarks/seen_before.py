"""What it costs to remember pictures: for one that is different, and for one that is known already.

    python -m benchmarks.seen_before [--pictures 2000] [--rounds 7]

Crops of 224 pixels, three embeddings as the ensemble's, batches of 8, and models that take no time. Prints
one JSON object: microseconds of processor time a picture, medians, with the lowest and highest round.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from clipmod_cli.ensemble.batch import CanSkipRest
from clipmod_cli.ensemble.duplicates import DUPLICATE_CACHE_BYTES, DuplicateCache, EvidenceLru
from clipmod_cli.ensemble.ensemble import PendingEvidence
from clipmod_cli.types import Embedding, Evidence, Failure, Frame, Item, Media, Seen, View

VIEW = View(fit="shortest", size=(224, 224), crop=(224, 224))
WIDTHS = {"l": 768, "h": 1024, "g": 1024}
BATCH = 8


def _embeddings() -> dict[str, Seen]:
    return {name: Embedding(vector=np.ones(width, np.float32)) for name, width in WIDTHS.items()}


@dataclass
class Instant:
    """An ensemble that knows at once what it sees, an `InferenceEngine`."""

    views: tuple[View, ...] = (VIEW,)
    batch_size: int = BATCH
    seen: dict[str, Seen] = field(default_factory=_embeddings)

    def prepare_batch(self, batch: Sequence[Frame | Failure]) -> None:
        """Do nothing."""

    def submit(
        self,
        batch: Sequence[Frame | Failure],
        can_skip_rest: CanSkipRest | None = None,  # noqa: ARG002 — the protocol's
    ) -> PendingEvidence:
        """Return what gives the same for every frame."""
        times = dict.fromkeys(self.seen, 0.0)
        return lambda: [
            one if isinstance(one, Failure) else Evidence.of(one, self.seen, times) for one in batch
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    wanted = parser.parse_args()
    frames = [_frame(index) for index in range(wanted.pictures)]
    different, known = [], []
    for _ in range(wanted.rounds):
        plain = _time(Instant(), frames)
        remembering = DuplicateCache(Instant(), EvidenceLru(DUPLICATE_CACHE_BYTES))
        different.append(_time(remembering, frames) - plain)
        known.append(_time(remembering, frames))
    print(json.dumps({"different_us": _told(different), "known_us": _told(known)}))


def _frame(index: int) -> Frame:
    pixels = np.random.default_rng(index).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    digest = hashlib.sha256(pixels.data).hexdigest()
    media = Media(started=0.0, sha256=digest, width=224, height=224)
    return Frame(item=Item(source=str(index), index=index), media=media, views={VIEW: pixels})


def _time(ensemble: Instant | DuplicateCache, frames: Sequence[Frame]) -> float:
    """Return microseconds of processor time a picture, for frames that were never asked about."""
    fresh = [replace(frame) for frame in frames]
    begun = time.process_time()
    for at in range(0, len(fresh), BATCH):
        list(ensemble.submit(fresh[at : at + BATCH])())
    return (time.process_time() - begun) / len(frames) * 1e6


def _told(found: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(found), 1),
        "lowest": round(min(found), 1),
        "highest": round(max(found), 1),
    }


if __name__ == "__main__":
    main()
