"""Connections that send no request, or endless headers, are closed: uvicorn itself would wait for ever.

A request's body is the matter of `clipmod_cli.server.gate.body_pace`, a connection's rest between two
requests that of uvicorn.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD_S: Final = 20.0
"""From a connection's beginning, or a request's first byte, to the end of its headers."""

HEAD_BYTES: Final = 65_536
"""What headers may come to: h11's own limit. httptools, where it is installed, has none."""

DRAIN_BYTES: Final = 64_000_000
"""What is still read of a body after its request was refused: clients that send all before they read
would else see a broken connection in place of the answer."""


if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as _Base
else:
    _Base = object


class TimeoutProtocol(_Base):
    """One connection, whose client has to get to the point; over either of uvicorn's two protocols."""

    head_s = HEAD_S
    cycle: Any
    _timer: asyncio.TimerHandle | None = None
    _unasked = 0

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what came; close where it is too much, and still no request."""
        if not self._is_asked:
            self._wait()
            self._unasked += len(data)
        super().data_received(data)
        if self._is_asked:
            self._stop_waiting()
        elif self._unasked > (DRAIN_BYTES if self._is_draining else HEAD_BYTES):
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def _is_asked(self) -> bool:
        """Whether a request's headers are there, and its answer is not yet."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_draining(self) -> bool:
        """Whether a request was answered before its body was read."""
        return self.cycle is not None and bool(self.cycle.more_body)

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.head_s, self.transport.close)

    def _stop_waiting(self) -> None:
        self._unasked = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Connection(TimeoutProtocol, AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # a variable
    """The same over httptools where it is installed, else over h11."""
