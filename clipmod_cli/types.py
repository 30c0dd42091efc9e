"""The values that flow down the line: Item → Frame → Evidence → Verdict, or Failure.

All are keyword-only, and frozen but for `Media`. None does I/O or knows how it is written down
(`clipmod_cli.records`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.errors import ErrorCode, is_retryable

Decision: TypeAlias = Literal["NSFW", "Safe"]
Kind: TypeAlias = Literal["image", "animation", "video"]
Stage: TypeAlias = Literal["source", "decode", "infer", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """One input. Two items are equal only if they are the same object.

    Attributes:
        source: the path or URL as it was given; a name that is not UTF-8 holds
            surrogate escapes (`os.fsdecode`), so `open(item.source)` works.
        index: position in the input, from 0.
        member: the name inside the archive `source`, if it came from one.
        data: the bytes, if they are already here.
        spilled: a temporary file with the bytes, if they are too many to hold; it is removed once the
            item is judged. With neither, the bytes are read from `source`.
        mtime_ns: when the archive that a member came from was last changed.
        final_url: where redirects led, if the bytes came from a URL.
    """

    source: str
    index: int
    member: str | None = None
    data: bytes | None = field(default=None, repr=False)
    spilled: str | None = None
    mtime_ns: int | None = None
    final_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The geometry in which a model wants to see a picture.

    The result is a uint8 RGB array `(height, width, 3)`.

    Attributes:
        fit: how the whole picture is scaled to `size`:
            `shortest`: its shorter side becomes `size[0]`, the ratio is kept;
            `longest`: its longer side becomes `size[0]`, the ratio is kept;
            `squash`: it becomes exactly `size`;
            `corner`: padded right and below with `fill` to a square, then `size`;
            `whole`: not scaled at all (`size` is then ignored).
        size: (height, width) in pixels.
        crop: (height, width) cut from the middle afterwards, padded with `fill`
            where the picture is smaller; None keeps what scaling gave.
        resample: the interpolation.
        fill: grey level 0..255 of padding.
        engine: whose arithmetic the exact path follows to the bit.
    """

    fit: Literal["shortest", "longest", "squash", "corner", "whole"]
    size: tuple[int, int]
    crop: tuple[int, int] | None = None
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"
    fill: int = 0
    engine: Literal["pillow", "torchvision", "opencv"] = "pillow"


Views: TypeAlias = Mapping[View, NDArray[np.uint8]]
"""Of one picture: uint8 `(H, W, 3)` RGB for each geometry."""


@dataclass(slots=True, kw_only=True)
class Media:
    """What is known of an input's bytes; shared by all its frames. Filled in only while it is decoded.

    Every field but `started` is None where the input failed before it was known.

    Attributes:
        started: `time.perf_counter()` when decoding of this input began, in seconds.
        width: as displayed (after orientation), in pixels.
        height: likewise.
        format: Pillow's name of the format, as `JPEG`.
        truncated: the bytes ended early; what was there has been decoded.
    """

    started: float
    kind: Kind = "image"
    sha256: str | None = None
    bytes: int | None = None
    mtime_ns: int | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    truncated: bool = False
    duration_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Frame:
    """One decoded picture: a still, or one sampled frame of an animation.

    Attributes:
        number: index of the frame in its animation, from 0; 0 for a still.
        time_s: when it is shown, in seconds from the start; 0.0 for a still.
        last: no further frame (and no failure) of this item follows.
    """

    item: Item
    media: Media
    number: int = 0
    time_s: float = 0.0
    last: bool = True
    views: Views = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """A text-image model's view of a picture: unit length, float32 `(d,)`."""

    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScores:
    """A classifier's own labels with their probabilities, 0..1."""

    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """One thing a detector saw; `box` is (x, y, width, height) in original pixels."""

    label: str
    score: float
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """All a detector saw, in falling order of score."""

    found: tuple[Detection, ...]


Seen: TypeAlias = Embedding | LabelScores | Detections


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What every member of the ensemble saw in one frame; knows no policy.

    Attributes:
        seen: by member name.
        forward_ms: by member name: the batch's forward time divided by its frames.
        stand_in: another member failed at this frame, and only one was asked.
        skipped: members that were not asked, since nothing they could say would change the outcome.
    """

    item: Item
    media: Media
    number: int
    time_s: float
    last: bool
    seen: Mapping[str, Seen]
    forward_ms: Mapping[str, float]
    stand_in: bool = False
    skipped: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        frame: Frame,
        seen: Mapping[str, Seen],
        forward_ms: Mapping[str, float],
        skipped: tuple[str, ...] = (),
    ) -> Evidence:
        """Return what was seen in this frame."""
        return cls(
            item=frame.item,
            media=frame.media,
            number=frame.number,
            time_s=frame.time_s,
            last=frame.last,
            seen=seen,
            forward_ms=forward_ms,
            skipped=skipped,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Failure:
    """An item, or one frame of it, that could not be judged; keeps its place in the stream.

    Attributes:
        last: nothing more of this item follows; False where only a frame in its midst was lost.
    """

    item: Item
    stage: Stage
    code: ErrorCode
    message: str
    media: Media | None = None
    http_status: int | None = None
    last: bool = True

    @property
    def retryable(self) -> bool:
        """Whether the same input may well succeed later."""
        return is_retryable(self.code, self.http_status)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScore:
    """One member's judgement of the deciding frame.

    Attributes:
        probabilities: by category, summing to 1.
        detections: what a detector saw; None for other models.
    """

    category: str
    confidence: float
    probabilities: Mapping[str, float]
    forward_ms: float
    detections: tuple[Detection, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameScore:
    """The ensemble's scores for one frame, over the members that were asked.

    Attributes:
        stand_in: one member's scores, since another failed at this frame.
        skipped: members that were not asked, since nothing they could say would change the outcome.
        bounds: the lowest and highest unsafe score that they could have led to; None where all were asked.
    """

    number: int
    time_s: float
    category: str
    confidence: float
    unsafe_score: float
    probabilities: Mapping[str, float]
    agreement: float
    by_model: Mapping[str, ModelScore]
    stand_in: bool = False
    skipped: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of consecutive scored frames at or over the threshold; times in seconds."""

    start_s: float
    end_s: float
    category: str
    peak_unsafe_score: float
    peak_time_s: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """The judgement of one item.

    Attributes:
        decision: None only where the policy has no UNSAFE category (`--classes`).
        deciding: the scores of the frame that decided (the worst one).
        frames: every scored frame, in order; one for a still.
        segments: empty for a still.
        unseen_categories: UNSAFE categories that some member could not see.
        degraded: less than the ensemble judged.
    """

    item: Item
    media: Media
    decision: Decision | None
    needs_review: bool
    degraded: bool
    deciding: FrameScore
    frames: Sequence[FrameScore]
    segments: Sequence[Segment]
    unseen_categories: Sequence[str]
    total_ms: float


Result: TypeAlias = Verdict | Failure
