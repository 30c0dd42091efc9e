"""What a worker answers, as bytes: a JSON header, then the pixels of each view, raw.

Read with as little trust as a file: the header is checked, sizes must fit, nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from clipmod_cli.errors import ERROR_CODES
from clipmod_cli.types import Failure, Frame, Item, Media, View

MAX_FRAMES = 256
MAX_VIEW_PIXELS = 50_000_000
"""More than decoding ever gives; a header that says otherwise is not believed."""


def write_result(result: Sequence[Frame | Failure], send: Callable[[bytes], None]) -> None:
    """Send the frames and failures of one item."""
    frames = [one for one in result if isinstance(one, Frame)]
    failures = [one for one in result if isinstance(one, Failure)]
    media = next((one.media for one in reversed(result) if one.media is not None), None)
    arrays = [frame.views[view] for frame in frames for view in frame.views]
    header = {
        "media": None if media is None else asdict(media),
        "frames": [[f.number, f.time_s, f.last, [v.shape[:2] for v in f.views.values()]] for f in frames],
        "failures": [[f.code, f.message, f.stage] for f in failures],
    }
    send(json.dumps(header).encode())
    for array in arrays:
        send(array.tobytes())


def read_result(
    header: bytes, receive: Callable[[], bytes], item: Item, views: Sequence[View]
) -> list[Frame | Failure]:
    """Return the frames and failures of `item` that a header and the messages after it describe.

    Raises:
        ValueError: if they do not describe any.
    """
    told = json.loads(header)
    media = None if told["media"] is None else Media(**told["media"])
    wanted = tuple(dict.fromkeys(views))
    if not isinstance(told["frames"], list) or len(told["frames"]) > MAX_FRAMES:
        raise ValueError("the worker's answer cannot be understood")
    result: list[Frame | Failure] = [
        _read_frame(told_of, receive, item, media, wanted) for told_of in told["frames"]
    ]
    for code, message, stage in told["failures"]:
        if code not in ERROR_CODES:
            raise ValueError("the worker's answer holds an unknown error code")
        result.append(Failure(item=item, stage=stage, code=code, message=str(message), media=media))
    if sum(one.last for one in result) != 1 or not result[-1].last:
        raise ValueError("the worker's answer has no end")
    return result


def _read_frame(
    told: Any, receive: Callable[[], bytes], item: Item, media: Media | None, views: Sequence[View]
) -> Frame:
    number, time_s, last, shapes = told
    if media is None:
        raise ValueError("the worker's answer has frames of nothing")
    arrays = [_read_view(receive(), int(h), int(w)) for h, w in shapes]
    return Frame(
        item=item,
        media=media,
        number=int(number),
        time_s=float(time_s),
        last=bool(last),
        views=dict(zip(views, arrays, strict=True)),
    )


def _read_view(pixels: bytes, height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if not 0 < height * width <= MAX_VIEW_PIXELS or len(pixels) != height * width * 3:
        raise ValueError("the worker's answer has a view of a wrong size")
    return np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, 3)
