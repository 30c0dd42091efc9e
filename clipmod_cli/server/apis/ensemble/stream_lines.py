"""The lines of `/predict/streaming`: `data: `, JSON, and an empty line."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from anyio import to_thread
from pydantic import BaseModel

from clipmod_cli.server.apis.ensemble.answers import RequestTotals, prediction_fields, sentence_of, shown
from clipmod_cli.server.apis.ensemble.judging import RequestKeeper
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
    """Makes the lines of one request, and sums them up.

    Attributes:
        arrived: how many files have come so far.
        all_arrived: no further one follows.
    """

    def __init__(self, keeper: RequestKeeper) -> None:
        """Begin with nothing."""
        self.arrived = 0
        self.all_arrived = False
        self._keeper = keeper
        self._sum = RequestTotals()
        self._current = 0

    def line_of(self, judged: JudgedItem) -> bytes:
        """Return the line of a picture that was judged, or could not be."""
        self._current += 1
        if isinstance(judged.result, Failure):
            return self._failed(judged.result)
        self._sum.add(judged.record)
        fields = prediction_fields(judged, self._keeper.place(judged))
        return _line(StreamedPrediction(**fields, progress=self._progress()))

    def refusal(self, detail: str) -> bytes:
        """Return the line of a request that could not be read to its end."""
        self._keeper.info.error = detail
        self._sum.errors.append(detail)
        return _line(StreamedError(image=None, error=detail, progress=self._progress()))

    def summary(self) -> bytes:
        """Return the last line."""
        total = self._sum
        return _line(
            StreamedSummary(
                total_processed=total.images,
                nsfw_count=total.nsfw,
                safe_count=total.safe,
                total_time_ms=round(total.total_ms, 3),
                average_time_per_image_ms=total.mean_ms,
                errors=total.errors or None,
            )
        )

    def _failed(self, failure: Failure) -> bytes:
        name, sentence = shown(failure.item.source), sentence_of(failure)
        self._keeper.info.error = failure.code
        self._sum.errors.append(f"Error processing {name}: {sentence}")
        return _line(StreamedError(image=name, error=sentence, progress=self._progress()))

    def _progress(self) -> StreamProgress:
        final, total = self.all_arrived, self.arrived
        return StreamProgress(current=self._current, total=max(total, self._current), total_is_final=final)


def _line(value: BaseModel) -> bytes:
    return b"data: " + value.model_dump_json().encode() + b"\n\n"


class LineQueue:
    """A queue of lines from threads to one task. Made inside the event loop that takes from it."""

    def __init__(self, pile: SpooledPieces) -> None:
        """Keep what waits in this pile."""
        self._pile = pile
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._lock = threading.Lock()
        self._waiting: deque[Piece] = deque()
        self._ended = False
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether any line was ever put in."""
        return self._begun

    def put(self, line: bytes) -> None:
        """Add a line; blocks no longer than a write to a file.

        Raises:
            OSError: the temporary folder takes no more.
        """
        piece = self._pile.put(line)
        with self._lock:
            self._waiting.append(piece)
            self._begun = True
        self._wake()

    def end(self) -> None:
        """Say that no further line follows."""
        with self._lock:
            self._ended = True
        self._wake()

    async def take(self) -> bytes | None:
        """Wait for the next line; None once there are no more."""
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
            self._pile.drop([piece])
            return piece
        return await to_thread.run_sync(self._pile.get, [piece])

    def _wake(self) -> None:
        # where nobody takes any more the loop may be closed, and then nobody is to be woken
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ready.set)
