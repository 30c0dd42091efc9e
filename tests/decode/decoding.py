"""Decodes a stream with decoders of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing

from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.stage import Decoders, decode_with
from clipmod_cli.decode.workers.pool import WorkerPool
from clipmod_cli.results import Settled
from clipmod_cli.types import Failure, Frame, Geometry, Item


def decode(
    items: Iterable[Item | Failure],
    geometries: Sequence[Geometry],
    options: DecodeOptions,
    workers: int,
    *,
    ahead: int | None = None,
    pool: WorkerPool | None = None,
) -> Generator[Frame | Settled, None, None]:
    """Yield what `decode_with` yields, by `Decoders` that are closed with the stream."""
    most = options.limits.pixels_in_flight
    with (
        Decoders(workers, pool=pool, pixels_in_flight=most) as decoders,
        closing(decode_with(decoders, items, geometries, options, ahead=ahead)) as decoded,
    ):
        yield from decoded
