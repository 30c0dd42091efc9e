"""Blurred grey thumbnails, made from the files as they are now, in worker processes with their limits.

A picture is reduced to `DETAIL` pixels along its longer side before anything else: it cannot be sharpened
again, for no more is in the bytes.
"""

from __future__ import annotations

import base64
import io
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from clipmod_cli.cores import usable_cores
from clipmod_cli.decode.limits import Coverage, DecodeLimits, DecodeOptions, FrameSampling
from clipmod_cli.decode.stage import Decoded, Decoders
from clipmod_cli.decode.workers.pool import WorkerPool
from clipmod_cli.review.sheet import Finding
from clipmod_cli.types import Failure, Frame, Geometry, Item

DETAIL: Final = 20
"""Pixels along the longer side that are left of a picture: enough to tell a landscape from a body."""

SHOWN_PX: Final = 192
"""The longer side of the smooth picture in the file, which has no more detail."""

AHEAD: Final = 4
SECONDS: Final = 60.0
"""That a film may take."""

AROUND_PEAK_S: Final = 0.5

GONE: Final = "the file is gone"
CHANGED: Final = "the file has changed since"

_GEOMETRY: Final = Geometry(fit="longest", size=(DETAIL, DETAIL), resample="bilinear")
_LIMITS: Final = DecodeLimits(max_video_seconds=SECONDS)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture as a data URI and its size, or why there is none."""

    uri: str = ""
    width: int = 0
    height: int = 0
    note: str = ""


def thumbnails_of(findings: Iterable[Finding]) -> Iterator[tuple[Finding, Thumbnail]]:
    """Yield each finding with its thumbnail, in order; at most a few are decoded ahead."""
    workers = min(usable_cores(), AHEAD)
    pending: deque[tuple[Finding, Future[Decoded] | str]] = deque()
    with Decoders(workers, pool=WorkerPool()) as decoders:
        for finding in findings:
            pending.append((finding, _submit(decoders, finding)))
            if len(pending) > AHEAD * workers:
                yield _taken(*pending.popleft())
        while pending:
            yield _taken(*pending.popleft())


def _submit(decoders: Decoders, finding: Finding) -> Future[Decoded] | str:
    """Return the future of the decoded file, or why it is not decoded."""
    if finding.error is not None:
        return "could not be read"
    if finding.member is not None:
        return "inside an archive"
    if "://" in finding.source:
        return "not a file of this machine"
    try:
        status = os.stat(finding.source)  # noqa: PTH116 - the name may hold any byte
    except (OSError, ValueError):
        return GONE if finding.moved_to is None else f"moved to {finding.moved_to}"
    if finding.bytes is not None and status.st_size != finding.bytes:
        return CHANGED
    options = DecodeOptions(coverage=Coverage(full=False), heic=True, limits=_LIMITS, **_sampling(finding))
    return decoders.submit(Item(source=finding.source, index=0), [_GEOMETRY], options)


def _sampling(finding: Finding) -> dict[str, Any]:
    """Return which frames are decoded: those around the peak of a film, else the first ones."""
    peak = finding.peak_s
    if finding.kind == "video" and peak is not None:
        return {"spans": ((max(peak - AROUND_PEAK_S, 0.0), peak + AROUND_PEAK_S),)}
    if peak is not None:
        return {"frames": FrameSampling(mode="dense")}
    return {"frames": FrameSampling(mode="max", value=2)}


def _taken(finding: Finding, decoded: Future[Decoded] | str) -> tuple[Finding, Thumbnail]:
    if isinstance(decoded, str):
        return finding, Thumbnail(note=decoded)
    result = decoded.result()
    media = result[-1].media
    frames = [one for one in result if isinstance(one, Frame)]
    if media is not None and _has_changed(finding, media.sha256, media.mtime_ns):
        return finding, Thumbnail(note=CHANGED)
    if not frames:
        failure = next(one for one in result if isinstance(one, Failure))
        return finding, Thumbnail(note=f"cannot be decoded ({failure.code})")
    peak = finding.peak_s or 0.0
    return finding, _blurred(min(frames, key=lambda frame: abs(frame.time_s - peak)))


def _has_changed(finding: Finding, sha256: str | None, mtime_ns: int | None) -> bool:
    """Return whether a file has other bytes than were judged; of a film's part there is no hash."""
    if sha256 is not None and finding.sha256 is not None:
        return sha256 != finding.sha256
    return finding.mtime_ns is not None and mtime_ns != finding.mtime_ns


def _blurred(frame: Frame) -> Thumbnail:
    from PIL import Image

    small = Image.fromarray(frame.inputs[_GEOMETRY]).convert("L")
    scale = SHOWN_PX / max(small.size)
    width, height = (max(round(side * scale), 1) for side in small.size)
    file = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=60, optimize=True)
    uri = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    return Thumbnail(uri=uri, width=width, height=height)
