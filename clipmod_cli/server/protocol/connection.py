"""One connection: uvicorn's h11 protocol with strict parsing, timeouts, limits and answers to refusals.

Always over h11: httptools, where it is installed, would refuse and accept other requests. Slow bodies are the
matter of `clipmod_cli.server.gate.middleware`, idle connections between requests that of uvicorn.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from fastapi import HTTPException
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from clipmod_cli.server.protocol.fault import SCOPE_KEY, ProtocolFault
from clipmod_cli.server.protocol.limit import REFUSAL, ConnectionLimit
from clipmod_cli.server.protocol.strict import StrictConnection

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

HEAD_S: Final = 20.0
"""Timeout from the start of a connection, or a request's first byte, to the end of its headers."""

DRAIN_BYTES: Final = 64_000_000
DRAIN_S: Final = 20.0
"""Read of a body after its request was refused: clients that send everything before they read would
otherwise see a broken connection instead of the answer."""

_CLOSE: Final = (b"connection", b"close")

_log = logging.getLogger("uvicorn.error.connection")
_log.setLevel(logging.ERROR)  # its warnings about requests: the access log has them


class Connection(H11Protocol):
    """One connection."""

    head_s = HEAD_S
    conn: StrictConnection
    cycle: Any

    def __init__(self, *args: Any, limit: ConnectionLimit | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limit = limit
        self._address: str | None = None
        self.conn = StrictConnection()
        self.logger = _log
        self._inner, self.app = self.app, self._serve
        self._timer: asyncio.TimerHandle | None = None
        self._drained = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout; refuse the connection if too many are open."""
        if not self._take(transport):
            return
        super().connection_made(_LingeringTransport(transport, self))  # type: ignore[arg-type]
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Pass data on, or discard it after a refusal, up to a limit."""
        if self._address is None:
            return
        if not self._in_request:
            self._wait()
        if self._discards:
            self._drained += len(data)
            if self._drained > DRAIN_BYTES:
                self.transport.abort()
                return
        if self.conn.fault is None and not self.transport.is_closing():
            super().data_received(data)
        if self._in_request:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeout."""
        if self._address is None:
            return
        if self._limit is not None:
            self._limit.give(self._address)
        self._stop_waiting()
        super().connection_lost(exc)

    def _take(self, transport: asyncio.Transport) -> bool:
        """Count the connection; end it if there are too many."""
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        if self._limit is not None and not self._limit.take(address):
            transport.write(REFUSAL)
            transport.close()
            return False
        self._address = address
        return True

    def shutdown(self) -> None:
        """End with the server: a client that was answered is not waited for."""
        super().shutdown()
        if not self._in_request:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Have the request answered that is not valid."""
        del msg
        if self._in_request:
            self.cycle.message_event.set()  # the application learns it from `receive`
        elif self._is_draining:
            self.transport.close()
        else:
            self._answer_fault()

    @property
    def is_receiving(self) -> bool:
        """Whether the client may still be sending a request that was answered."""
        return self.conn.fault is not None or self._is_draining

    @property
    def _in_request(self) -> bool:
        """Whether a request's headers are complete and its answer is not."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_draining(self) -> bool:
        """Whether a request was answered before its body was read."""
        return self.cycle is not None and self.cycle.response_complete and self.cycle.more_body

    @property
    def _discards(self) -> bool:
        return self._is_draining or self.conn.fault is not None

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_s, self._give_up)

    def _stop_waiting(self) -> None:
        if not self._discards:
            self._drained = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        """End a connection whose request did not come in time."""
        self._timer = None
        if self._discards:
            self.transport.abort()
        elif not self.conn.trailing_data[0]:
            self.transport.close()
        else:
            self._refuse_slow()

    def _refuse_slow(self) -> None:
        self.conn.refuse(ProtocolFault(408, "The request's headers came too slowly"))
        self._answer_fault()

    def _answer_fault(self) -> None:
        """Let the application answer, so that the answer has its headers, its log line and its count."""
        scope: Any = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": self.conn.asked_method,
            "root_path": self.root_path,
            "path": "",
            "raw_path": b"",
            "query_string": b"",
            "headers": [],
            "state": self.app_state.copy(),
            SCOPE_KEY: self.conn.fault,
        }
        self.cycle = RequestResponseCycle(
            scope=scope,
            conn=self.conn,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            on_response=self.on_response_complete,
        )
        self.cycle.more_body = False
        task = self.loop.create_task(self.cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; a fault in its body is raised from `receive`."""
        cycle = self.cycle

        def check() -> None:
            fault = self.conn.fault
            if fault is not None and cycle.more_body and not cycle.response_complete:
                raise HTTPException(fault.status, fault.detail, headers={"Connection": "close"})

        async def checked() -> Message:
            check()
            message = await receive()
            check()
            return message

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start" and _ends_with(cycle):
                others = [pair for pair in message.get("headers", []) if pair != _CLOSE]
                message = {**message, "headers": [*others, _CLOSE]}
            await send(message)

        await self._inner(scope, checked, marked)


def _ends_with(cycle: RequestResponseCycle) -> bool:
    """Return whether an answer that begins now has to be the connection's last.

    The client waits for `100 Continue`, and may send the body or another request next; or the rest of the
    body is too large to be discarded.
    """
    if not cycle.more_body:
        return False
    length = dict(cycle.scope["headers"]).get(b"content-length", b"0")
    return cycle.waiting_for_100_continue or int(length) > DRAIN_BYTES


class _LingeringTransport:
    """A transport whose `close` lets a client that is still sending read the answer.

    Closed with unread data, the kernel resets the connection, and the client loses the answer.
    """

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        self._transport = transport
        self._connection = connection
        self._lingering = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._lingering or self._transport.is_closing()

    def close(self) -> None:
        """Close at once if nothing more can come, else send the end and discard what comes for a while."""
        if self._lingering or self._transport.is_closing() or not self._connection.is_receiving:
            self._transport.close()
            return
        self._lingering = True
        self._transport.write_eof()
        self._transport.resume_reading()
        self._connection.loop.call_later(DRAIN_S, self._transport.close)
