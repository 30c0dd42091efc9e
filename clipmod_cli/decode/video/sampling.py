"""Which of a video's frames are scored: a limited number, over the whole length and at its changes.

There may be a million frames, so only the views of those kept so far are in memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.types import Inputs, ViewInputs

Thumbnail: TypeAlias = NDArray[np.uint8]
"""`(h, w, 3)` RGB. In colour: a red thing can be exactly as dark as the blue one that it replaces."""

FrameT = TypeVar("FrameT")

SAME_LEVELS = 4
"""Two frames are the same if no value of their views differs by more, of 255. People see a difference from
about twice that; an encoder's noise on a still scene stays below it."""

_FIRST_STEP_S = 0.05
"""The finest grid of evenly spaced frames; it is made twice as coarse whenever it is full."""

_STRONGEST = 16
"""A change is measured on the 16th of the picture where it is greatest, so that something small in a corner
counts more than noise."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptFrame:
    """A frame that is kept so far.

    Attributes:
        time_s: in seconds from the start.
        stamp: its own timestamp, if it has one.
        order: its place among those offered.
        change: from the frame kept before it.
    """

    time_s: float
    stamp: int | None
    order: int
    views: Sequence[ViewInputs]
    change: float

    def __lt__(self, other: KeptFrame) -> bool:
        """Return whether this one is dropped first: it differs less, or as much and is later."""
        return (self.change, -self.order) < (other.change, -other.order)


def measure_change(before: Thumbnail, after: Thumbnail) -> float:
    """Return how much two thumbnails differ where they differ most, 0..255."""
    cells = np.abs(before.astype(np.int16) - after.astype(np.int16)).max(axis=2).ravel()
    count = max(len(cells) // _STRONGEST, 1)
    return float(np.partition(cells, len(cells) - count)[-count:].mean())


def look_alike(one: Sequence[ViewInputs], other: Sequence[ViewInputs]) -> bool:
    """Return whether no model could be shown a visible difference between two frames."""
    return len(one) == len(other) and all(
        a.view == b.view and _inputs_look_alike(a.inputs, b.inputs) for a, b in zip(one, other, strict=True)
    )


def _inputs_look_alike(one: Inputs, other: Inputs) -> bool:
    return all(
        pixels.shape == other[geometry].shape
        and int(np.abs(pixels.astype(np.int16) - other[geometry].astype(np.int16)).max(initial=0))
        <= SAME_LEVELS
        for geometry, pixels in one.items()
    )


class FrameSelection(Generic[FrameT]):
    """The kept frames: at most `most`.

    Up to half of them lie on an even grid in time; the others differ most from the frame kept before them.
    The first and the last frame always stay. A frame that looks like the one kept before it is dropped
    (see `look_alike`).
    """

    def __init__(
        self,
        most: int,
        make_views: Callable[[FrameT], Sequence[ViewInputs]],
        make_thumbnail: Callable[[FrameT], Thumbnail],
    ) -> None:
        """Keep at most `most` frames."""
        self._room = max(most - 1, 1)  # the last frame takes a place of its own
        self._most_even = max(self._room // 2, 1)
        self._make_views, self._make_thumbnail = make_views, make_thumbnail
        self._step = _FIRST_STEP_S
        self._even: dict[int, KeptFrame] = {}
        self._changes: list[KeptFrame] = []
        self._reference: tuple[KeptFrame, Thumbnail] | None = None
        self._latest: tuple[float, int | None, FrameT] | None = None
        self._offered = 0
        self._most = most

    def offer(self, time_s: float, stamp: int | None, frame: FrameT) -> None:
        """Keep the frame if it differs enough; the latest one is remembered in any case."""
        self._latest = time_s, stamp, frame
        self._offered += 1
        thumbnail = self._make_thumbnail(frame)
        change = 255.0 if self._reference is None else measure_change(self._reference[1], thumbnail)
        if not self._is_needed(time_s, change):
            return
        kept = KeptFrame(time_s, stamp, self._offered, self._make_views(frame), change)
        if self._reference is not None and look_alike(self._reference[0].views, kept.views):
            return
        self._reference = kept, thumbnail
        self._keep(kept)

    def close(self) -> list[KeptFrame]:
        """Return the kept frames in their order, with the latest frame at the end."""
        chosen = {kept.order: kept for kept in (*self._even.values(), *self._changes)}
        if self._latest is not None and self._offered not in chosen and (self._most > 1 or not chosen):
            time_s, stamp, frame = self._latest
            chosen[self._offered] = KeptFrame(time_s, stamp, self._offered, self._make_views(frame), 0.0)
        return [chosen[order] for order in sorted(chosen)]

    def _is_needed(self, time_s: float, change: float) -> bool:
        if len(self._even) + len(self._changes) < self._room or self._place(time_s) not in self._even:
            return True
        return bool(self._changes) and change > self._changes[0].change

    def _place(self, time_s: float) -> int:
        return int(time_s / self._step)

    def _keep(self, kept: KeptFrame) -> None:
        if self._place(kept.time_s) in self._even:
            heapq.heappush(self._changes, kept)
        else:
            self._even[self._place(kept.time_s)] = kept
        while len(self._even) > self._most_even:
            self._coarsen()
        while len(self._even) + len(self._changes) > self._room:
            heapq.heappop(self._changes)

    def _coarsen(self) -> None:
        """Double the grid's step; the second frame of two neighbours must now stay by its change."""
        self._step *= 2
        before, self._even = self._even, {}
        for kept in sorted(before.values(), key=lambda one: one.order):
            place = self._place(kept.time_s)
            if place in self._even:
                heapq.heappush(self._changes, kept)
            else:
                self._even[place] = kept
