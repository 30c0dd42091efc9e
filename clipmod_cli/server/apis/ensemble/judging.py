"""Uploads → judged pictures, in their order, with no more of their bytes in memory than the line needs.

Blocking code for a request's thread. The pipeline pulls from here; nothing is judged here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from clipmod_cli.ensemble.batch import CanSkipRest
from clipmod_cli.ensemble.ensemble import PendingEvidence
from clipmod_cli.pipeline import infer
from clipmod_cli.server.apis.ensemble.answers import NOWHERE, HostedLocation
from clipmod_cli.server.batching.fair_queue import Caller
from clipmod_cli.server.forms.spooled import SpooledPieces
from clipmod_cli.server.forms.streamed import Upload
from clipmod_cli.server.kept.storage import ServiceStorage
from clipmod_cli.server.request_info import RequestInfo
from clipmod_cli.server.service import JudgedItem, Service
from clipmod_cli.types import Evidence, Failure, Frame, Item, View

IN_FLIGHT_BYTES: Final = 64_000_000
"""Of files between the pile and their verdict, for one request: more than the line's window of photographs.
A file that is larger goes alone."""


class BytesInFlight:
    """Holds the line's supply back while too many bytes are under way."""

    def __init__(self, most: int = IN_FLIGHT_BYTES) -> None:
        """Let this many bytes be under way."""
        self._most = most
        self._held = 0
        self._ended = False
        self._changed = threading.Condition()

    def take(self, size: int) -> bool:
        """Wait until there is room, and take it; False once nobody judges any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or not self._held or self._held + size <= self._most)
            self._held += size
            return not self._ended

    def give(self, size: int) -> None:
        """Give room back."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def end(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def judge_uploads(
    service: Service, caller: Caller, uploads: Iterable[Upload], pile: SpooledPieces
) -> Iterator[tuple[Upload, JudgedItem]]:
    """Yield each upload with its end, in order; fewer where the caller left or its time was up."""
    flight = BytesInFlight()
    under_way: deque[Upload] = deque()

    def items() -> Iterator[Item | Failure]:
        for upload in uploads:
            if not flight.take(upload.size if upload.fault is None else 0):
                return
            under_way.append(upload)
            yield item_of(upload, pile)

    try:
        for judged in service.judge(items(), caller):
            upload = under_way.popleft()
            yield upload, judged
            flight.give(upload.size if upload.fault is None else 0)
            pile.drop(upload.pieces)
            upload.pieces.clear()
    finally:
        flight.end()


def item_of(upload: Upload, pile: SpooledPieces) -> Item | Failure:
    """Return an upload as the pipeline takes it; a Failure where it is known to be no picture."""
    item = Item(source=upload.name, index=upload.index, data=b"")
    if upload.fault is not None:
        code, message = upload.fault
        return Failure(item=item, stage="source", code=code, message=message)
    try:
        data = pile.get(upload.pieces)
    except OSError as e:
        message = f"the temporary file cannot be read: {e.strerror or e}"
        return Failure(item=item, stage="source", code="internal_error", message=message)
    return Item(source=upload.name, index=upload.index, data=data)


@dataclass(frozen=True)
class DecodeOnlyEnsemble:
    """An ensemble that wants the same views as another and sees nothing: for a look at decoding alone."""

    views: tuple[View, ...]
    batch_size: int

    def prepare_batch(self, batch: Sequence[Frame | Failure]) -> None:
        """Do nothing: nobody looks."""

    def submit(
        self,
        batch: Sequence[Frame | Failure],
        can_skip_rest: CanSkipRest | None = None,  # noqa: ARG002 — there is no model to skip
    ) -> PendingEvidence:
        """Return what gives empty evidence for each frame; failures pass through in their place."""
        return lambda: [
            one if isinstance(one, Failure) else Evidence.of(one, seen={}, forward_ms={}) for one in batch
        ]


def check_decoding(
    service: Service, caller: Caller, uploads: Sequence[Upload], pile: SpooledPieces
) -> list[Failure]:
    """Return what cannot be decoded among the uploads, in order; no model is asked.

    Each picture is decoded once more when it is judged: a request that is refused whole must know all
    of them before the first forward pass, and to hold their frames until then would take more memory.
    """
    ensemble = service.panel.ensemble
    blind = DecodeOnlyEnsemble(ensemble.views, ensemble.batch_size)
    items = (item_of(upload, pile) for upload in uploads)
    seen = infer(items, blind, service.options, stopped=lambda: caller.cancelled)
    return [one for one in seen if isinstance(one, Failure) and one.last]


@dataclass
class RequestKeeper:
    """Keeps judged pictures for `/image`, and counts them in the request's info.

    Attributes:
        base: how the service is reached, for links.
    """

    service: Service
    storage: ServiceStorage
    base: str
    info: RequestInfo

    def place(self, judged: JudgedItem) -> HostedLocation:
        """Return where a judged picture can be had from now on."""
        self.count(judged)
        hosting, record, data = self.storage.hosting, judged.record, judged.result.item.data
        if hosting is None or data is None or record.format is None or record.sha256 is None:
            return NOWHERE
        hosted = hosting.keep(data, name=record.source, format_name=record.format, sha256=record.sha256)
        if hosted is None:
            return NOWHERE
        self.service.rows.add_hosted(hosted.row)
        return HostedLocation(hosted.image_id, f"{self.base}/image/{hosted.image_id}")

    def count(self, judged: JudgedItem) -> None:
        """Count a judged picture."""
        self.info.images += 1
        self.info.judged_by = judged.panel.key
        self.storage.stood_in = judged.panel.stand_in
