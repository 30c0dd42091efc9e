"""Has models look at equal pictures once: a stage around `measure` that knows what it has measured.

A picture is known by the hash of its bytes and by some of its pixels. What is kept is what models saw,
never a verdict, and never a failure; as much as fits into a bound. Knows no policy and no model.
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

from clipmod_cli.ensemble.ensemble import Looking, Measures
from clipmod_cli.ensemble.looks import Enough
from clipmod_cli.types import Detections, Embedding, Evidence, Failure, Frame, LabelScores, Seen, View

REMEMBERED_BYTES: Final = 64_000_000
"""Of what models saw, for one run: some 4,500 pictures of the ensemble, 13,000 of ViT-L-14."""

PROBES: Final = 1024
"""Places of a picture that are compared, drawn anew for each run. The hash of a file is the word of the
process that decoded it; where a picture took that over, it could name another one's hash and have its own
scores given to it. Pictures that differ in one byte of fifty agree at so many places once in 10^9."""

EACH_BYTES: Final = 1_500
"""Around what is kept of one picture: keys, dictionaries, objects."""
LABEL_BYTES: Final = 300
"""For a label's score, or one thing a detector saw."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the asked models saw in a picture, and who was skipped."""

    seen: Mapping[str, Seen]
    skipped: tuple[str, ...]
    size: int


@dataclass(slots=True)
class Memory:
    """What was seen, the longest unused forgotten first where it would be more than `most` bytes."""

    most: int
    size: int = 0
    _kept: OrderedDict[bytes, _Kept] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: object) -> bool:
        """Return whether something is known by this key."""
        return key in self._kept

    def get(self, key: bytes) -> _Kept | None:
        """Return what is known by this key."""
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def put(self, key: bytes, evidence: Evidence) -> _Kept:
        """Keep what was seen, and return it."""
        seen = {name: _owned(one) for name, one in evidence.seen.items()}
        kept = _Kept(seen, evidence.skipped, EACH_BYTES + sum(map(_size_of, seen.values())))
        if kept.size <= self.most and key not in self._kept:
            self._kept[key] = kept
            self.size += kept.size
        while self.size > self.most:
            self.size -= self._kept.popitem(last=False)[1].size
        return kept


def _draw_places() -> NDArray[np.float64]:
    """Return where pictures are compared, as shares of their length; nobody can know them beforehand."""
    return np.random.default_rng(secrets.randbits(128)).random(PROBES)


@dataclass(slots=True)
class SeenBefore:
    """An ensemble to which equal pictures are shown once. For one run.

    One thread begins, another one may prepare, and a third one wait for what was begun.

    Attributes:
        ensemble: the models that look.
        memory: what they saw.
    """

    ensemble: Measures
    memory: Memory
    _places: NDArray[np.float64] = field(default_factory=_draw_places)
    _keys: WeakKeyDictionary[Frame, bytes | None] = field(default_factory=WeakKeyDictionary)
    _awaited: set[bytes] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def views(self) -> tuple[View, ...]:
        """The geometries that the models want, each once."""
        return self.ensemble.views

    @property
    def batch_size(self) -> int:
        """Frames in one forward pass."""
        return self.ensemble.batch_size

    def prepare_batch(self, batch: Sequence[Frame | Failure]) -> None:
        """Have the ensemble prepare what it will most likely be shown of this batch."""
        keys = {one: self._key_of(one) for one in batch if isinstance(one, Frame)}
        self.ensemble.prepare_batch(
            list(_first_of_each(keys, {key for key in keys.values() if key in self.memory}))
        )

    def begin(self, batch: Sequence[Frame | Failure], enough: Enough | None = None) -> Looking:
        """Begin with what is not known, and return what waits for the evidence.

        `enough` is the same question for a whole run. What is known already took no forward time.
        """
        keys = {one: self._key_of(one) for one in batch if isinstance(one, Frame)}
        with self._lock:
            known = {key: kept for key in keys.values() if key and (kept := self.memory.get(key))}
            fresh = _first_of_each(keys, {*known, *self._awaited})
            awaited = {key for one in fresh if (key := keys[one]) is not None}
            self._awaited |= awaited
        wait = self.ensemble.begin(list(fresh), enough)

        def tell() -> Iterator[Evidence | Failure]:
            measured = iter(wait())
            for one in batch:
                if isinstance(one, Failure):
                    yield one
                elif one in fresh:
                    yield self._remember(next(measured), keys[one], known)
                else:
                    yield self._tell_again(one, keys[one], known, enough)
            with self._lock:
                self._awaited -= awaited

        return tell

    def _tell_again(
        self, frame: Frame, key: bytes | None, known: dict[bytes, _Kept], enough: Enough | None
    ) -> Evidence | Failure:
        """Return what was seen in an equal picture; where that failed, what is seen in this one."""
        with self._lock:
            kept = (known.get(key) or self.memory.get(key)) if key else None
        if kept is not None:
            return _again(frame, kept)
        (seen,) = self.ensemble.begin([frame], enough)()
        return self._remember(seen, key, known)

    def _remember(
        self, seen: Evidence | Failure, key: bytes | None, known: dict[bytes, _Kept]
    ) -> Evidence | Failure:
        """Keep what was seen, also among what this batch knows so far."""
        if key is not None and isinstance(seen, Evidence) and not seen.stand_in:
            with self._lock:
                known[key] = self.memory.put(key, seen)
        return seen

    def _key_of(self, frame: Frame) -> bytes | None:
        """Return what a still is known by; None for what has no hash, or moves."""
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
            digest.update(flat[(self._places * flat.size).astype(np.intp)].tobytes())
        return digest.digest()


def _first_of_each(keys: Mapping[Frame, bytes | None], known: Iterable[bytes | None]) -> dict[Frame, None]:
    """Return the frames that have to be looked at, in order: of equal ones the first."""
    claimed = set(known)
    fresh: dict[Frame, None] = {}
    for frame, key in keys.items():
        if key is None or key not in claimed:
            fresh[frame] = None
        if key is not None:
            claimed.add(key)
    return fresh


def _again(frame: Frame, kept: _Kept) -> Evidence:
    return Evidence.of(frame, kept.seen, dict.fromkeys(kept.seen, 0.0), kept.skipped)


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
