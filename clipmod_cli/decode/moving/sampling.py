"""Which frames of a video or animation are scored: a limited number, over its length and at its changes.

There may be a million frames, so only the views of those kept so far are in memory.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.decode.limits import MAX_VIEWS
from clipmod_cli.types import Inputs, ViewInputs

Thumbnail: TypeAlias = NDArray[np.uint8]
"""`(n, h, w, 3)` RGB, one for each way in which a frame is shown: a transparent one has several. In colour: a
red thing can be exactly as dark as the blue one that it replaces."""

FrameT = TypeVar("FrameT")

THUMBNAIL_SIDE = 32

SAME_LEVELS = 4
"""Two frames are the same if no value of their views differs by more, of 255. People see a difference from
about twice that; an encoder's noise on a still scene stays below it."""

SCENE_CHANGE = 24.0
"""A change of at least so many levels is a scene change (see `measure_change`)."""

DRIFT_S = 0.25
"""What drifts away from the last scored frame, as in a pan or a fade, is scored no more often than this."""

FINE_STEP_S = 0.05
"""The finest grid of evenly spaced frames; it is made twice as coarse whenever it is full."""

NO_STAMP = -(1 << 63)
"""Of a frame without a timestamp: FFmpeg's own mark."""

LOOK_S = 1.0
MOST_LOOKS = 600
"""The even grid has a frame a second, or so many in all if that is fewer."""

_EVEN_SHARE = 0.75
"""Of the room, for the even grid; the rest is for scene changes."""

_STRONGEST = 16
"""A change is measured on the 16th of the picture where it is greatest, so that something small in a corner
counts more than noise."""

_BLOCK = 4
"""Cells of a thumbnail, on each side, that are also compared by their mean: motion moves edges across cells,
and a new scene changes whole blocks."""


@dataclass(slots=True, eq=False, kw_only=True)
class KeptFrame:
    """A frame that is kept so far.

    Attributes:
        time_s: in seconds from the start.
        stamp: its own timestamp, if it has one.
        order: its place among those offered.
        scene: the number of its scene, from 0.
        change: from the frame kept before it.
        stands: later frames that look like it are left out, and one of them was due.
    """

    time_s: float
    stamp: int | None
    order: int
    views: Sequence[ViewInputs]
    scene: int
    change: float
    stands: bool = False


def measure_change(before: Thumbnail, after: Thumbnail) -> float:
    """Return how much two thumbnails differ where they differ most, 0..255.

    It is the difference of blocks, or half of that of single cells if that is more. The sides of a thumbnail
    are multiples of `_BLOCK`. Where one has more ways to be shown, its others are compared with the last one.
    """
    count = max(len(before), len(after))
    return max(
        _measure_one(before[min(number, len(before) - 1)], after[min(number, len(after) - 1)])
        for number in range(count)
    )


