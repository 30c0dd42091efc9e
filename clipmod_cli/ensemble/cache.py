"""Spares models what they saw in an earlier run: an `Asks` that looks into a file first.

What a model says follows from the pixels it is shown, from its weights and its precision. All of them,
and the version of this program, make the key; so a policy, a threshold or weights in the ensemble may
change, and what was seen still holds. A verdict is never kept, nor a failure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from clipmod_cli import __version__
from clipmod_cli.ensemble.asking import Answers, AskModel, Asks, Told
from clipmod_cli.types import AsynchronousModel, Frame, Model, Seen, View, is_finite

KEY_BYTES: Final = 16
"""Of BLAKE2b: two pictures that share a key are not found, by chance or on purpose (2^64 tries)."""


class Keeps(Protocol):
    """What keeps evidence under keys: an `EvidenceFile`."""

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, Seen]:
        """Return what is kept under these keys."""
        ...

    def put(self, seen: Mapping[bytes, Seen]) -> None:
        """Keep these, as far as there is room."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question to a model: the frames' keys in order, what is known by them, and what is not."""

    keys: Sequence[bytes]
    known: Mapping[bytes, Seen]
    unknown: Mapping[bytes, Frame]


@dataclass(slots=True)
class AskOnce:
    """Asks a model only about what no run has shown to it before.

    Attributes:
        kept: where evidence is kept.
        dtype: the precision that models run in.
        ask: how a model is asked about the rest.
    """

    kept: Keeps
    dtype: str
    ask: Asks = field(default_factory=AskModel)
    _digests: WeakKeyDictionary[Frame, dict[View, bytes]] = field(default_factory=WeakKeyDictionary)

    def __call__(self, model: Model, frames: Sequence[Frame]) -> list[Told]:
        """Return what the model sees in each frame, or saw in the same pixels."""
        asked = self._look_up(model, frames)
        return self._tell(asked, self.ask(model, list(asked.unknown.values())) if asked.unknown else ())

    def begin(self, model: AsynchronousModel, frames: Sequence[Frame]) -> Answers:
        """Begin with the frames whose pixels it has not seen."""
        asked = self._look_up(model, frames)
        wait = self.ask.begin(model, list(asked.unknown.values())) if asked.unknown else tuple
        return lambda: self._tell(asked, wait())

    def prepare(self, model: Model, frames: Sequence[Frame]) -> None:
        """Hash the frames, and put those together that the model will be asked about."""
        for frame in frames:
            self._digest(frame, model.view)
        self.ask.prepare(model, frames)

    def _look_up(self, model: Model, frames: Sequence[Frame]) -> _Asked:
        keys = self._keys(model, frames)
        known = self.kept.get(keys)
        unknown = {key: frame for key, frame in zip(keys, frames, strict=True) if key not in known}
        return _Asked(keys, known, unknown)

    def _tell(self, asked: _Asked, answers: Sequence[Told]) -> list[Told]:
        told = dict(zip(asked.unknown, answers, strict=True))
        if fresh := {key: one.seen for key, one in told.items() if is_finite(one.seen)}:
            self.kept.put(fresh)
        return [told[key] if key in told else Told(asked.known[key], 0.0) for key in asked.keys]

    def _keys(self, model: Model, frames: Sequence[Frame]) -> list[bytes]:
        identity = repr((__version__, model.spec, model.revision, self.dtype)).encode()
        return [_hash(identity + self._digest(frame, model.view)) for frame in frames]

    def _digest(self, frame: Frame, view: View) -> bytes:
        # The members of an ensemble mostly want the same view of the same frames, one after the other.
        digests = self._digests.setdefault(frame, {})
        if view not in digests:
            digests[view] = _digest_of(frame, view)
        return digests[view]


def _digest_of(frame: Frame, view: View) -> bytes:
    """Return what identifies all of a frame that a model can know: pixels, and the size for a box."""
    pixels = frame.views[view]
    digest = hashlib.blake2b(digest_size=KEY_BYTES)
    digest.update(repr((frame.media.width, frame.media.height, pixels.shape)).encode())
    digest.update(pixels.tobytes() if not pixels.flags.c_contiguous else pixels.data)
    return digest.digest()


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=KEY_BYTES).digest()
