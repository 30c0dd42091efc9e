"""`/predict/streaming`: thousands of pictures in one request, each answered as soon as it is judged.

A task reads the body, a task has it judged and a task sends, without waiting for each other. Waiting files
and lines are spooled to disk. A place and a thread are held while there is something to judge only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from clipmod_cli.server.apis.ensemble.answers import RequestTotals, message_of, prediction_fields
from clipmod_cli.server.apis.ensemble.judging import judge_uploads
from clipmod_cli.server.apis.ensemble.requests import (
    FORM_PROBLEM,
    PROBLEMS,
    Keeps,
    RequestKeeper,
    form_of,
    missing,
)
from clipmod_cli.server.apis.ensemble.shapes import (
    NOT_LOOKED_AT,
    FailureCode,
    StreamedError,
    StreamedPrediction,
    StreamedSummary,
    StreamProgress,
)
from clipmod_cli.server.device_thread import Caller
from clipmod_cli.server.fairness.places import BusyError
from clipmod_cli.server.forms.multipart import FormReader
from clipmod_cli.server.forms.spooled import Piece, SpooledPieces
from clipmod_cli.server.forms.streamed import FormLimits, Upload, check_declared, open_form, read_uploads
from clipmod_cli.server.problems import BUG, answer_of, problem
from clipmod_cli.server.service import JudgedItem
from clipmod_cli.types import Failure

router = APIRouter()
log = logging.getLogger(__name__)

FIELD: Final = "files"

PLACE_S: Final = 1.0
"""How long a stream waits for a place before it looks whether it has ended."""

ENDING: Final = "The service is ending. Send what has no line yet again soon"

ENDING_POLL_S: Final = 0.25
"""How soon a stream finds that the service's time is up."""

MEDIA_TYPE: Final = "text/plain; charset=utf-8"

