"""A random sample of the inputs of a run, drawn while they are listed, and what decoding it takes.

Each format is sampled by itself, so that a few films among many pictures are neither missed nor counted as
too many.
"""

from __future__ import annotations

import io
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from PIL import Image

from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.stage import Decoded, Decoders
from clipmod_cli.types import Frame, Geometry, Item

MOST: Final = 50
"""Inputs of the sample, of all formats together."""
LEAST_OF_FORMAT: Final = 3
MOST_FILMS: Final = 3
"""Of each format: a film takes as long as hundreds of pictures."""
SECONDS, FILM_SECONDS = 5.0, 10.0
"""No further picture, or film, is begun after this time."""
GRACE_S: Final = 5.0
"""What is being decoded then is waited for so long."""
HELD_BYTES: Final = 200_000_000
"""Of members of archives, which are kept in memory until they are decoded."""
LEAST_TIMED: Final = 8
"""From fewer pictures it cannot be told how much of the workers' time is spent on decoding."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One input of the sample.

    Attributes:
        ms: of reading and decoding it in one worker, in milliseconds.
        views: that the models would be shown.
        size: of the input, in bytes.
        complete: it was decoded to its end; otherwise both are less than they would be.
    """

    ms: float
    views: int
    size: int
    complete: bool = True


@dataclass(slots=True)
class Stratum:
    """The inputs of one format.

    Attributes:
        name: of the format.
        is_film: of videos.
        count: inputs.
        size: of them all, in bytes.
        drawn: at random from them, with their bytes.
        measured: those that were decoded.
    """

    name: str
    is_film: bool
    count: int = 0
    size: int = 0
    drawn: list[tuple[Item, int]] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    most: int = MOST


@dataclass(frozen=True, slots=True)
class MeasuredSample:
    """The strata, measured.

    Attributes:
        overhead: wall time of the workers for one second of decoding in them; 1 if they do nothing else.
    """

    strata: Sequence[Stratum]
    overhead: float = 1.0

    @property
    def count(self) -> int:
        """Inputs that were decoded."""
        return sum(len(one.measured) for one in self.strata)


