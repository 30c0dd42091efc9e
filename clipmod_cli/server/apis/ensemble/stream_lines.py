"""The lines of `/predict/streaming`: `data: `, JSON, and an empty line."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from anyio import to_thread
from pydantic import BaseModel

from clipmod_cli.server.apis.ensemble.answers import RequestTotals, json_name, message_of, prediction_fields
from clipmod_cli.server.apis.ensemble.requests import RequestKeeper
from clipmod_cli.server.apis.ensemble.shapes import (
    StreamedError,
    StreamedPrediction,
    StreamedSummary,
    StreamProgress,
)
from clipmod_cli.server.forms.spooled import Piece, SpooledPieces
from clipmod_cli.server.service import JudgedItem
from clipmod_cli.types import Failure


class StreamLines:
    """The lines of one request and its summary.

    Attributes:
        arrived: how many files have arrived so far.
        all_arrived: the whole request has arrived.
    """

    def __init__(self, keeper: RequestKeeper) -> None:
        """Start with no lines."""
        self.arrived = 0
        self.all_arrived = False
        self._keeper = keeper
        self._totals = RequestTotals()
        self._current = 0

    def line_of(self, judged: JudgedItem) -> bytes:
        """Return the line of a judged or failed picture."""
        self._current += 1
        if isinstance(judged.result, Failure):
            return self._failed(judged.result)
        self._totals.add(judged.record)
        fields = prediction_fields(judged, self._keeper.host(judged))
        return _line(StreamedPrediction(**fields, progress=self._progress()))

    def refusal(self, detail: str) -> bytes:
        """Return the line of a request that could not be read to its end."""
        self._keeper.info.error = detail
        self._totals.errors.append(detail)
        return _line(StreamedError(image=None, error=detail, progress=self._progress()))

    def summary(self) -> bytes:
        """Return the last line."""
        sums = self._totals
        return _line(
            StreamedSummary(
                total_processed=sums.images,
                nsfw_count=sums.nsfw,
                safe_count=sums.safe,
                **sums.common_fields,
            )
        )

    def _failed(self, failure: Failure) -> bytes:
        name, message = json_name(failure.item.source), message_of(failure)
        self._keeper.info.error = failure.code
        self._totals.errors.append(f"Error processing {name}: {message}")
        return _line(StreamedError(image=name, error=message, progress=self._progress()))

    def _progress(self) -> StreamProgress:
        final, total = self.all_arrived, self.arrived
        return StreamProgress(current=self._current, total=max(total, self._current), total_is_final=final)


def _line(value: BaseModel) -> bytes:
    return b"data: " + value.model_dump_json().encode() + b"\n\n"


class LineQueue:
    """A queue of lines from threads to one task. Create it in the event loop of the task.

    Attributes:
        used: a line was put in.
    """

    def __init__(self, spool: SpooledPieces) -> None:
        """Store waiting lines in this spool."""
        self._spool = spool
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._lock = threading.Lock()
        self._waiting: deque[Piece] = deque()
        self._ended = False
        self.used = False

    def put(self, line: bytes) -> None:
        """Add a line; blocks no longer than a write to a file.

        Raises:
            OSError: the temporary folder takes no more.
        """
        piece = self._spool.put(line)
        with self._lock:
            self._waiting.append(piece)
            self.used = True
        self._wake()

    def end(self) -> None:
        """Add no further line."""
        with self._lock:
            self._ended = True
        self._wake()

    async def take(self) -> bytes | None:
        """Wait for the next line; None after the last."""
        while True:
            with self._lock:
                piece = self._waiting.popleft() if self._waiting else None
                ended = self._ended
                if piece is None:
                    self._ready.clear()
            if piece is not None:
                return await self._read(piece)
            if ended:
                return None
            await self._ready.wait()

    async def _read(self, piece: Piece) -> bytes:
        if isinstance(piece, bytes):
            self._spool.drop([piece])
            return piece
        return await to_thread.run_sync(self._spool.get, [piece])

    def _wake(self) -> None:
        # the loop may be closed if the client disconnected
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ready.set)
