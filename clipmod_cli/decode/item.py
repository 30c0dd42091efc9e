"""One input → its frames or its failure. The one place where what goes wrong while decoding ends.

Reading, limits, pixels and geometry are in the modules beside this one; this orders them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace

from clipmod_cli.decode.formats import sniff
from clipmod_cli.decode.job import DecodeJob, Gate, MediaBuilder
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.moving.animation import decode_animation, find_timeline
from clipmod_cli.decode.reading import read_item
from clipmod_cli.decode.stills.opening import hush_decoders, identify, ungated
from clipmod_cli.decode.stills.pictures import decode_still
from clipmod_cli.decode.video.opening import decode_video, sniff_video
from clipmod_cli.decode.video.sampling import Views
from clipmod_cli.decode.video.watch import Shot
from clipmod_cli.decode.views import Picture, make_view
from clipmod_cli.errors import ErrorCode, ItemError
from clipmod_cli.types import Failure, Frame, Item, View


def decode_item(
    item: Item, views: Sequence[View], options: DecodeOptions, *, gate: Gate = ungated
) -> list[Frame | Failure]:
    """Return the item's sampled frames in order, or those that could be had and then its Failure.

    Never raises for an item. The last element is the only one that ends it: a Frame with `last`, or
    a Failure. Without `gate` arguments and result can be pickled, so a worker process can run it;
    its caller must then put back the item, which is known by identity.
    """
    hush_decoders()
    return _decode_all(item, views, options, gate)


def _decode_all(
    item: Item, views: Sequence[View], options: DecodeOptions, gate: Gate
) -> list[Frame | Failure]:
    notes = MediaBuilder(time.perf_counter())
    shots: list[Shot] = []
    try:
        for shot in _decode(item, views, options, notes, gate):
            shots.append(shot)  # noqa: PERF402 — what came before an error is kept
    except ItemError as error:
        return _end_in_failure(item, notes, shots, error.code, error.message)
    except MemoryError:
        return _end_in_failure(
            item, notes, shots, "out_of_memory", "there is not enough memory to decode this"
        )
    except Exception as error:  # noqa: BLE001 — a bug costs one item, never the run
        reason = f"{type(error).__name__}: {error}"
        return _end_in_failure(
            item, notes, shots, "internal_error", f"a bug in clipmod ({reason}); please report it"
        )
    return [*_make_frames(item, notes, shots, complete=True)]


def _decode(
    item: Item, views: Sequence[View], options: DecodeOptions, notes: MediaBuilder, gate: Gate
) -> Iterator[Shot]:
    """Yield the item's sampled frames; raises ItemError at the first that cannot be had."""
    if video := sniff_video(item):
        name, head = video
        watched = DecodeJob(data=head, name=name, views=views, options=options, notes=notes, gate=gate)
        yield from decode_video(item, watched)
        return
    data = read_item(item, options.limits, notes)
    if sniffed := sniff(data):
        notes.learn(format=sniffed)
    name = identify(data, options)
    job = DecodeJob(data=data, name=name, views=views, options=options, notes=notes, gate=gate)
    timeline = find_timeline(job)
    if timeline and timeline.moves:
        for number, seconds, picture in decode_animation(job, timeline):
            yield number, seconds, _make_views(picture, views, options)
        return
    with ExitStack() as held:
        still = decode_still(replace(job, gate=_hold_once(gate, held)))
        if timeline and timeline.cut:
            notes.learn(truncated=True)  # there may have been more pictures in it
        made = _make_views(still, views, options)
    yield 0, 0.0, made


def _hold_once(gate: Gate, held: ExitStack) -> Gate:
    """Return a gate that is passed at most once, and then held for as long as `held` lasts.

    The pixels are there until the views are made; and who asked again while he holds some could wait
    for one who does the same.
    """
    passed: list[int] = []

    def hold(pixels: int) -> AbstractContextManager[None]:
        if not passed:
            passed.append(pixels)
            held.enter_context(gate(pixels))
        return nullcontext()

    return hold


def _make_views(picture: Picture, views: Sequence[View], options: DecodeOptions) -> Views:
    return {view: make_view(picture, view, exact=options.exact) for view in dict.fromkeys(views)}


def _make_frames(item: Item, notes: MediaBuilder, shots: Sequence[Shot], *, complete: bool) -> list[Frame]:
    final = len(shots) - 1
    return [
        Frame(
            item=item,
            media=notes.media,
            number=number,
            time_s=seconds,
            last=complete and position == final,
            views=made,
        )
        for position, (number, seconds, made) in enumerate(shots)
    ]


def _end_in_failure(
    item: Item, notes: MediaBuilder, shots: Sequence[Shot], code: ErrorCode, message: str
) -> list[Frame | Failure]:
    if shots and code in {"decode_error", "video_error"}:
        notes.learn(truncated=True)
    failure = Failure(item=item, stage="decode", code=code, message=message, media=notes.media)
    return [*_make_frames(item, notes, shots, complete=False), failure]
