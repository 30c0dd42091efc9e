"""What an input holds beside its own picture or film, decoded as frames that follow its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeAlias

from clipmod_cli.decode.contents.finding import find_contents, find_film_contents
from clipmod_cli.decode.contents.parts import Contents, Part
from clipmod_cli.decode.contents.resemblance import Likeness, is_excused
from clipmod_cli.decode.job import DecodeJob, Shot, in_no_bank
from clipmod_cli.decode.limits import DecodeLimits
from clipmod_cli.decode.reading.boxes import Read
from clipmod_cli.decode.reading.items import open_regular
from clipmod_cli.decode.stills.opening import check_format
from clipmod_cli.decode.transforms import Pixels
from clipmod_cli.errors import ItemError
from clipmod_cli.types import Item, Media, ViewInputs

Decode: TypeAlias = Callable[[Item, DecodeJob], Iterator[Shot]]
"""Yields the views of the frames of one picture or film; raises ItemError."""


def decode_all(item: Item, job: DecodeJob, decode: Decode) -> Iterator[Shot]:
    """Yield the views of an input's own frames, then those of the further pictures and films in it.

    What is found and cannot be decoded is noted as `other_content`; the input is no error for it.

    Args:
        item: the input.
        job: of its own picture or film; of a film it holds the first bytes only.
        decode: decodes that, and each further one.
    """
    if job.options.spans:  # a second look at parts of a film
        yield from decode(item, job)
        return
    film = job.format.kind == "video"
    contents = Contents() if film else find_contents(job.data, job.format)
    comparison = _Comparison()
    if any(part.role is not None for part in contents.parts):
        job = replace(job, is_wanted=comparison.remember)
    left, last = _ViewRoom(job.options.limits), -1
    for last, seconds, view in decode(item, job):
        left.take(view)
        yield last, seconds, view
    with _reader(item, job) as (read, length):
        if film:
            contents = find_film_contents(read, length, job.format)
        if contents.unread:
            job.media.note_unseen("other_content")
        first = max(last + 1, job.media.frames_total or 0)
        for number, view in _decode_parts(item, job, contents, read, comparison, decode, left):
            yield first + number, _time_of(number, job.media), view


class _ViewRoom:
    """How many views, and pixels of them, an input may still have."""

    def __init__(self, limits: DecodeLimits) -> None:
        self.limits = limits

    @property
    def is_empty(self) -> bool:
        return min(self.limits.max_views, self.limits.max_view_bytes) <= 0

    @property
    def at_least_one(self) -> DecodeLimits:
        """The limits of a part: it may be one that is left out, for what it shows."""
        return replace(self.limits, max_views=max(self.limits.max_views, 1))

    def take(self, view: ViewInputs) -> None:
        """Count one view."""
        size = sum(pixels.nbytes for pixels in view.inputs.values())
        self.limits = replace(
            self.limits,
            max_views=self.limits.max_views - 1,
            max_view_bytes=self.limits.max_view_bytes - size,
        )


def _time_of(number: int, media: Media) -> float:
    """Return when a further frame counts as shown: behind the end of an animation or film, a second each."""
    return 0.0 if media.kind == "image" else (media.duration_s or 0.0) + 1.0 + number


@contextmanager
def _reader(item: Item, job: DecodeJob) -> Iterator[tuple[Read, int]]:
    """Give (a function that reads the input's bytes, their number)."""
    data = job.data if job.format.kind == "picture" else item.data
    if data is not None:
        yield lambda at, count: data[at : at + count], len(data)
        return
    with open_regular(item.spilled or item.source) as (descriptor, status):
        yield lambda at, count: os.pread(descriptor, count, at), status.st_size


class _Comparison:
    """Remembers the first picture of an input: those with a declared role are compared with it."""

    def __init__(self) -> None:
        self._primary: Likeness | None = None

    def remember(self, pixels: Pixels) -> bool:
        """Take the pixels of the input's own picture, which is wanted in any case."""
        if self._primary is None:
            self._primary = Likeness.of(pixels)
        return True

    def for_part(self, part: Part) -> Callable[[Pixels], bool]:
        """Return the function that says whether a part's picture is to be looked at."""
        primary = self._primary
        return lambda pixels: primary is None or not is_excused(pixels, part.role, primary)


def _decode_parts(
    item: Item,
    job: DecodeJob,
    contents: Contents,
    read: Read,
    comparison: _Comparison,
    decode: Decode,
    left: _ViewRoom,
) -> Iterator[tuple[int, ViewInputs]]:
    """Yield (number from 0, view) of the frames of all parts, as long as there is room for views."""
    media, count = job.media, 0
    for part in contents.parts:
        shown: dict[int, int] = {}
        one = replace(
            job,
            media=Media(started=media.started),
            is_wanted=comparison.for_part(part),
            compare=in_no_bank,
            options=replace(job.options, limits=left.at_least_one, pdq=False),
        )
        try:
            _check_time(job)
            known = check_format(part.format, job.options)
            one = replace(one, format=known, data=_read_part(part, read, job))
            for number, _, view in decode(_as_item(item, one), one):
                if left.is_empty:
                    media.note_unseen("unsampled")
                    return
                left.take(view)
                yield count + shown.setdefault(number, len(shown)), view
        except ItemError as error:
            if error.code == "out_of_memory":
                raise
            media.note_unseen("other_content")
        if shown:
            _add(media, one.media, max(one.media.frames_total or 0, len(shown)))
            media.truncated = media.truncated or (one.media.truncated and part.role is None)
        count += len(shown)


def _add(media: Media, further: Media, frames: int) -> None:
    """Note in an input's media what is known of a part of it."""
    if media.kind != "video" or media.frames_total is not None:
        media.frames_total = (media.frames_total or 1) + frames
    if further.coverage is not None:
        media.note_coverage(further.coverage)
    for reason in further.unseen:
        media.note_unseen(reason)


def _check_time(job: DecodeJob) -> None:
    """Raise ItemError once the input took as long as a picture may: it has too many further ones."""
    most = job.options.limits.max_seconds
    if time.perf_counter() - job.media.started > most:
        raise ItemError("decode_timeout", f"decoding this file took more than {most:g} seconds")


def _read_part(part: Part, read: Read, job: DecodeJob) -> bytes:
    limits = job.options.limits
    if part.length > limits.max_file_bytes:
        raise ItemError("file_too_large", f"a part is larger than {limits.max_file_bytes / 1e6:g} MB")
    return part.read_from(read)


def _as_item(item: Item, job: DecodeJob) -> Item:
    """Return a part as an input of its own."""
    return replace(item, data=job.data, spilled=None)
