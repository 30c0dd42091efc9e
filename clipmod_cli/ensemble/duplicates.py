"""The duplicate cache: within one run, models see equal pictures once.

An LRU of evidence in memory, before the evidence cache. A picture's key is the hash of its file and some
of its pixels. Verdicts and failures are never cached. Knows no policy and no model.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.ensemble.batch import CanSkipRest
from clipmod_cli.ensemble.ensemble import InferenceEngine, PendingEvidence
from clipmod_cli.types import Detections, Embedding, Evidence, Failure, Frame, LabelScores, Seen, View

DUPLICATE_CACHE_BYTES: Final = 64_000_000
"""For one run: some 4,500 pictures of the ensemble, 13,000 of ViT-L-14."""

PROBES: Final = 1024
"""Pixels of a picture that are part of its key, at places drawn anew for each run. The file's hash comes
from the process that decoded it: a picture that took over that process could name another one's hash and
spoil that one's scores. Pictures that differ in one byte of fifty agree at all probes once in 10^9."""

ENTRY_BYTES: Final = 1_500
"""Of one picture's entry, without its evidence: keys, dictionaries, objects."""
LABEL_BYTES: Final = 300
"""Of a label's score, or of one detection."""


@dataclass(frozen=True, slots=True)
class CachedEvidence:
    """A picture's evidence, and the models that early exit skipped; `size` is in bytes."""

    seen: Mapping[str, Seen]
    skipped: tuple[str, ...]
    size: int


@dataclass(slots=True)
class EvidenceLru:
    """Evidence by key in at most `max_bytes`; the least recently used is evicted first."""

    max_bytes: int
    size: int = 0
    _entries: OrderedDict[bytes, CachedEvidence] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        """Return whether this key is cached."""
        return key in self._entries

    def get(self, key: bytes) -> CachedEvidence | None:
        """Return the entry of this key."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: bytes, evidence: Evidence) -> CachedEvidence:
        """Cache a picture's evidence if it fits, and return its entry."""
        seen = {name: _owned(one) for name, one in evidence.seen.items()}
        entry = CachedEvidence(seen, evidence.skipped, ENTRY_BYTES + sum(map(_size_of, seen.values())))
        if entry.size <= self.max_bytes and key not in self._entries:
            self._entries[key] = entry
            self.size += entry.size
        while self.size > self.max_bytes:
            self.size -= self._entries.popitem(last=False)[1].size
        return entry


def _draw_probes() -> NDArray[np.float64]:
    """Return the probes' places as shares of a picture's length; they cannot be predicted."""
    return np.random.default_rng(secrets.randbits(128)).random(PROBES)


@dataclass(slots=True)
class DuplicateCache:
    """An `InferenceEngine` that passes equal pictures on to another one once. For one run.

    One thread prepares, one submits, and one waits for results.

    Attributes:
        engine: sees what is not cached.
        lru: the cached evidence.
    """

    engine: InferenceEngine
    lru: EvidenceLru
    _probes: NDArray[np.float64] = field(default_factory=_draw_probes)
    _keys: WeakKeyDictionary[Frame, bytes | None] = field(default_factory=WeakKeyDictionary)
    _in_flight: set[bytes] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def views(self) -> tuple[View, ...]:
        """The geometries that the models take, each once."""
        return self.engine.views

    @property
    def batch_size(self) -> int:
        """Frames in one forward pass."""
        return self.engine.batch_size

    def prepare_batch(self, batch: Sequence[Frame | Failure]) -> None:
        """Prepare the frames of a batch that will most likely be submitted."""
        keys = {one: self._key_of(one) for one in batch if isinstance(one, Frame)}
        cached = {key for key in keys.values() if key in self.lru}
        self.engine.prepare_batch(list(_without_duplicates(keys, cached)))

    def submit(
        self, batch: Sequence[Frame | Failure], can_skip_rest: CanSkipRest | None = None
    ) -> PendingEvidence:
        """Submit what is neither cached nor in flight, and return a function that waits for the evidence.

        All batches of a run need the same `can_skip_rest`. Cached evidence has a forward time of 0.0.
        """
        keys = {one: self._key_of(one) for one in batch if isinstance(one, Frame)}
        with self._lock:
            cached = {key: entry for key in keys.values() if key and (entry := self.lru.get(key))}
            fresh = _without_duplicates(keys, {*cached, *self._in_flight})
            submitted = {key for one in fresh if (key := keys[one]) is not None}
            self._in_flight |= submitted
        wait = self.engine.submit(list(fresh), can_skip_rest)

        def collect() -> Iterator[Evidence | Failure]:
            results = iter(wait())
            for one in batch:
                if isinstance(one, Failure):
                    yield one
                elif one in fresh:
                    yield self._remember(next(results), keys[one], cached)
                else:
                    yield self._repeat(one, keys[one], cached, can_skip_rest)
            with self._lock:
                self._in_flight -= submitted

        return collect

    def _repeat(
        self,
        frame: Frame,
        key: bytes | None,
        cached: dict[bytes, CachedEvidence],
        can_skip_rest: CanSkipRest | None,
    ) -> Evidence | Failure:
        """Return the evidence of an equal picture; if that one failed or was evicted, submit this one."""
        with self._lock:
            entry = (cached.get(key) or self.lru.get(key)) if key else None
        if entry is not None:
            return Evidence.of(frame, entry.seen, dict.fromkeys(entry.seen, 0.0), entry.skipped)
        (result,) = self.engine.submit([frame], can_skip_rest)()
        return self._remember(result, key, cached)

    def _remember(
        self, result: Evidence | Failure, key: bytes | None, cached: dict[bytes, CachedEvidence]
    ) -> Evidence | Failure:
        """Cache a result for this batch and for later ones."""
        if key is not None and isinstance(result, Evidence) and not result.stand_in:
            with self._lock:
                cached[key] = self.lru.put(key, result)
        return result

    def _key_of(self, frame: Frame) -> bytes | None:
        """Return the key of a still; None if it has no hash, or is a frame of something that moves."""
        if frame not in self._keys:
            self._keys[frame] = self._make_key(frame)
        return self._keys[frame]

    def _make_key(self, frame: Frame) -> bytes | None:
        media = frame.media
        if media.kind != "image" or media.sha256 is None:
            return None
        facts = repr((media.sha256, media.width, media.height, media.truncated))
        digest = hashlib.blake2b(facts.encode(), digest_size=16)
        for pixels in frame.views.values():
            flat = pixels.reshape(-1)
            digest.update(repr(pixels.shape).encode())
            digest.update(flat[(self._probes * flat.size).astype(np.intp)].tobytes())
        return digest.digest()


def _without_duplicates(
    keys: Mapping[Frame, bytes | None], known: Iterable[bytes | None]
) -> dict[Frame, None]:
    """Return the frames whose keys are not known, in order; of equal ones the first."""
    claimed = set(known)
    fresh: dict[Frame, None] = {}
    for frame, key in keys.items():
        if key is None or key not in claimed:
            fresh[frame] = None
        if key is not None:
            claimed.add(key)
    return fresh


def _owned(seen: Seen) -> Seen:
    """Return the same without the array of its whole batch behind it."""
    return Embedding(vector=seen.vector.copy()) if isinstance(seen, Embedding) else seen


def _size_of(seen: Seen) -> int:
    match seen:
        case Embedding(vector=vector):
            return vector.nbytes + LABEL_BYTES
        case LabelScores(scores=scores):
            return LABEL_BYTES * (1 + len(scores))
        case Detections(found=found):
            return LABEL_BYTES * (1 + len(found))
    raise AssertionError(f"unknown evidence {seen!r}")
