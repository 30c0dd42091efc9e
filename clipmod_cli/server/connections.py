"""Closes connections that send no request or endless headers; uvicorn has no timeout for them.

Slow bodies are the matter of `clipmod_cli.server.gate.middleware`, idle connections between requests that of
uvicorn.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD_S: Final = 20.0
"""Timeout from the start of a connection, or a request's first byte, to the end of its headers."""

HEAD_BYTES: Final = 65_536
"""Limit of headers: h11's own. httptools has none."""

DRAIN_BYTES: Final = 64_000_000
"""Read of a body after its request was refused: clients that send everything before they read would
otherwise see a broken connection instead of the answer."""


if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as _Base
else:
    _Base = object


class TimeoutProtocol(_Base):
    """One connection with a timeout for its headers; over either of uvicorn's two protocols."""

    head_s = HEAD_S
    cycle: Any
    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """Start the timeout."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Pass data on; close if the headers are too large."""
        if not self._in_request:
            self._wait()
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_request:
            self._stop_waiting()
        elif self._head_bytes > (DRAIN_BYTES if self._is_draining else HEAD_BYTES):
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeout."""
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def _in_request(self) -> bool:
        """Whether a request's headers are complete and its answer is not."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_draining(self) -> bool:
        """Whether a request was answered before its body was read."""
        return self.cycle is not None and bool(self.cycle.more_body)

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.head_s, self.transport.close)

    def _stop_waiting(self) -> None:
        self._head_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Connection(TimeoutProtocol, AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # a variable
    """The same over httptools where it is installed, else over h11."""
