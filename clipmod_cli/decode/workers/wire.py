"""Reads what a decode worker sends: a JSON header, then the raw pixels of each view.

The pixels lie in the shared block if they fit, else they follow as messages. Read with as little trust as a
file: each value is checked, sizes must fit, nothing is unpickled. Written by `child`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clipmod_cli.decode.geometry import padded_size
from clipmod_cli.decode.limits import MAX_VIEWS
from clipmod_cli.decode.workers.child import MAX_TEXT
from clipmod_cli.decode.workers.shared_memory import SharedBlock
from clipmod_cli.errors import ErrorCode
from clipmod_cli.results import BankDecision, BankVerdict, Settled
from clipmod_cli.types import Box, Failure, Frame, Geometry, Item, Kind, Media, Stage, UnseenReason, View

Receive: TypeAlias = Callable[[int], bytes]
"""Returns the next message, of at most so many bytes."""

MAX_HEADER_BYTES = 1_000_000
"""1,024 views with three inputs each take a seventh of it."""

MAX_VIEW_PIXELS = 50_000_000
MAX_PIXEL_BYTES = 1_500_000_000
"""More than decoding ever makes, and than a worker may hold."""

_MAX_WHOLE = (1 << 63) - 1
"""The largest value of a BIGINT column."""

_Whole: TypeAlias = Annotated[int, Field(ge=-_MAX_WHOLE, le=_MAX_WHOLE)]
_Count: TypeAlias = Annotated[int, Field(ge=0, le=_MAX_WHOLE)]
_Real: TypeAlias = Annotated[float, Field(ge=-_MAX_WHOLE, le=_MAX_WHOLE, allow_inf_nan=False)]


_Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class _MediaHeader(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    started: _Real
    kind: Kind
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    bytes: _Count | None
    mtime_ns: _Whole | None
    width: _Count | None
    height: _Count | None
    format: Annotated[str, Field(pattern="^[ -~]{0,16}$")] | None
    truncated: bool
    duration_s: _Real | None
    coverage: _Share | None
    views: _Count
    frames_total: _Count | None
    largest_gap_s: _Real | None
    frames_sampling: Annotated[str, Field(pattern="^[ -~]{0,40}$")] | None
    unseen: tuple[UnseenReason, ...]
    pdq: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] | None
    decode_time_ms: _Real | None


_FrameHeader: TypeAlias = tuple[
    _Count,
    _Real,
    bool,
    tuple[_Count, _Count, _Count, _Count],
    Annotated[str, Field(pattern="^[a-z0-9_ ]{1,32}$")],
    _Real,
    list[tuple[_Count, _Count]],
]
"""(number, time in seconds, whether it is the last; box, reading and scale of the view; (height, width) of
the input for each geometry)."""


class _ResultHeader(BaseModel):
    model_config = ConfigDict(strict=True)

    media: _MediaHeader | None
    frames: Annotated[list[_FrameHeader], Field(max_length=MAX_VIEWS)]
    failures: Annotated[
        list[tuple[ErrorCode, Annotated[str, Field(max_length=MAX_TEXT)], Stage]], Field(max_length=1)
    ]
    shared: bool
    stopped: bool


def read_result(
    header: bytes,
    receive: Receive,
    item: Item,
    geometries: Sequence[Geometry],
    block: SharedBlock | None = None,
    known: tuple[str, BankDecision] | None = None,
) -> list[Frame | Settled]:
    """Return the frames and the failure of `item` that a header and the pixels after it describe.

    Args:
        header: the worker's last message.
        receive: gives what follows it.
        item: what was decoded.
        geometries: of the arrays in each frame.
        block: the shared memory.
        known: the SHA-256 for which the worker was told to stop, and what banks decide for it.

    Raises:
        ValueError: if they are not a valid result.
    """
    result = _read_header(header)
    media = None if result.media is None else Media(**result.media.model_dump())
    if known is not None or result.stopped:
        return [_stopped(result, media, item, known)]
    distinct = tuple(dict.fromkeys(geometries))
    ends = [last for _, _, last, *_ in result.frames] + [True] * len(result.failures)
    numbers = [number for number, *_ in result.frames]
    if sum(ends) != 1 or not ends[-1] or numbers != sorted(numbers):
        _refuse("it has no end, or several")
    if result.shared and block is None:
        _refuse("there is no shared memory")
    for *_, shapes in result.frames:
        _check_shapes(shapes, distinct)
    all_shapes = [shape for *_, shapes in result.frames for shape in shapes]
    pixels = _read_pixels(all_shapes, receive, block if result.shared else None)
    read: list[Frame | Settled] = []
    for number, time_s, last, box, reading, scale, _ in result.frames:
        if media is None:
            _refuse("frames without media")
        arrays = {geometry: next(pixels) for geometry in distinct}
        view = View(box=Box(*box), reading=reading, scale=scale)
        read.append(
            Frame(item=item, media=media, number=number, time_s=time_s, last=last, view=view, inputs=arrays)
        )
    for code, message, stage in result.failures:
        read.append(Failure(item=item, stage=stage, code=code, message=message, media=media))
    return read


def _stopped(
    result: _ResultHeader, media: Media | None, item: Item, known: tuple[str, BankDecision] | None
) -> BankVerdict:
    if known is None or not result.stopped or result.frames or result.failures:
        _refuse("banks decided otherwise")
    if media is None or media.sha256 != known[0]:
        _refuse("another hash than it asked for")
    return BankVerdict(item=item, media=media, by=known[1])


def _read_header(header: bytes) -> _ResultHeader:
    try:
        return _ResultHeader.model_validate_json(header)
    except ValidationError as error:
        field = next(iter(error.errors(include_input=False)[0]["loc"]), "not a JSON object")
        raise ValueError(f"invalid result from decode worker: {field}") from None


def _check_shapes(shapes: Sequence[tuple[int, int]], geometries: Sequence[Geometry]) -> None:
    if len(shapes) != len(geometries):
        _refuse("wrong number of views")
    for (height, width), geometry in zip(shapes, geometries, strict=True):
        if not 0 < height * width <= MAX_VIEW_PIXELS or not _may_be(height, width, geometry):
            _refuse("wrong size of a view")


def _may_be(height: int, width: int, geometry: Geometry) -> bool:
    if geometry.crop is None and geometry.fit == "corner":
        return (height, width) in {geometry.size, padded_size(geometry, height, width)}
    return (geometry.crop or (geometry.size if geometry.fit == "squash" else None)) in {None, (height, width)}


def _read_pixels(
    shapes: Sequence[tuple[int, int]], receive: Receive, block: SharedBlock | None
) -> Iterator[NDArray[np.uint8]]:
    lengths = [height * width * 3 for height, width in shapes]
    if sum(lengths) > MAX_PIXEL_BYTES:
        _refuse("more pixels than a worker can hold")
    at = 0
    for (height, width), length in zip(shapes, lengths, strict=True):
        pixels = receive(length) if block is None else block.read(at, length)
        at += length
        if len(pixels) != length:
            _refuse("wrong size of a view")
        yield np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, 3)


def _refuse(reason: str) -> NoReturn:
    raise ValueError(f"invalid result from decode worker: {reason}")
