"""Pictures of the queue, decoded in worker processes with their limits, and made harmless here.

A picture leaves this process in one of two forms, both encoded again: reduced to `DETAIL` pixels along its
longer side, which cannot be made sharp again; or sharp, where a person asks for that by holding a key.
"""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.decode.limits import Coverage, DecodeLimits, DecodeOptions, FrameSampling
from clipmod_cli.decode.stage import Decoded, Decoders
from clipmod_cli.decode.workers.pool import WorkerPool
from clipmod_cli.review.decisions import ReviewedFile
from clipmod_cli.review.queue.contents import ContentTable
from clipmod_cli.review.sheet import Finding
from clipmod_cli.sources.archives.items import open_input, read_archive
from clipmod_cli.sources.archives.walk import SEPARATOR
from clipmod_cli.types import Failure, Frame, Geometry, Item

DETAIL: Final = 28
"""Pixels along the longer side of a blurred picture: much can be decided by it. The report keeps 20."""

BLURRED_PX: Final = 480
"""The longer side that it is shown with, without more detail."""

SHARP: Final = Geometry(fit="longest", size=(1280, 1280), resample="bilinear")
FRAME: Final = Geometry(fit="longest", size=(640, 640), resample="bilinear")
"""Of one frame out of several."""

FRAMES: Final = 8
"""Of a film or an animation that are shown, beside the worst one."""

AROUND_PEAK_S: Final = 0.5
SECONDS: Final = 60.0
"""That a film may take."""

KEPT_BYTES: Final = 256_000_000
"""Of decoded pixels."""

WORKERS: Final = 2

_LIMITS: Final = DecodeLimits(max_video_seconds=SECONDS)


