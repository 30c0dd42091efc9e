"""The evidence cache: what models saw before, in this run or in earlier ones, by what they were shown.

Evidence follows from the pixels, the weights and the precision. These and this program's version make the
key, so policy, threshold and the ensemble's weights may change. Verdicts and failures are never cached.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, Self
from weakref import WeakKeyDictionary

import numpy as np

from clipmod_cli import __version__
from clipmod_cli.models.seam import Model
from clipmod_cli.types import Detections, Embedding, Frame, Geometry, LabelScores, Seen

KEY_BYTES: Final = 16
"""Of BLAKE2b: two pictures that share a key are not found, by chance or on purpose (2^64 tries)."""

DUPLICATE_CACHE_BYTES: Final = 64_000_000
"""For one run: some 4,500 pictures of the ensemble, 13,000 of ViT-L-14."""

ENTRY_BYTES: Final = 400
"""Of an entry in memory, without its numbers: the key, the dictionary's node, objects."""

SCORE_BYTES: Final = 200
"""Of a label's score, or of one detection."""


def is_finite(seen: Seen) -> bool:
    """Return whether all numbers in a piece of evidence are finite: nothing else may be judged by."""
    match seen:
        case Embedding(vector=vector):
            return bool(np.all(np.isfinite(vector)))
        case LabelScores(scores=scores):
            return bool(np.all(np.isfinite(list(scores.values()))))
        case Detections(found=found):
            return bool(np.all(np.isfinite([d.score for d in found])))
    raise AssertionError(f"unknown evidence {seen!r}")


class EvidenceStorage(Protocol):
    """Evidence by key: an `EvidenceFile`. Thread-safe."""

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, Seen]:
        """Return what is stored under these keys."""
        ...

    def put(self, seen: Mapping[bytes, Seen]) -> None:
        """Store these, as far as there is room."""
        ...


@dataclass(slots=True)
class EvidenceLru:
    """Evidence in memory by key, at most `max_bytes`; evicts the least recently used. Thread-safe."""

    max_bytes: int
    size: int = 0
    _entries: OrderedDict[bytes, Seen] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Seen]:
        """Return what is cached under these keys."""
        with self._lock:
            found = {key: self._entries[key] for key in keys if key in self._entries}
            for key in found:
                self._entries.move_to_end(key)
        return found

    def put(self, seen: Mapping[bytes, Seen]) -> None:
        """Cache these as far as there is room."""
        with self._lock:
            for key, one in seen.items():
                if key not in self._entries:
                    # an embedding is a row of its batch's array, which must not stay in memory for it
                    owned = Embedding(vector=one.vector.copy()) if isinstance(one, Embedding) else one
                    self._entries[key] = owned
                    self.size += _size_of(one)
            while self.size > self.max_bytes:
                self.size -= _size_of(self._entries.popitem(last=False)[1])


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """The cache's answer for some frames and one model.

    Attributes:
        keys: of the frames, in order; equal frames have equal keys.
        known: cached evidence.
        missing: the frames that the model has to see, equal ones once.
    """

    keys: Sequence[bytes]
    known: Mapping[bytes, Seen]
    missing: Mapping[bytes, Frame]

    @classmethod
    def empty(cls, frames: Sequence[Frame]) -> Self:
        """Return the answer of a cache that is not there: the model has to see every frame."""
        missing = {number.to_bytes(8, "big"): frame for number, frame in enumerate(frames)}
        return cls(list(missing), {}, missing)


@dataclass(slots=True)
class EvidenceCache:
    """Looks up and stores the evidence of models.

    Attributes:
        storage: the evidence of all runs; None has that of this run only.
        memory: the evidence of this run, by which models see equal frames once.
    """

    storage: EvidenceStorage | None = None
    memory: EvidenceLru = field(default_factory=lambda: EvidenceLru(0))
    _hashes: WeakKeyDictionary[Frame, dict[Geometry, bytes]] = field(default_factory=WeakKeyDictionary)

    def look_up(self, model: Model, frames: Sequence[Frame]) -> CacheLookup:
        """Return what is cached of these frames for this model, and which frames are missing."""
        lookup = self._look_up_in_memory(model, frames)
        if self.storage is None or not lookup.missing:
            return lookup
        stored = self.storage.get(list(lookup.missing))
        missing = {key: frame for key, frame in lookup.missing.items() if key not in stored}
        return CacheLookup(lookup.keys, {**lookup.known, **stored}, missing)

    def store(self, seen: Mapping[bytes, Seen]) -> None:
        """Store new evidence by its key, except what is not finite."""
        if finite := {key: one for key, one in seen.items() if is_finite(one)}:
            self.memory.put(finite)
            if self.storage is not None:
                self.storage.put(finite)

    def prepare(self, model: Model, frames: Sequence[Frame]) -> list[Frame]:
        """Hash frames that will be looked up, and return those that are not in memory, equal ones once."""
        return list(self._look_up_in_memory(model, frames).missing.values())

    def _look_up_in_memory(self, model: Model, frames: Sequence[Frame]) -> CacheLookup:
        identity = repr((__version__, model.spec, model.revision, model.dtype)).encode()
        keys = [
            _blake2b(identity + _place_for(model, frame) + self._hash(frame, model.geometry))
            for frame in frames
        ]
        known = self.memory.get(keys)
        missing = {key: frame for key, frame in zip(keys, frames, strict=True) if key not in known}
        return CacheLookup(keys, known, missing)

    def _hash(self, frame: Frame, geometry: Geometry) -> bytes:
        # The members of an ensemble mostly take the same view of the same frames, one after the other.
        hashes = self._hashes.setdefault(frame, {})
        if geometry not in hashes:
            hashes[geometry] = _hash_of(frame, geometry)
        return hashes[geometry]


def _place_for(model: Model, frame: Frame) -> bytes:
    """Return what a model can know of a view beside its pixels: its place, if it tells boxes."""
    return repr(tuple(frame.view.box)).encode() if model.kind == "detector" else b""


def _hash_of(frame: Frame, geometry: Geometry) -> bytes:
    pixels = frame.inputs[geometry]
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    digest.update(repr(pixels.shape).encode())
    digest.update(pixels.tobytes() if not pixels.flags.c_contiguous else pixels.data)
    return digest.digest()


def _blake2b(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=KEY_BYTES).digest()


def _size_of(seen: Seen) -> int:
    if isinstance(seen, Embedding):
        return ENTRY_BYTES + seen.vector.nbytes
    return ENTRY_BYTES + SCORE_BYTES * len(seen.scores if isinstance(seen, LabelScores) else seen.found)
