"""The evidence cache: what models saw in earlier runs, by what they were shown.

Evidence follows from the pixels, the weights and the precision. These and this program's version make the
key, so policy, threshold and the ensemble's weights may change. Verdicts and failures are never cached.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, Self
from weakref import WeakKeyDictionary

from clipmod_cli import __version__
from clipmod_cli.models.seam import Model
from clipmod_cli.types import Frame, Seen, View, is_finite

KEY_BYTES: Final = 16
"""Of BLAKE2b: two pictures that share a key are not found, by chance or on purpose (2^64 tries)."""


class EvidenceStorage(Protocol):
    """Evidence by key: an `EvidenceFile`."""

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, Seen]:
        """Return what is stored under these keys."""
        ...

    def put(self, seen: Mapping[bytes, Seen]) -> None:
        """Store these, as far as there is room."""
        ...


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
        storage: where evidence is stored.
    """

    storage: EvidenceStorage
    _hashes: WeakKeyDictionary[Frame, dict[View, bytes]] = field(default_factory=WeakKeyDictionary)

    def look_up(self, model: Model, frames: Sequence[Frame]) -> CacheLookup:
        """Return what is cached of these frames for this model, and which frames are missing."""
        identity = repr((__version__, model.spec, model.revision, model.dtype)).encode()
        keys = [_blake2b(identity + self._hash(frame, model.view)) for frame in frames]
        known = self.storage.get(keys)
        missing = {key: frame for key, frame in zip(keys, frames, strict=True) if key not in known}
        return CacheLookup(keys, known, missing)

    def store(self, seen: Mapping[bytes, Seen]) -> None:
        """Store new evidence by its key, except what is not finite."""
        if finite := {key: one for key, one in seen.items() if is_finite(one)}:
            self.storage.put(finite)

    def prepare(self, model: Model, frames: Sequence[Frame]) -> None:
        """Hash frames that will be looked up."""
        for frame in frames:
            self._hash(frame, model.view)

    def _hash(self, frame: Frame, view: View) -> bytes:
        # The members of an ensemble mostly take the same view of the same frames, one after the other.
        hashes = self._hashes.setdefault(frame, {})
        if view not in hashes:
            hashes[view] = _hash_of(frame, view)
        return hashes[view]


def _hash_of(frame: Frame, view: View) -> bytes:
    """Return what identifies all that a model can know of a frame: its pixels, and its size for boxes."""
    pixels = frame.views[view]
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    digest.update(repr((frame.media.width, frame.media.height, pixels.shape)).encode())
    digest.update(pixels.tobytes() if not pixels.flags.c_contiguous else pixels.data)
    return digest.digest()


def _blake2b(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=KEY_BYTES).digest()