HEADERS: Final = [
    (b"content-type", MEDIA_TYPE.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # turns off buffering in nginx
    (b"x-content-type-options", b"nosniff"),
]

EXAMPLE: Final = (
    'data: {"image": "image1.jpg", "final_decision": "Safe", "confidence": 0.92, '
    '"progress": {"current": 1, "total": 1, "total_is_final": true}}\n\n'
    'data: {"type": "summary", "total_processed": 1, "nsfw_count": 0, "safe_count": 1, "errors": null}\n\n'
)


@router.post(
    "/predict/streaming",
    summary="Judge thousands of pictures, one line for each as it is judged",
    response_class=PlainTextResponse,
    responses={
        **PROBLEMS,
        **FORM_PROBLEM,
        200: {
            "description": "Lines of `data: ` and JSON, an empty line after each: `StreamedPrediction`, "
            "`StreamedError` for a file that could not be judged, and `StreamedSummary` last",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": EXAMPLE}},
        },
    },
    openapi_extra=form_of(FIELD, several=True),
)
async def predict_streaming(request: Request, keeper: Keeps) -> Response:
    """Judge the pictures in the form fields `files`, in their order, while the request still arrives.

    A file that cannot be judged is one line of `"type": "error"`, and the rest go on. There is no
    deadline over all of them; a client that neither sends nor reads for too long is disconnected.
    """
    service = keeper.service.limits
    limits = keeper.form_limits(FIELD, service.stream_files, service.stream_bytes)
    form = open_form(request.scope)
    check_declared(request.scope, limits)
    return StreamedAnswer(keeper, limits, form, request.state.threads)


class StreamedAnswer(Response):
    """An answer that is sent while its request is still being read; the only reader of `receive`."""

    def __init__(
        self, keeper: RequestKeeper, limits: FormLimits, form: FormReader, threads: CapacityLimiter
    ) -> None:
        super().__init__(media_type=MEDIA_TYPE)
        self._keeper, self._limits, self._form, self._threads = keeper, limits, form, threads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read, judge and send until all is sent or the client has disconnected."""
        with SpooledPieces() as spool:
            stream = _Stream(self._keeper, self._limits, spool)
            reading = asyncio.create_task(stream.read(scope, receive, self._form))
            judging = asyncio.create_task(stream.judge(self._threads))
            watching = asyncio.create_task(stream.end_with_service())
            try:
                await stream.send(scope, receive, send)
            finally:
                stream.cancel()
                reading.cancel()
                watching.cancel()
                await asyncio.gather(reading, watching, judging, return_exceptions=True)


class _Stream:
    """One request, shared by the reading task, the judging task with its threads, and the sending task."""

    def __init__(self, keeper: RequestKeeper, limits: FormLimits, spool: SpooledPieces) -> None:
        self._keeper = keeper
        self._limits = limits
        self._spool = spool
        self._uploads: deque[Upload] = deque()
        self._more = asyncio.Event()
        self._outbox = LineQueue(spool)
        self._caller: Caller | None = None
        self._lines = StreamLines(keeper)
        self._refusal: HTTPException | RequestValidationError | None = None
        self._arrived = asyncio.Event()
        self._gone = self._stopped = False

    def cancel(self) -> None:
        """End the work: nothing more can be sent."""
        self._stopped = True
        if self._caller is not None:
            self._caller.cancel()
        self._more.set()

    # The task that reads.

    async def read(self, scope: Scope, receive: Receive, form: FormReader) -> None:
        """Queue each file when it is complete, then wait for the client to disconnect."""
        try:
            async for upload in read_uploads(scope, receive, self._spool, self._limits, form):
                self._lines.arrived = upload.index + 1
                self._uploads.append(upload)
                self._more.set()
            if not self._lines.arrived:
                self._refuse(missing(FIELD))
        except HTTPException as e:
            self._refuse(e)
        self._lines.all_arrived = True
        self._more.set()
        self._arrived.set()
        while (await receive())["type"] != "http.disconnect":
            continue
        self._gone = True
        self.cancel()

    async def end_with_service(self) -> None:
        """Take no more files once the service's time is up."""
        ending = self._keeper.service.ending
        while not ending.is_past:  # noqa: ASYNC110 — set by a signal's handler, which can wake nothing
            await asyncio.sleep(ENDING_POLL_S)
        self._more.set()

    def _refuse(self, why: HTTPException | RequestValidationError) -> None:
        self._refusal = why
        if not self._outbox.used:
            self.cancel()  # the whole request is refused

    # The task that has files judged.

    async def judge(self, threads: CapacityLimiter) -> None:
        """Judge files as they arrive, and queue a line for each."""
        try:
            while await self._has_files():
                with contextlib.suppress(BusyError):  # then it is looked whether there is still a client
                    async with self._keeper.service.load.turn(PLACE_S):
                        await to_thread.run_sync(self._judge_arrived, limiter=threads)
            await to_thread.run_sync(self._end)
        except OSError as e:
            log.warning("a stream ended early: %s", e.strerror or e)
            self._refusal = problem(507, "Not enough room for this request")
        except Exception:
            log.exception("internal error in a stream")
            self._refusal = problem(500, BUG)
        finally:
            self._outbox.end()

    async def _has_files(self) -> bool:
        """Wait for a file; false if none will be judged any more."""
        ending = self._keeper.service.ending
        while not (self._uploads or self._lines.all_arrived or self._stopped or ending.is_past):
            self._more.clear()
            await self._more.wait()
        return bool(self._uploads) and not self._stopped and not ending.is_past

    def _judge_arrived(self) -> None:
        """Judge until no file is left that has arrived; blocks."""
        keeper, files = self._keeper, self._arrived_files()
        self._caller = caller = keeper.service.caller_of(deadline_s=float("inf"))
        if self._stopped:  # and `cancel` may have seen the caller before this one
            return
        for upload, judged in judge_uploads(keeper.service, caller, files, self._spool, keeper.panels):
            read = partial(self._spool.get, upload.pieces)
            self._outbox.put(self._lines.line_of(judged, read))

    def _arrived_files(self) -> Iterator[Upload]:
        with contextlib.suppress(IndexError):
            while True:
                yield self._uploads.popleft()

    def _end(self) -> None:
        """Queue the last lines, unless the client is gone or the request is refused by its status."""
        if self._keeper.service.ending.is_past and self._refusal is None and not self._lines.is_complete:
            self._refuse(problem(503, ENDING))
        if self._gone or (self._refusal is not None and not self._outbox.used):
            return
        if isinstance(self._refusal, HTTPException):
            self._outbox.put(self._lines.refusal(str(self._refusal.detail)))
        self._outbox.put(self._lines.summary())

    # The task that sends.

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send each line when it is ready; the status is sent with the first."""
        started = False
        with contextlib.suppress(OSError):  # the client is gone; the reading task sees that too
            while (line := await self._outbox.take()) is not None:
                if not started:
                    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
                    started = True
                if not await self._send_line(line, send):
                    return
            if started:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            elif not self._gone:
                await self._answer_refusal(scope, receive, send)

    async def _send_line(self, line: bytes, send: Send) -> bool:
        """Send a line; False if the client, its request being complete, has read nothing for too long."""
        sending = asyncio.ensure_future(send({"type": "http.response.body", "body": line, "more_body": True}))
        try:
            while not sending.done():
                whole_body = self._arrived.is_set()
                await asyncio.wait([sending], timeout=self._limits.patience_s)
                if whole_body and not sending.done():
                    return False
            await sending
        finally:
            sending.cancel()
        return True

    async def _answer_refusal(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = answer_of(self._refusal or problem(503, "The service is ending"))
        await answer(scope, receive, send)


class StreamLines:
    """The lines of one request and its summary.

    Attributes:
        arrived: how many files have arrived so far.
        all_arrived: the whole request has arrived.
    """

    def __init__(self, keeper: RequestKeeper) -> None:
        self.arrived = 0
        self.all_arrived = False
        self._keeper = keeper
        self._totals = RequestTotals(keeper.info)
        self._current = 0

    @property
    def is_complete(self) -> bool:
        """Whether every file of the request has its line."""
        return self.all_arrived and self._current == self.arrived

    def line_of(self, judged: JudgedItem, read: Callable[[], bytes]) -> bytes:
        """Return the line of a judged or failed picture; `read` returns its bytes."""
        self._current += 1
        if isinstance(judged.result, Failure):
            self._keeper.info.error = judged.result.code
            return self._failed(judged, judged.result.code, message_of(judged.result))
        if judged.refused:
            return self._failed(judged, NOT_LOOKED_AT, self._keeper.refuse(judged))
        self._totals.add(judged.record)
        fields = prediction_fields(judged, self._keeper.host(judged, read))
        return _line(StreamedPrediction(**fields, progress=self._progress()))

    def refusal(self, detail: str) -> bytes:
        """Return the line of a request that could not be read to its end."""
        self._keeper.info.error = detail
        self._totals.errors.append(detail)
        return _line(StreamedError(image=None, error=detail, code=None, progress=self._progress()))

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

    def _failed(self, judged: JudgedItem, code: FailureCode, message: str) -> bytes:
        name = judged.record.source
        self._totals.errors.append(f"Error processing {name}: {message}")
        return _line(StreamedError(image=name, error=message, code=code, progress=self._progress()))

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
        self._spool = spool
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[Piece | None] = asyncio.Queue()
        self.used = False

    def put(self, line: bytes) -> None:
        """Add a line; blocks no longer than a write to a file.

        Raises:
            OSError: the temporary folder takes no more.
        """
        piece = self._spool.put(line)
        self.used = True
        self._add(piece)

    def end(self) -> None:
        """Add no further line."""
        self._add(None)

    async def take(self) -> bytes | None:
        """Wait for the next line; None after the last."""
        piece = await self._waiting.get()
        if piece is None:
            return None
        if isinstance(piece, bytes):
            self._spool.drop([piece])
            return piece
        return await to_thread.run_sync(self._spool.get, [piece])

    def _add(self, piece: Piece | None) -> None:
        if not self._loop.is_closed():  # as it may be if the client disconnected
            self._loop.call_soon_threadsafe(self._waiting.put_nowait, piece)
