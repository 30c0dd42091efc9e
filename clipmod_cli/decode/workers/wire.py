"""What a worker answers, as bytes: a JSON header, and the pixels of each view, raw.

The pixels lie in the block that both share where they fit, else they follow in messages of their
own. Read with as little trust as a file: each value is checked, sizes must fit, nothing is unpickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import fields
from typing import Any, NoReturn, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.decode.limits import MAX_SCORED_FRAMES
from clipmod_cli.decode.workers.shared_memory import SharedBlock
from clipmod_cli.errors import ERROR_CODES
from clipmod_cli.types import Failure, Frame, Item, Kind, Media, Stage, View

Receive: TypeAlias = Callable[[int], bytes]
"""Gives the next message, which may have at most so many bytes."""

MAX_HEADER_BYTES = 1_000_000
"""256 frames with three views each take a tenth of it."""

MAX_VIEW_PIXELS = 50_000_000
MAX_PIXEL_BYTES = 1_500_000_000
"""More than decoding ever gives, and than a worker may hold; a header that says otherwise is not believed."""

MAX_TEXT = 10_000
_MAX_WHOLE = (1 << 63) - 1
"""What a column of the store can hold."""

_SHA256_HEX = 64
_FORMAT_LENGTH = 16
_MEDIA_FIELDS = tuple(field.name for field in fields(Media))


def write_result(
    result: Sequence[Frame | Failure], send: Callable[[bytes], None], block: SharedBlock | None = None
) -> None:
    """Send the frames and the failure of one item; pixels go into the block if there is room for them."""
    frames = [one for one in result if isinstance(one, Frame)]
    failures = [one for one in result if isinstance(one, Failure)]
    media = next((one.media for one in reversed(result) if one.media is not None), None)
    arrays = [array for frame in frames for array in frame.views.values()]
    shared = block is not None and block.write(arrays)
    header = {
        "media": None if media is None else {name: getattr(media, name) for name in _MEDIA_FIELDS},
        "frames": [[f.number, f.time_s, f.last, [v.shape[:2] for v in f.views.values()]] for f in frames],
        "failures": [[f.code, f.message[:MAX_TEXT], f.stage] for f in failures],
        "shared": shared,
    }
    send(json.dumps(header).encode())
    for array in () if shared else arrays:
        send(array.tobytes())


def read_result(
    header: bytes, receive: Receive, item: Item, views: Sequence[View], block: SharedBlock | None = None
) -> list[Frame | Failure]:
    """Return the frames and the failure of `item` that a header, and what goes with it, describe.

    Raises:
        ValueError: if they do not describe any.
    """
    told = _read_header(header)
    media = None if told["media"] is None else _read_media(told["media"])
    wanted = tuple(dict.fromkeys(views))
    frames = [_read_frame(one, wanted) for one in _list(told["frames"], most=MAX_SCORED_FRAMES)]
    failures = [_read_failure(one) for one in _list(told["failures"], most=1)]
    ends = [last for _, _, last, _ in frames] + [True] * len(failures)
    numbers = [number for number, *_ in frames]
    if sum(ends) != 1 or not ends[-1] or numbers != sorted(set(numbers)):
        _refuse("has no end, or several")
    shapes = [shape for *_, shapes in frames for shape in shapes]
    pixels = _read_pixels(shapes, receive, _block_of(told, block))
    result: list[Frame | Failure] = []
    for number, time_s, last, _ in frames:
        if media is None:
            _refuse("has frames of nothing")
        made = {view: next(pixels) for view in wanted}
        result.append(Frame(item=item, media=media, number=number, time_s=time_s, last=last, views=made))
    for code, message, stage in failures:
        result.append(Failure(item=item, stage=stage, code=code, message=message, media=media))
    return result


def _read_header(header: bytes) -> dict[str, Any]:
    try:
        told = _DECODER.decode(header.decode())
    except RecursionError:
        _refuse("cannot be understood")
    if not isinstance(told, dict) or not {"media", "frames", "failures", "shared"} <= told.keys():
        _refuse("cannot be understood")
    return told


def _block_of(told: dict[str, Any], block: SharedBlock | None) -> SharedBlock | None:
    if not _flag(told["shared"]):
        return None
    if block is None:
        _refuse("speaks of a block that is not there")
    return block


def _read_media(told: Any) -> Media:
    if not isinstance(told, dict) or told.keys() != _MEDIA_NAMES:
        _refuse("cannot be understood")
    sha256 = _unless_none(_text, told["sha256"])
    if sha256 is not None and (len(sha256) != _SHA256_HEX or not set(sha256) <= set("0123456789abcdef")):
        _refuse("has a wrong hash")
    name = _unless_none(_text, told["format"])
    if name is not None and not (len(name) <= _FORMAT_LENGTH and name.isascii() and name.isprintable()):
        _refuse("has a wrong format")
    return Media(
        started=_real(told["started"]),
        mtime_ns=_unless_none(_whole, told["mtime_ns"]),
        kind=_one_of(told["kind"], get_args(Kind)),
        sha256=sha256,
        format=name,
        truncated=_flag(told["truncated"]),
        duration_s=_unless_none(_real, told["duration_s"]),
        bytes=_unless_none(_count, told["bytes"]),
        width=_unless_none(_count, told["width"]),
        height=_unless_none(_count, told["height"]),
    )


def _read_frame(told: Any, views: Sequence[View]) -> tuple[int, float, bool, list[tuple[int, int]]]:
    """Return (number, time in seconds, whether it is the last, the (height, width) of each view)."""
    number, time_s, last, shapes = _list(told, exactly=4)
    pairs = [_list(shape, exactly=2) for shape in _list(shapes, exactly=len(views))]
    checked = [_check_shape(_count(h), _count(w), view) for (h, w), view in zip(pairs, views, strict=True)]
    return _count(number), _real(time_s), _flag(last), checked


def _check_shape(height: int, width: int, view: View) -> tuple[int, int]:
    fixed = view.crop or (view.size if view.fit in {"squash", "corner"} else None)
    if height < 1 or width < 1 or height * width > MAX_VIEW_PIXELS or fixed not in {None, (height, width)}:
        _refuse("has a view of a wrong size")
    return height, width


def _read_failure(told: Any) -> tuple[Any, str, Any]:
    code, message, stage = _list(told, exactly=3)
    return _one_of(code, ERROR_CODES), _text(message), _one_of(stage, get_args(Stage))


def _read_pixels(
    shapes: Sequence[tuple[int, int]], receive: Receive, block: SharedBlock | None
) -> Iterator[NDArray[np.uint8]]:
    lengths = [height * width * 3 for height, width in shapes]
    if sum(lengths) > MAX_PIXEL_BYTES:
        _refuse("has more pixels than a worker can hold")
    at = 0
    for (height, width), length in zip(shapes, lengths, strict=True):
        pixels = receive(length) if block is None else block.read(at, length)
        at += length
        if len(pixels) != length:
            _refuse("has a view of a wrong size")
        yield np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, 3)


def _unless_none(read: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else read(value)


def _list(value: Any, *, most: int = 0, exactly: int | None = None) -> list[Any]:
    if not isinstance(value, list) or (len(value) > most if exactly is None else len(value) != exactly):
        _refuse("cannot be understood")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or abs(value) > _MAX_WHOLE:  # a bool is an int too
        _refuse("has no number where one belongs")
    return int(value)


def _count(value: Any) -> int:
    if _whole(value) < 0:
        _refuse("has a number below zero")
    return int(value)


def _real(value: Any) -> float:
    if type(value) not in {int, float} or abs(value) > _MAX_WHOLE or not math.isfinite(value):
        _refuse("has no number where one belongs")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        _refuse("cannot be understood")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        _refuse("has no text where one belongs")
    return value


def _one_of(value: Any, known: Collection[str]) -> Any:
    if not isinstance(value, str) or value not in known:
        _refuse("holds an unknown word")
    return value


def _refuse(what: str) -> NoReturn:
    raise ValueError(f"the worker's answer {what}")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
_MEDIA_NAMES = frozenset(_MEDIA_FIELDS)
