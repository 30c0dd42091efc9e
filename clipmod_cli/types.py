"""The values that flow down the line: Item → Frame → Evidence → Verdict, or Failure.

All are keyword-only, and frozen but for `Media`. None does I/O or knows how it is written (`records`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.errors import ErrorCode, is_retryable

Decision: TypeAlias = Literal["NSFW", "Safe"]
Kind: TypeAlias = Literal["image", "animation", "video"]
Stage: TypeAlias = Literal["source", "decode", "infer", "judge"]
UnseenReason: TypeAlias = Literal[
    "truncated", "coverage", "unsampled", "other_content", "colour", "unmapped_labels", "unseen_category"
]
ReviewReason: TypeAlias = Literal[
    UnseenReason, "low_agreement", "review_margin", "short_hit", "fallback_model", "early_exit"
]

UNSEEN_REASONS: Final[tuple[UnseenReason, ...]] = get_args(UnseenReason)
"""Something of the input was not looked at. With all other reasons it was, and the models were not sure."""


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
        row: position in the list of URLs that named it, as the file has it, from 0; None without one.
        columns: further columns of that row.
    """

    source: str
    index: int
    member: str | None = None
    data: bytes | None = field(default=None, repr=False)
    spilled: str | None = None
    mtime_ns: int | None = None
    final_url: str | None = None
    row: int | None = None
    columns: Mapping[str, str | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """How a model wants a picture scaled and cut.

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
        fast: what resizes bilinear and bicubic on the fast path. torch's kernels are four times as fast as
            Pillow's and differ by at most one level; only models on torch ask for them.
        oversampling: how many pixels for one of the view, along a side, a JPEG keeps at least that is scaled
            while it is decoded: with less than 2 scores change visibly.
        stride: on the fast path the padding of `corner` ends at the next multiple of it, for a convolutional
            model of any input size; None pads to `size`.
    """

    fit: Literal["shortest", "longest", "squash", "corner", "whole"]
    size: tuple[int, int]
    crop: tuple[int, int] | None = None
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"
    fill: int = 0
    engine: Literal["pillow", "torchvision", "opencv"] = "pillow"
    fast: Literal["pillow", "torch"] = "pillow"
    oversampling: int = 2
    stride: int | None = None


class Box(NamedTuple):
    """A rectangle of a picture as displayed, in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The part of a picture that is shown to the models at once, in one reading of its colours.

    Attributes:
        box: the part.
        reading: how colours and transparency were read; `plain` where there is one way only.
        scale: displayed pixels for one pixel of a model's input, along one side: the most of any model.
    """

    box: Box
    reading: str = "plain"
    scale: float = 1.0


Inputs: TypeAlias = Mapping[Geometry, NDArray[np.uint8]]
"""Of one picture: uint8 `(H, W, 3)` RGB for each geometry."""


class ViewInputs(NamedTuple):
    """One view, and what a model of each geometry is given of it."""

    view: View
    inputs: Inputs


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
        coverage: the least share of the displayed pixels that any model was shown, 0..1.
        views: views that were decoded.
        frames_total: frames in the input, scored or not; None where they were not counted.
        largest_gap_s: the longest time between two frames that were looked at, with others between them,
            in seconds.
        frames_sampling: how frames were chosen, as `--frames`; `auto, key` where time ran short and only key
            frames were taken from then on.
        unseen: why something that a person would see was not looked at, beside `truncated`.
        pdq: the PDQ hash of a still, hexadecimal; empty if none is good enough to match, None if not made.
        decode_time_ms: of reading and decoding to the last view, without waiting for memory, in milliseconds.
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
    coverage: float | None = None
    views: int = 0
    frames_total: int | None = None
    largest_gap_s: float | None = None
    frames_sampling: str | None = None
    unseen: tuple[UnseenReason, ...] = ()
    pdq: str | None = None
    decode_time_ms: float | None = None

    def note_coverage(self, share: float, *, is_short: bool = False) -> None:
        """Note which share of a picture is shown; the least of all pictures counts."""
        self.coverage = share if self.coverage is None else min(self.coverage, share)
        if is_short:
            self.note_unseen("coverage")

    @property
    def unseen_reasons(self) -> tuple[UnseenReason, ...]:
        """Why something of the input was not looked at, `truncated` included, in the order of the list."""
        known = {*self.unseen, "truncated"} if self.truncated else {*self.unseen}
        return tuple(reason for reason in UNSEEN_REASONS if reason in known)

    def note_unseen(self, reason: UnseenReason) -> None:
        """Note why something of the input is not looked at."""
        if reason not in self.unseen:
            self.unseen = (*self.unseen, reason)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Frame:
    """One view of one decoded picture: of a still, or of a sampled frame of an animation or video.

    Attributes:
        number: index of the frame in its animation, from 0; 0 for a still.
        time_s: when it is shown, in seconds from the start; 0.0 for a still.
        last: no further frame or view (and no failure) of this item follows.
        view: the part of the picture.
        inputs: by geometry, what a model of it is given, uint8 `(H, W, 3)` RGB.
    """

    item: Item
    media: Media
    number: int = 0
    time_s: float = 0.0
    last: bool = True
    view: View
    inputs: Inputs = field(repr=False)


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What every member of the ensemble saw in one view of a frame; knows no policy.

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
    view: View
    seen: Mapping[str, Seen]
    forward_ms: Mapping[str, float]
    stand_in: bool = False
    skipped: tuple[str, ...] = ()


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
        probabilities: by category, summing to 1 under softmax scoring.
        detections: what a detector saw; None for other models.
        unmapped_share: which share of a classifier's scores no category has, 0..1; None for other models.
    """

    category: str
    confidence: float
    probabilities: Mapping[str, float]
    forward_ms: float
    detections: tuple[Detection, ...] | None = None
    unmapped_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameScore:
    """The ensemble's scores for one view of a frame, over the members that were asked.

    Attributes:
        hit: the unsafe score is at or over its threshold, or a category in `matched` at its own.
        category_scores: of each UNSAFE category, 0..1, what its threshold is compared with (own_scores).
        stand_in: one member's scores, since another failed at this frame.
        skipped: members that were not asked, since nothing they could say would change the outcome.
        bounds: the lowest and highest unsafe score that they could have led to; None where all were asked.
    """

    number: int
    time_s: float
    view: View
    category: str
    confidence: float
    unsafe_score: float
    probabilities: Mapping[str, float]
    agreement: float
    by_model: Mapping[str, ModelScore]
    hit: bool
    category_scores: Mapping[str, float] = field(default_factory=dict)
    matched: tuple[str, ...] = ()
    stand_in: bool = False
    skipped: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None

    @property
    def decided_at(self) -> str | None:
        """The model after which no other one was asked; None where all were."""
        return list(self.by_model)[-1] if self.skipped else None


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
        review_reasons: why it needs review, in the order of `ReviewReason`; none where it does not.
        deciding: the scores of the view that decided: the worst one of the worst frame.
        frames: every scored frame by its worst view, in order; one for a plain still.
        views_scored: of all frames together.
        segments: empty for a still.
        unseen_categories: UNSAFE categories that some member could not see.
        matched_categories: of all frames that count, as `category_scores`; None if none has a threshold.
        skipped: members that were not asked about each view.
        bounds: the lowest and highest unsafe score that they could have led to; None where all were asked.
        decided_at: with early exit, the model after which no other one was asked; None where all were.
        nsfw_probability: calibrated, 0..1; None without a calibration, or if not all models were asked.
        degraded: less than the ensemble judged.
        inference_ms: forward time of all its views by all models, in milliseconds.
        total_ms: latency, queueing included, in milliseconds.
    """

    item: Item
    media: Media
    decision: Decision | None
    review_reasons: Sequence[ReviewReason]
    degraded: bool
    deciding: FrameScore
    frames: Sequence[FrameScore]
    views_scored: int
    segments: Sequence[Segment]
    unseen_categories: Sequence[str]
    inference_ms: float
    total_ms: float
    category_scores: Mapping[str, float] = field(default_factory=dict)
    matched_categories: Sequence[str] | None = None
    nsfw_probability: float | None = None
    decided_at: str | None = None
    skipped: Sequence[str] = ()
    bounds: tuple[float, float] | None = None

    @property
    def needs_review(self) -> bool:
        """Whether a person should look at it."""
        return bool(self.review_reasons)
