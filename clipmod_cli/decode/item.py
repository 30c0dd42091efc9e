"""One input → its frames or its failure. Every error of decoding is caught here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace

from clipmod_cli.decode.contents.decoding import decode_all
from clipmod_cli.decode.formats import load
from clipmod_cli.decode.job import Compare, DecodeJob, Gate, KnownContentError, Shot, in_no_bank
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.moving.animation import decode_animation
from clipmod_cli.decode.moving.timeline import Timeline
from clipmod_cli.decode.reading.items import read_item
from clipmod_cli.decode.stills.hashing import note_pdq, noting_pdq
from clipmod_cli.decode.stills.opening import check_format, silence_decoders, ungated
from clipmod_cli.decode.stills.pictures import decode_still
from clipmod_cli.decode.video.opening import decode_video
from clipmod_cli.decode.views import least_scale, make_all_views
from clipmod_cli.errors import ErrorCode, ItemError
from clipmod_cli.results import BankVerdict, Settled
from clipmod_cli.types import Failure, Frame, Geometry, Item, Media, ViewInputs


def decode_item(
    item: Item,
    geometries: Sequence[Geometry],
    options: DecodeOptions,
    *,
    gate: Gate = ungated,
    on_video: Callable[[], None] = lambda: None,
    compare: Compare = in_no_bank,
) -> list[Frame | Settled]:
    """Return the item's sampled frames in order, or those decoded before an error and then its Failure.

    Never raises for an item. Only the last element ends the item: a Frame with `last`, or a Failure. An item
    in a bank is not decoded, and has a BankVerdict alone.

    Args:
        item: what to decode.
        geometries: of the arrays in each frame; equal ones are made once.
        options: limits, exactness, sampling.
        gate: called with a number of pixels before they are decoded.
        on_video: called if the item is a video, which has longer time limits.
        compare: called with the item's SHA-256.
    """
    silence_decoders()
    media = Media(started=time.perf_counter())
    gate = _TimedGate(gate)
    shots: list[Shot] = []
    code: ErrorCode
    try:
        for shot in _decode(item, geometries, options, media, gate, on_video, compare):
            shots.append(shot)  # noqa: PERF402 — the frames before an error are kept
    except KnownContentError as known:
        return [BankVerdict(item=item, media=media, by=known.by)]
    except ItemError as error:
        code, message = error.code, error.message
    except MemoryError:
        code, message = "out_of_memory", "not enough memory to decode this"
    except Exception as error:  # noqa: BLE001 — a bug costs one item, never the run
        code, message = (
            "internal_error",
            f"a bug in clipmod ({type(error).__name__}: {error}); please report it",
        )
    else:
        _note_end(media, shots, gate)
        return [*_make_frames(item, media, shots, complete=True)]
    _note_end(media, shots, gate)
    if shots and code in {"decode_error", "video_error"}:
        media.truncated = True
    failure = Failure(item=item, stage="decode", code=code, message=message, media=media)
    return [*_make_frames(item, media, shots, complete=False), failure]


@dataclass(slots=True)
class _TimedGate:
    """A gate that measures how long it was waited for: that is no cost of this item."""

    gate: Gate
    waited_s: float = 0.0

    @contextmanager
    def __call__(self, pixels: int) -> Iterator[None]:
        begun = time.perf_counter()
        with self.gate(pixels):
            self.waited_s += time.perf_counter() - begun
            yield


def _note_end(media: Media, shots: Sequence[Shot], gate: _TimedGate) -> None:
    media.views = len(shots)
    spent_s = time.perf_counter() - media.started - gate.waited_s
    media.decode_time_ms = round(spent_s * 1000, 3)


def _decode(
    item: Item,
    geometries: Sequence[Geometry],
    options: DecodeOptions,
    media: Media,
    gate: Gate,
    on_video: Callable[[], None],
    compare: Compare,
) -> Iterator[Shot]:
    """Yield the item's sampled frames; raises ItemError at the first that cannot be decoded."""
    data, known = read_item(item, options.limits, media)
    media.pdq = "" if options.pdq else None
    if media.sha256 is not None and (by := compare(media.sha256)) is not None:
        raise KnownContentError(by)
    known = check_format(known, options)
    job = DecodeJob(
        data=data,
        format=known,
        geometries=geometries,
        options=options,
        media=media,
        gate=gate,
        compare=compare,
    )

    def decode(one: Item, its: DecodeJob) -> Iterator[Shot]:
        if its.format.kind == "video":
            on_video()
        return _decode_one(one, its)

    yield from decode_all(item, job, decode)


def _decode_one(item: Item, job: DecodeJob) -> Iterator[Shot]:
    """Yield the views of one picture's or film's sampled frames."""
    known = job.format
    if known.kind == "video":
        yield from decode_video(item, job)
        return
    timeline: Timeline | None = load(known.timeline)(job) if known.timeline is not None else None
    if timeline and timeline.moves:
        yield from decode_animation(job, timeline)
        return
    made = _decode_still(job)
    if timeline and timeline.cut:
        job.media.truncated = True  # the file may have held more pictures
    for view in made:
        yield 0, 0.0, view


def _decode_still(job: DecodeJob) -> list[ViewInputs]:
    """Return the views of a still; a part that scaled decoding left too coarse is decoded again."""
    with ExitStack() as held:
        still = decode_still(replace(job, gate=_hold_once(job.gate, held)))
        is_wanted = noting_pdq(job, still) if job.options.pdq else job.is_wanted
        made = make_all_views(still, job.geometries, job.options, job.media, is_wanted=is_wanted)
        scale = still.scale
        del still
    if job.options.pdq and scale > 1 and not job.media.pdq:
        _hash_whole(job)
    if not made:
        return made
    needed = least_scale((view for view, _ in made), job.geometries, job.options.coverage)
    if needed >= scale:
        return made
    finer = _decode_still(replace(job, most_scale=needed))
    return finer if len(finer) >= len(made) else made  # a border may end elsewhere in finer pixels


def _hash_whole(job: DecodeJob) -> None:
    """Note the PDQ hash of a picture that was scaled while it was decoded; models are shown that one.

    There is none if it has more pixels than may be decoded.
    """
    with ExitStack() as held, suppress(ItemError):
        whole = decode_still(replace(job, gate=_hold_once(job.gate, held), most_scale=1))
        note_pdq(job.media, next(iter(whole)))


def _hold_once(gate: Gate, held: ExitStack) -> Gate:
    """Return a gate that takes pixels of the budget once, and holds them until `held` closes.

    The pixels stay in memory until the views are made. A second request while holding some could
    deadlock with another thread that does the same.
    """
    passed: list[int] = []

    def hold(pixels: int) -> AbstractContextManager[None]:
        if not passed:
            passed.append(pixels)
            held.enter_context(gate(pixels))
        return nullcontext()

    return hold


def _make_frames(item: Item, media: Media, shots: Sequence[Shot], *, complete: bool) -> list[Frame]:
    final = len(shots) - 1
    return [
        Frame(
            item=item,
            media=media,
            number=number,
            time_s=seconds,
            last=complete and position == final,
            view=made.view,
            inputs=made.inputs,
        )
        for position, (number, seconds, made) in enumerate(shots)
    ]
