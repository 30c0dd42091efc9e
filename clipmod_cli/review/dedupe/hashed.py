"""Pictures compared by PDQ. Their hashes are those of the records, where a bank of PDQ hashes had them made.

Others are made from the files as they are now, decoded at full size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.cores import usable_cores
from clipmod_cli.decode.limits import Coverage, DecodeLimits, DecodeOptions, FrameSampling
from clipmod_cli.decode.stage import Decoders, decode_with
from clipmod_cli.decode.stills.pdq import BITS, LEAST_QUALITY, pdq_of
from clipmod_cli.decode.workers.pool import WorkerPool
from clipmod_cli.results import BankVerdict
from clipmod_cli.review.dedupe.items import FoundItem
from clipmod_cli.review.dedupe.leaders import Floats, Indices
from clipmod_cli.sources.archives.items import look_inside
from clipmod_cli.sources.base import InputPath, Rules, Skipped
from clipmod_cli.types import Failure, Frame, Geometry, Item

_WHOLE: Final = Geometry(fit="whole", size=(1, 1))
"""Decoded at full size: of a reduced picture the hash differs."""
_OPTIONS: Final = DecodeOptions(
    heic=True,
    frames=FrameSampling(mode="max", value=2),  # of a film, which a compact record does not tell from a still
    coverage=Coverage(full=False),
    limits=DecodeLimits(max_views=1),  # the file's own picture, in its first reading
)


def similarity_of(bits: float) -> float:
    """Return the similarity of two hashes that differ in so many bits: 1 for none, -1 for all."""
    return 1.0 - bits / (BITS / 2)


def bits_of(similarity: Floats) -> Floats:
    """Return in how many bits hashes of these similarities differ."""
    return np.asarray(np.round((1.0 - similarity) * (BITS / 2)))


@dataclass(frozen=True, slots=True)
class HashedPictures:
    """Contents with a hash, as `ComparableContents`.

    Attributes:
        contents: their numbers, those of the largest first, `(n,)`.
        hashes: uint8 `(n, 32)`.
    """

    contents: Indices
    hashes: NDArray[np.uint8]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.contents)

    def bounds(self, rows: Indices, others: Indices) -> NDArray[np.float32]:
        """Return the similarities themselves, `(len(rows), len(others))`."""
        return np.asarray(self._signs(rows) @ self._signs(others).T / np.float32(BITS))

    def similarity(self, rows: Indices, others: Indices) -> Floats:
        """Return the similarity of each pair, `(len(rows),)`."""
        differing = np.bitwise_count(self.hashes[rows] ^ self.hashes[others]).sum(axis=1, dtype=np.int64)
        return np.asarray(1.0 - differing / (BITS / 2))

    def _signs(self, rows: Indices) -> NDArray[np.float32]:
        """Return the bits as 1 and -1, `(n, 256)`; whole numbers, so that sums of products are exact."""
        return np.unpackbits(self.hashes[rows], axis=1).astype(np.float32) * np.float32(2) - np.float32(1)


@dataclass(slots=True)
class PictureHasher:
    """Reads pictures and hashes them.

    Attributes:
        poor: how many have too little structure for a hash that tells them from others.
        failed: names of those that could not be read as they were scanned, with the reason.
    """

    poor: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    _pending: dict[int, FoundItem] = field(default_factory=dict)

    def hash(self, stills: Iterable[tuple[int, FoundItem]]) -> HashedPictures:
        """Return the pictures that can be compared; the others are counted."""
        found: dict[int, tuple[int, bytes]] = {}
        workers = usable_cores()
        with Decoders(workers, pool=WorkerPool()) as decoders:
            unhashed = self._without_hash(stills, found)
            for one in decode_with(decoders, self._items(unhashed), [_WHOLE], _OPTIONS):
                still = self._pending.pop(one.item.index, None)
                if still is None or isinstance(one, BankVerdict):  # there are no banks
                    continue
                if (made := self._hash(still, one)) is not None:
                    found[one.item.index] = made
        contents = np.asarray(sorted(found, key=lambda one: (-found[one][0], one)), dtype=np.int64)
        packed = b"".join(found[content][1] for content in contents.tolist())
        return HashedPictures(contents, np.frombuffer(packed, dtype=np.uint8).reshape(-1, BITS // 8))

    def _without_hash(
        self, stills: Iterable[tuple[int, FoundItem]], found: dict[int, tuple[int, bytes]]
    ) -> Iterator[tuple[int, FoundItem]]:
        """Yield those of which the record has no hash; those with one are put into `found`."""
        for content, still in stills:
            if still.pdq is None:
                yield content, still
            elif still.pdq:
                found[content] = still.pixels, bytes.fromhex(still.pdq)
            else:
                self.poor += 1

    def _hash(self, still: FoundItem, decoded: Frame | Failure) -> tuple[int, bytes] | None:
        """Return the number of pixels and the hash; None for what cannot be compared."""
        if isinstance(decoded, Failure):
            self._fail(still, decoded.message)
            return None
        if decoded.media.sha256 != still.sha256:
            self._fail(still, "it has changed since it was scanned")
            return None
        if decoded.media.kind != "image":
            return None
        pixels = decoded.inputs[_WHOLE]
        made = pdq_of(pixels)
        if made.quality < LEAST_QUALITY:
            self.poor += 1
            return None
        return pixels.shape[0] * pixels.shape[1], made.bits

    def _fail(self, still: FoundItem, reason: str) -> None:
        name = still.path if still.member is None else f"{still.member} in {still.path}"
        self.failed.append((name, reason))

    def _items(self, stills: Iterable[tuple[int, FoundItem]]) -> Iterator[Item]:
        """Yield what is to be decoded, numbered by content; members that follow each other by one reading."""
        for path, group in groupby(stills, key=lambda one: one[1].path if one[1].member else None):
            if path is not None:
                yield from self._members(path, {still.member: (content, still) for content, still in group})
                continue
            for content, still in group:
                if still.is_remote:
                    self._fail(still, "it is not on this machine")
                else:
                    self._pending[content] = still
                    yield Item(source=still.path, index=content)

    def _members(self, path: str, wanted: dict[str | None, tuple[int, FoundItem]]) -> Iterator[Item]:
        if not next(iter(wanted.values()))[1].is_remote:
            for item in look_inside(InputPath(path), Rules(), Skipped()):
                if isinstance(item, Item) and item.member in wanted:
                    content, self._pending[content] = wanted.pop(item.member)
                    yield replace(item, index=content)
        for _, still in wanted.values():
            self._fail(still, "it cannot be read from there")
