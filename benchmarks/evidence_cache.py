"""What it costs to keep what models saw, for this run and for later ones, and what it saves.

    python -m benchmarks.evidence_cache [--pictures N] [--batch B] [--rounds R]

Three text-image models of the ensemble's widths that answer at once, so that nothing but the cache takes
time: 150 KB of pixels a picture are hashed, 11 KB of embeddings written or read. Processor time of the whole
process, and the clock beside it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.ensemble.cache import DUPLICATE_CACHE_BYTES, EvidenceCache, EvidenceLru
from clipmod_cli.ensemble.cache_file import EvidenceFile
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.models.seam import ImmediateModel
from clipmod_cli.types import Box, Embedding, Evidence, Frame, Geometry, Item, Media, View

GEOMETRY = Geometry(fit="shortest", size=(224, 224), crop=(224, 224))
WIDTHS = (768, 1024, 1024)
MOST = 10_000_000_000


@dataclass
class Instant(ImmediateModel):
    """A model that takes no time."""

    name: str
    width: int
    spec: str
    revision: str = "1"
    geometry: Geometry = GEOMETRY
    kind: Literal["text-image"] = "text-image"
    logit_scale: float = 100.0

    def infer(self, frames: Sequence[Frame]) -> Sequence[Embedding]:
        """Return the same for every frame."""
        vectors = np.full((len(frames), self.width), self.width**-0.5, dtype=np.float32)
        return [Embedding(vector=vector) for vector in vectors]

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return the same for every prompt."""
        return np.full((len(prompts), self.width), self.width**-0.5, dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    rounds = [_round(wanted.pictures, wanted.batch) for _ in range(wanted.rounds)]
    print("µs a picture (processor time, clock), medians of", wanted.rounds)
    for name in rounds[0]:
        cpu, clock = (statistics.median(one[name][place] for one in rounds) for place in (0, 1))
        print(f"{name:<40} {cpu:8.0f} {clock:8.0f}")


def _round(pictures: int, batch: int) -> dict[str, tuple[float, float]]:
    with tempfile.TemporaryDirectory(prefix="clipmod-evidence-") as folder:
        path = Path(folder) / "evidence.sqlite"
        took = {"without a cache": _time(pictures, batch, None)}
        memory = EvidenceCache(memory=EvidenceLru(DUPLICATE_CACHE_BYTES))
        for name in ("seen for the first time, in memory alone", "seen in this run"):
            took[name] = _time(pictures, batch, memory)
        for name in ("seen for the first time", "seen by an earlier run"):
            with closing(EvidenceFile(path, MOST)) as kept:
                took[name] = _time(pictures, batch, EvidenceCache(kept))
        return took


def _time(pictures: int, batch: int, cache: EvidenceCache | None) -> tuple[float, float]:
    frames = _frames(pictures)
    batches = [frames[at : at + batch] for at in range(0, pictures, batch)]
    cpu, clock = time.process_time(), time.perf_counter()
    _look(batches, cache)
    return (time.process_time() - cpu) / pictures * 1e6, (time.perf_counter() - clock) / pictures * 1e6


def _look(batches: Sequence[Sequence[Frame]], cache: EvidenceCache | None) -> None:
    ensemble = Ensemble(
        [Member(Instant(f"{w}", w, f"model-{i}"), 1 / 3) for i, w in enumerate(WIDTHS)], cache=cache
    )
    if not all(isinstance(one, Evidence) for batch in batches for one in ensemble.submit(batch)()):
        raise SystemExit("a picture was lost")


def _frames(count: int) -> list[Frame]:
    noise = np.random.default_rng(0).integers(0, 256, (count + 224, 224, 3), dtype=np.uint8)
    return [
        Frame(
            item=Item(source=str(index), index=index),
            media=Media(started=0.0),
            view=View(box=Box(0, 0, 224, 224)),
            inputs={GEOMETRY: noise[index : index + 224]},
        )
        for index in range(count)
    ]


if __name__ == "__main__":
    main()