@dataclass(frozen=True, slots=True)
class PreparedFrame:
    """One frame: when it is shown, in seconds, and its pixels, uint8 `(H, W, 3)`."""

    time_s: float
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PreparedContent:
    """The frames of a content, the worst one of a film first, or why there are none."""

    frames: Sequence[PreparedFrame] = ()
    note: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of its pixels."""
        return sum(frame.pixels.nbytes for frame in self.frames)


class ReviewPictures:
    """Decodes contents, some ahead, and keeps the last ones. A context manager; thread-safe."""

    def __init__(self, table: ContentTable, *, originals: Path | None = None) -> None:
        """Start no worker yet.

        Args:
            table: which contents there are.
            originals: where `clipmod urls --save-to` has put what it downloaded.
        """
        self._table = table
        self._originals = originals
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Future[PreparedContent]] = OrderedDict()
        self._decoders = Decoders(WORKERS, pool=WorkerPool())
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="clipmod-review")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._decoders.close()

    def is_missing(self, number: int) -> bool:
        """Return whether no file of a content is there with the size that it had."""
        return all(_is_missing(self._table.reviewed_file(one)) for one in self._table.records(number))

    def prepare(self, numbers: Iterable[int]) -> None:
        """Start to decode contents, unless they are here."""
        for number in numbers:
            self._start(number)

    def get(self, number: int) -> PreparedContent:
        """Return a content; waits until it is decoded."""
        return self._start(number).result()

    def blurred(self, number: int, frame: int, *, colour: bool) -> bytes:
        """Return a frame as a blurred JPEG, grey unless `colour`; raises IndexError if there is none."""
        from PIL import Image

        picture = self._image(number, frame, colour=colour)
        small = picture.resize(_fitted(picture.size, DETAIL), Image.Resampling.BOX)
        return _jpeg(small.resize(_fitted(small.size, BLURRED_PX), Image.Resampling.BICUBIC), quality=70)

    def sharp(self, number: int, frame: int, *, colour: bool) -> bytes:
        """Return a frame as a JPEG without blur, never the file itself; otherwise as `blurred`."""
        return _jpeg(self._image(number, frame, colour=colour), quality=85)

    def forget(self, number: int) -> None:
        """Drop the pixels of a content."""
        with self._lock:
            self._kept.pop(number, None)

    def _image(self, number: int, frame: int, *, colour: bool) -> Any:
        from PIL import Image

        image = Image.fromarray(self.get(number).frames[frame].pixels)
        return image if colour else image.convert("L")

    def _start(self, number: int) -> Future[PreparedContent]:
        with self._lock:
            if number not in self._kept:
                self._kept[number] = self._threads.submit(self._decode, number)
            self._kept.move_to_end(number)
            self._drop_oldest()
            return self._kept[number]

    def _drop_oldest(self) -> None:
        """Drop the contents that were not needed for longest, until the others are few enough."""
        done = {number: one for number, one in self._kept.items() if one.done() and not one.cancelled()}
        held = {number: one.result().nbytes for number, one in done.items() if one.exception() is None}
        total = sum(held.values())
        for number, size in list(held.items())[:-1]:
            if total <= KEPT_BYTES:
                return
            del self._kept[number]
            total -= size

    def _decode(self, number: int) -> PreparedContent:
        note = "the file is gone, or has changed since it was judged"
        for record in self._table.records(number):
            finding = self._table.finding(record)
            item = self._item(self._table.reviewed_file(record), record)
            if isinstance(item, str):
                note = item
                continue
            return self._frames(item, finding)
        return PreparedContent(note=note)

    def _item(self, file: ReviewedFile, record: Mapping[str, Any]) -> Item | str:
        """Return what is to be decoded, or why nothing is."""
        if file.exact_path is None:
            saved = self._saved(record["sha256"])
            return Item(source=str(saved), index=0) if saved else "it is not a file of this machine"
        if _is_missing(file):
            return "the file is gone, or has changed since it was judged"
        if file.exact_member is None:
            return Item(source=file.exact_path, index=0)
        data = _read_member(file.exact_path, file.exact_member)
        if data is None:
            return "it cannot be read from its archive"
        return Item(source=file.exact_path, member=file.exact_member, index=0, data=data)

    def _saved(self, sha256: str | None) -> Path | None:
        if self._originals is None or not sha256:
            return None
        return next(iter(sorted((self._originals / sha256[:2]).glob(f"{sha256}.*"))), None)

    def _frames(self, item: Item, finding: Finding) -> PreparedContent:
        spread = FrameSampling(mode="max", value=FRAMES)
        geometry = FRAME if finding.kind in {"video", "animation"} else SHARP
        decoded = self._submit(item, geometry, frames=spread)
        peak = finding.peak_s
        worst: Decoded = []
        if peak is not None:
            around = ((max(peak - AROUND_PEAK_S, 0.0), peak + AROUND_PEAK_S),)
            worst = (
                self._submit(item, geometry, spans=around)
                if finding.kind == "video"
                else self._submit(item, geometry, frames=FrameSampling(mode="dense"))
            )
            found = [one for one in worst if isinstance(one, Frame)]
            worst = [min(found, key=lambda one: abs(one.time_s - peak))] if found else []
        frames = [one for one in (*worst, *decoded) if isinstance(one, Frame)]
        if finding.sha256 is not None and any(
            one.media.sha256 not in {None, finding.sha256} for one in frames
        ):
            return PreparedContent(note="the file has changed since it was judged")
        if not frames:
            failure = next(one for one in decoded if isinstance(one, Failure))
            return PreparedContent(note=f"it cannot be decoded ({failure.code.replace('_', ' ')})")
        kept = frames[: FRAMES + 1 + len(worst)]
        return PreparedContent([PreparedFrame(one.time_s, one.inputs[geometry]) for one in kept])

    def _submit(self, item: Item, geometry: Geometry, **sampling: Any) -> Decoded:
        options = DecodeOptions(coverage=Coverage(full=False), heic=True, limits=_LIMITS, **sampling)
        return self._decoders.submit(item, [geometry], options).result()


def _is_missing(file: ReviewedFile) -> bool:
    """Return whether a local file is gone, or has another size than it had; of a URL it is not known."""
    if file.exact_path is None:
        return False
    try:
        status = os.stat(file.exact_path)  # noqa: PTH116 - the name may hold any byte
    except (OSError, ValueError):
        return True
    # of a member the size is its own
    return file.member is None and file.bytes is not None and status.st_size != file.bytes


def _read_member(path: str, name: str) -> bytes | None:
    """Return the bytes of a member of an archive, None if it is not there; reads past others at most."""
    archive = open_input(path).archive
    if archive is None:
        return None
    plain = name.replace(SEPARATOR, "/")

    def skip_reason(other: str) -> str | None:
        leads = plain == other or plain.startswith(f"{other}/")
        return None if leads else "another member"

    try:
        for member in read_archive(archive, skip_reason):
            if member.name == name:
                return None if member.error is not None else member.data
    finally:
        archive.file.close()
    return None


def _fitted(size: tuple[int, int], longest: int) -> tuple[int, int]:
    scale = longest / max(size)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def _jpeg(picture: Any, *, quality: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()
