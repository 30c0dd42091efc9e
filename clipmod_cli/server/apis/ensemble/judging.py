"""Uploads as items of the pipeline, in order, with few of their bytes in memory.

Blocking code for a request's thread. The pipeline judges; this feeds it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from clipmod_cli.decode.stage import decode_with
from clipmod_cli.flow import batched
from clipmod_cli.pipeline import open_decoders
from clipmod_cli.server.device_thread import Caller
from clipmod_cli.server.forms.spooled import SpooledPieces
from clipmod_cli.server.forms.streamed import Upload
from clipmod_cli.server.panels import RequestPanels
from clipmod_cli.server.service import JudgedItem, Service
from clipmod_cli.types import Failure, Item

IN_FLIGHT_BYTES: Final = 64_000_000
"""Of one request's files between spool and verdict: more than the pipeline's window of photographs. A larger
file is judged alone."""


class BytesInFlight:
    """Back-pressure: blocks the pipeline's input while too many bytes are in flight."""

    def __init__(self, most: int = IN_FLIGHT_BYTES) -> None:
        self._most = most
        self._held = 0
        self._ended = False
        self._changed = threading.Condition()

    def take(self, size: int) -> bool:
        """Wait for room and take it; False after `end`."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or not self._held or self._held + size <= self._most)
            self._held += size
            return not self._ended

    def give(self, size: int) -> None:
        """Release room."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def end(self) -> None:
        """Wake all waiting threads."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def judge_uploads(
    service: Service, caller: Caller, uploads: Iterable[Upload], spool: SpooledPieces, panels: RequestPanels
) -> Iterator[tuple[Upload, JudgedItem]]:
    """Yield each upload with its result, in order; fewer if the caller is cancelled or past its deadline."""
    flight = BytesInFlight()
    in_flight: deque[Upload] = deque()

    def items() -> Iterator[Item | Failure]:
        for upload in uploads:
            if not flight.take(upload.size if upload.fault is None else 0):
                return
            in_flight.append(upload)
            yield item_of(upload, spool)

    try:
        for judged in service.judge(items(), caller, panels):
            upload = in_flight.popleft()
            yield upload, judged
            flight.give(upload.size if upload.fault is None else 0)
            upload.drop(spool)
    finally:
        flight.end()


def item_of(upload: Upload, spool: SpooledPieces) -> Item | Failure:
    """Return an upload as an Item; a Failure if it is known to be no picture."""
    item = Item(source=upload.name, index=upload.index, data=b"")
    if upload.fault is not None:
        code, message = upload.fault
        return Failure(item=item, stage="source", code=code, message=message)
    try:
        data = spool.get(upload.pieces)
    except OSError as e:
        message = f"the temporary file cannot be read: {e.strerror or e}"
        return Failure(item=item, stage="source", code="internal_error", message=message)
    return Item(source=upload.name, index=upload.index, data=data)


def check_decoding(
    service: Service, caller: Caller, uploads: Sequence[Upload], spool: SpooledPieces, panels: RequestPanels
) -> list[Failure]:
    """Return the uploads that cannot be decoded, in order, without running a model.

    Pictures are decoded again when they are judged: a request is refused as a whole before the first
    forward pass, and keeping all frames until then would take too much memory. Returns at the caller's
    deadline, also while a file is being decoded.
    """
    ensemble, options = panels.panel.ensemble, panels.options
    items = (item_of(upload, spool) for upload in uploads if not caller.cancelled)
    with open_decoders(service.options_for(caller, options)) as decoders:
        compare = service.banks.current().decide
        frames = decode_with(decoders, items, ensemble.geometries, options.decode, compare=compare)
        batches = batched(frames, ensemble.batch_size, stopped=lambda: caller.cancelled)
        return [one for batch in batches for one in batch if isinstance(one, Failure) and one.last]