def _measure_one(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    difference = before.astype(np.int16) - after
    height, width = before.shape[0] // _BLOCK, before.shape[1] // _BLOCK
    blocks = difference.reshape(height, _BLOCK, width, _BLOCK, 3).mean(axis=(1, 3))
    return max(_strongest(blocks), _strongest(difference) / 2)


def _strongest(difference: NDArray[np.float64] | NDArray[np.int16]) -> float:
    cells = np.abs(difference).max(axis=2).ravel()
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


def largest_gap(looks: Iterable[tuple[float, int]]) -> float:
    """Return the longest time between two frames that were looked at, where another lies between them.

    `looks` are (time in seconds, index in the video) of each, by time. Indices that go back are of recordings
    put together: something may lie between.
    """
    pairs = pairwise(looks)
    return round(max((to - since for (since, one), (to, other) in pairs if other - one != 1), default=0.0), 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much a selection keeps, and what it is after.

    Attributes:
        frames: that are kept at most.
        views: that all kept frames have together, at most.
        step_s: between the frames of the even grid, while there is room for them.
        least_change: what changes less is kept for the grid alone.
        least_s: since the frame before it, of one that neither begins a scene nor is due.
        max_gap_s: a frame that would leave a longer gap is kept too.
    """

    frames: int
    views: int = MAX_VIEWS
    step_s: float = FINE_STEP_S
    least_change: float = 0.0
    least_s: float = 0.0
    max_gap_s: float = math.inf


def room_for(duration_s: float, max_gap_s: float, *, fits: int, frames: int, views: int) -> Room:
    """Return the room for a look each second, or for 600 in all, and for scene changes.

    Where only `fits` frames can be scored the looks are further apart.
    """
    wanted = min(max(LOOK_S, duration_s / MOST_LOOKS), max_gap_s)
    step_s = max(wanted, duration_s / max(fits * _EVEN_SHARE - 1, 1))
    return Room(
        frames=frames,
        views=views,
        step_s=step_s,
        least_change=SCENE_CHANGE,
        least_s=DRIFT_S,
        max_gap_s=max_gap_s,
    )


@dataclass(slots=True, eq=False, kw_only=True)
class _Offered(Generic[FrameT]):
    time_s: float
    stamp: int | None
    order: int
    scene: int
    frame: FrameT
    thumbnail: Thumbnail
    is_looked_at: bool = False


class FrameSelection(Generic[FrameT]):
    """The kept frames.

    Most lie on an even grid in time; the others begin a scene, or differ most from the frame kept before
    them. The first and the last frame always stay. A frame that looks like the one kept before it is left
    out (see `look_alike`), and counts as looked at.

    Attributes:
        is_short: there was no room for a frame that differs.
    """

    def __init__(
        self,
        room: Room,
        make_views: Callable[[FrameT], Sequence[ViewInputs]],
        make_thumbnail: Callable[[FrameT], Thumbnail],
    ) -> None:
        """Keep as much as there is `room` for."""
        self._room = room
        self.is_short = False
        self._make_views, self._make_thumbnail = make_views, make_thumbnail
        self._step = room.step_s
        self._even: dict[int, KeptFrame] = {}
        self._changes: dict[int, KeptFrame] = {}
        self._views = self._most_views = 0  # of all kept frames; of the one with the most
        self._kept_of_scene: Counter[int] = Counter()
        self._reference: tuple[KeptFrame, Thumbnail] | None = None
        self._latest: _Offered[FrameT] | None = None
        self._seen_scene = self._seen_place = -1  # of the latest look
        self._origin_s = self._seen_s = 0.0
        self._chosen: frozenset[int] = frozenset()
        # Each look: its time, stamp, scene, and the kept frame that it looks like.
        self._times, self._stamps = array("d"), array("q")
        self._scenes, self._owners = array("q"), array("q")

    def offer(self, time_s: float, stamp: int | None, frame: FrameT) -> None:
        """Keep the frame if it differs enough; the latest one is remembered in any case."""
        before, thumbnail = self._latest, self._make_thumbnail(frame)
        order = scene = 0
        if before is None:
            self._origin_s = time_s
        else:
            order, scene = before.order + 1, before.scene
            scene += measure_change(before.thumbnail, thumbnail) >= SCENE_CHANGE
            if time_s - self._seen_s > self._room.max_gap_s and not before.is_looked_at:
                self._look_at(before, is_due=True)
        latest = _Offered(
            time_s=time_s, stamp=stamp, order=order, scene=scene, frame=frame, thumbnail=thumbnail
        )
        self._latest = latest
        is_due = self._place(time_s) > self._seen_place
        if is_due or self._is_needed(latest):
            self._look_at(latest, is_due=is_due)

    def close(self) -> list[KeptFrame]:
        """Return the kept frames in their order, with the latest frame at the end."""
        latest = self._latest
        chosen = {kept.order: kept for kept in (*self._even.values(), *self._changes.values())}
        is_single = self._room.frames == 1 and bool(chosen)
        if latest is not None and latest.order not in chosen and not is_single:
            last = self._as_kept(latest)
            while self._views + len(last.views) > self._room.views and len(chosen) > 1:
                chosen.pop(self._evict().order)
            self._note_look(last, last)
            chosen[last.order] = last
        self._chosen = frozenset(chosen)
        return [chosen[order] for order in sorted(chosen)]

    def looks(self) -> list[tuple[float, int]]:
        """Return (time, stamp) of all frames that were looked at, after `close`."""
        looked = zip(self._times, self._stamps, self._owners, strict=True)
        return sorted((time_s, stamp) for time_s, stamp, owner in looked if owner in self._chosen)

    @property
    def has_unseen_scene(self) -> bool:
        """Whether none of a scene's frames was looked at, for want of room; after `close`."""
        looked = zip(self._scenes, self._owners, strict=True)
        seen = {scene for scene, owner in looked if owner in self._chosen}
        return self._latest is not None and len(seen) <= self._latest.scene

    def _is_needed(self, one: _Offered[FrameT]) -> bool:
        """Return whether a frame beside the grid is kept."""
        begins, change = one.scene > self._seen_scene, self._change_of(one)
        is_slow = change < self._room.least_change or one.time_s - self._seen_s < self._room.least_s
        if is_slow and not begins:
            return False
        if self._has_room(self._most_views):
            return True
        self.is_short = True
        return bool(self._changes) and (begins, False, change) > self._rank(self._weakest())[:3]

    def _look_at(self, one: _Offered[FrameT], *, is_due: bool) -> None:
        """Keep a frame, unless it looks like the one kept before it."""
        one.is_looked_at = True
        kept = self._as_kept(one)
        if self._reference is not None and look_alike(self._reference[0].views, kept.views):
            self._reference[0].stands |= is_due or one.scene > self._seen_scene
            self._note_look(kept, self._reference[0])
        else:
            self._reference = kept, one.thumbnail
            self._note_look(kept, kept)
            self._keep(kept, is_due=is_due)
        self._seen_s, self._seen_scene = one.time_s, one.scene
        self._seen_place = self._place(one.time_s)

    def _as_kept(self, one: _Offered[FrameT]) -> KeptFrame:
        return KeptFrame(
            time_s=one.time_s,
            stamp=one.stamp,
            order=one.order,
            views=self._make_views(one.frame),
            scene=one.scene,
            change=self._change_of(one),
        )

    def _change_of(self, one: _Offered[FrameT]) -> float:
        """Return how much a frame differs from the one kept before it."""
        return 255.0 if self._reference is None else measure_change(self._reference[1], one.thumbnail)

    def _has_room(self, more: int) -> bool:
        """Return whether there is room for another frame of so many views, and for the last one after it."""
        kept = len(self._even) + len(self._changes)
        views = self._views + more + max(more, self._most_views)
        return kept < self._room.frames - 1 and views <= self._room.views

    def _place(self, time_s: float) -> int:
        return int((time_s - self._origin_s) / self._step)

    def _note_look(self, look: KeptFrame, owner: KeptFrame) -> None:
        self._times.append(look.time_s)
        self._stamps.append(NO_STAMP if look.stamp is None else look.stamp)
        self._scenes.append(look.scene)
        self._owners.append(owner.order)

    def _keep(self, kept: KeptFrame, *, is_due: bool) -> None:
        self._views += len(kept.views)
        self._most_views = max(self._most_views, len(kept.views))
        self._kept_of_scene[kept.scene] += 1
        if is_due and (place := self._place(kept.time_s)) not in self._even:
            self._even[place] = kept
        else:
            kept.stands = is_due
            self._changes[kept.order] = kept
        fits = min(self._room.frames - 1, self._room.views // max(self._most_views, 1))
        while len(self._even) > max(int(fits * _EVEN_SHARE), 1):
            self._coarsen()
        while self._is_over() and len(self._even) + len(self._changes) > 1:
            if not self._changes:
                self._coarsen()
            else:
                self._evict()

    def _is_over(self) -> bool:
        kept = len(self._even) + len(self._changes)
        is_over = self._views + self._most_views > self._room.views
        return is_over or kept > max(self._room.frames - 1, 1)

    def _rank(self, kept: KeptFrame) -> tuple[bool, bool, float, int]:
        """Return how much a frame beside the grid is needed: the least is dropped first."""
        return self._kept_of_scene[kept.scene] == 1, kept.stands, kept.change, -kept.order

    def _weakest(self) -> KeptFrame:
        return min(self._changes.values(), key=self._rank)

    def _evict(self) -> KeptFrame:
        self.is_short = True
        weakest = self._weakest() if self._changes else self._even[max(self._even)]
        self._changes.pop(weakest.order, None)
        if self._even.get(self._place(weakest.time_s)) is weakest:
            del self._even[self._place(weakest.time_s)]
        self._views -= len(weakest.views)
        self._kept_of_scene[weakest.scene] -= 1
        return weakest

    def _coarsen(self) -> None:
        """Double the grid's step; the second frame of two neighbours must now stay by its change."""
        self._step *= 2
        before, self._even = self._even, {}
        for kept in sorted(before.values(), key=lambda one: one.order):
            place = self._place(kept.time_s)
            if place in self._even:
                self._changes[kept.order] = kept
            else:
                self._even[place] = kept