class InputSample:
    """Draws the sample while inputs are listed: all of a format are equally likely (reservoir sampling)."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 — a sample, not a secret
        self._strata: dict[str, Stratum] = {}
        self._held = 0

    def add(self, item: Item, name: str, size: int, *, is_film: bool) -> None:
        """Take note of an input of this format and size in bytes, and keep it if it is drawn."""
        stratum = self._strata.setdefault(name, Stratum(name, is_film, most=MOST_FILMS if is_film else MOST))
        stratum.count += 1
        stratum.size += size
        if len(stratum.drawn) < stratum.most:
            stratum.drawn.append((item, size))
        elif (at := self._random.randrange(stratum.count)) < len(stratum.drawn):
            self._drop(stratum.drawn[at][0])
            stratum.drawn[at] = (item, size)
        else:
            self._drop(item, was_held=False)
            return
        self._held += len(item.data or b"")
        while self._held > HELD_BYTES:
            self._shrink()

    def _shrink(self) -> None:
        """Drop one input at random from those of the format that holds most memory."""
        fullest = max(self._strata.values(), key=lambda one: sum(len(i.data or b"") for i, _ in one.drawn))
        item, _ = fullest.drawn.pop(self._random.randrange(len(fullest.drawn)))
        fullest.most = len(fullest.drawn)
        self._drop(item)

    def _drop(self, item: Item, *, was_held: bool = True) -> None:
        if was_held:
            self._held -= len(item.data or b"")
        if item.spilled is not None:
            with suppress(OSError):
                Path(item.spilled).unlink()

    def choose(self) -> list[Stratum]:
        """Return the strata, each with its share of `MOST` inputs in random order."""
        total = sum(one.count for one in self._strata.values())
        for stratum in self._strata.values():
            share = max(LEAST_OF_FORMAT, round(MOST * stratum.count / total))
            self._random.shuffle(stratum.drawn)
            del stratum.drawn[share:]
        return list(self._strata.values())


def measure(
    strata: Sequence[Stratum],
    decoders: Decoders,
    geometries: Sequence[Geometry],
    options: DecodeOptions,
    *,
    seconds: tuple[float, float] = (SECONDS, FILM_SECONDS),
) -> MeasuredSample:
    """Decode what was drawn as a run does, and return the strata with what it took.

    Args:
        strata: from `InputSample.choose`; `measured` is filled in.
        decoders: of the run; their workers are started.
        geometries: of the models.
        options: of the run.
        seconds: after which no further picture, and no further film, is begun.
    """
    timing = _Timing(decoders, geometries, options)
    timing.start_workers()
    timing.decode(_interleaved([one for one in strata if not one.is_film]), seconds[0])
    overhead = timing.overhead()
    timing.decode(_interleaved([one for one in strata if one.is_film]), seconds[1])
    return MeasuredSample(strata, overhead)


def _interleaved(strata: Sequence[Stratum]) -> Iterator[tuple[Stratum, Item, int]]:
    """Yield what was drawn, of all strata in turn, so that none is missed where the time is short."""
    waiting = deque((stratum, iter(stratum.drawn)) for stratum in strata)
    while waiting:
        stratum, drawn = waiting.popleft()
        if (one := next(drawn, None)) is not None:
            yield stratum, *one
            waiting.append((stratum, drawn))


class _Timing:
    """Decodes inputs by all workers at once."""

    def __init__(self, decoders: Decoders, geometries: Sequence[Geometry], options: DecodeOptions) -> None:
        self._decoders, self._geometries, self._options = decoders, geometries, options
        self._ends: list[tuple[float, float]] = []  # when an input was done, and its milliseconds
        self._begun = 0.0

    def start_workers(self) -> None:
        """Wait until every worker runs and has imported what it needs."""
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "PNG")
        items = [Item(source="", index=0, data=file.getvalue()) for _ in range(2 * self._decoders.workers)]
        wait([self._submit(item) for item in items])

    def decode(self, inputs: Iterator[tuple[Stratum, Item, int]], seconds: float) -> None:
        """Decode inputs until the time is over."""
        running: dict[Future[Decoded], tuple[Stratum, int, float]] = {}
        self._begun = begun = time.perf_counter()
        while (left := begun + seconds + GRACE_S - time.perf_counter()) > 0:
            while left > GRACE_S and len(running) < 2 * self._decoders.workers:
                if (one := next(inputs, None)) is None:
                    break
                stratum, item, size = one
                running[self._submit(item)] = (stratum, size, time.perf_counter())
            if not running:
                return
            done, _ = wait(running, left, return_when=FIRST_COMPLETED)
            for future in done:
                self._take(future, *running.pop(future))
        for future, (stratum, size, since) in running.items():
            if not future.cancel():
                ms = 1000 * (time.perf_counter() - since)
                stratum.measured.append(Measured(ms, 0, size, complete=False))

    def _submit(self, item: Item) -> Future[Decoded]:
        return self._decoders.submit(item, tuple(self._geometries), self._options)

    def _take(self, future: Future[Decoded], stratum: Stratum, size: int, _since: float) -> None:
        decoded = future.result()
        media = decoded[-1].media
        ms = (media.decode_time_ms if media is not None else None) or 0.0
        stratum.measured.append(Measured(ms, sum(isinstance(one, Frame) for one in decoded), size))
        self._ends.append((time.perf_counter(), ms))

    def overhead(self) -> float:
        """Return the wall time of all workers for a second of decoding, while all of them were at work."""
        busy = self._ends[: -2 * self._decoders.workers]
        if len(busy) < LEAST_TIMED:
            return 1.0
        spent = sum(ms for _, ms in busy) / 1000
        return max(1.0, self._decoders.workers * (busy[-1][0] - self._begun) / spent) if spent else 1.0
