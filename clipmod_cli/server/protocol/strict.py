"""Parses requests with h11, and refuses what another parser on the way could read differently.

A proxy and a server that disagree where a request ends can be made to mix up two callers' requests (RFC 9112,
section 11.2). h11 accepts some forms that the RFC lets a server refuse; here they are refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import h11

from clipmod_cli.server.protocol.fault import ProtocolFault

if TYPE_CHECKING:
    Event = type[h11.NEED_DATA | h11.PAUSED] | h11.Event

HEAD_BYTES: Final = 65_536
"""Limit of a request's line and headers together."""

REASON_CHARS: Final = 80

_LINES: Final = re.compile(rb"(?<!\r)\n|\r(?!\n)|\n[ \t]")
"""A line that does not end with CRLF, or that continues the one before it."""

_ABSOLUTE: Final = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)
"""A target as clients send it to a proxy; servers must take it too."""

_TOO_LONG: Final = 431


class StrictConnection(h11.Connection):
    """The server's side of a connection.

    Attributes:
        fault: why the last request was refused. Nothing can be read after it.
    """

    def __init__(self) -> None:
        super().__init__(h11.SERVER, HEAD_BYTES)
        self.fault: ProtocolFault | None = None

    def next_event(self) -> Event:
        """Return the next event.

        Raises:
            h11.RemoteProtocolError: the request is refused; `fault` says why.
        """
        in_head = self.their_state is h11.IDLE
        before = self._skip_empty_line() if in_head else b""
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as e:
            self.refuse(_fault_of(e, before if in_head else None))
            raise
        if isinstance(event, h11.Request):
            head = before[: len(before) - len(self._receive_buffer)]
            if (fault := _fault_in(event, head)) is not None:
                self.refuse(fault)
                raise h11.RemoteProtocolError(fault.detail)
            return _with_path(event)
        return event

    def refuse(self, fault: ProtocolFault) -> None:
        """Read nothing more; the next answer is the last."""
        self.fault = fault
        self._process_error(self.their_role)

    @property
    def asked_method(self) -> str:
        """The method of the request in progress; empty where it could not be read."""
        return (self._request_method or b"").decode("ascii")

    def _skip_empty_line(self) -> bytes:
        """Skip an empty line before a request, as some clients send after a body; return what follows it."""
        came = self.trailing_data[0]
        if not came.startswith(b"\r\n"):
            return came
        self._receive_buffer.maybe_extract_at_most(2)
        return came[2:]


def _fault_of(error: h11.RemoteProtocolError, head: bytes | None) -> ProtocolFault:
    """Return h11's refusal in plain words; `head` is what came of a request's head, None within a body."""
    if error.error_status_hint == _TOO_LONG and head is not None:
        return _too_long(head)
    reason = str(error).partition(": ")[0][:REASON_CHARS]  # behind it h11 repeats what was sent
    status = 400 if head is None else error.error_status_hint
    return ProtocolFault(status, f"The request is not valid HTTP: {reason}")


def _too_long(head: bytes) -> ProtocolFault:
    if len(head.partition(b"\n")[0]) > HEAD_BYTES:
        return ProtocolFault(414, f"The URL is longer than the limit of {HEAD_BYTES} bytes")
    return ProtocolFault(_TOO_LONG, f"The headers are larger than the limit of {HEAD_BYTES} bytes")


def _fault_in(request: h11.Request, head: bytes) -> ProtocolFault | None:
    """Return why a request that h11 accepts is refused."""
    if len(head) > HEAD_BYTES:
        return _too_long(head)
    if _LINES.search(head):
        return ProtocolFault(
            400, "The request is not valid HTTP: each header is one line that ends with CRLF"
        )
    if not request.http_version.startswith(b"1."):
        return ProtocolFault(505, "This service supports HTTP/1.1 only")
    if request.method == b"CONNECT":
        return ProtocolFault(501, "This service is no proxy")
    names = {name for name, _ in request.headers}
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
        return ProtocolFault(
            400, "The request is not valid HTTP: Transfer-Encoding needs HTTP/1.1 and no Content-Length"
        )
    return None


def _with_path(request: h11.Request) -> h11.Request:
    """Return the request with a path as its target; the host of an absolute one replaces the Host header."""
    absolute = _ABSOLUTE.fullmatch(request.target)
    if absolute is None:
        return request
    host, rest = absolute.groups()
    others = [(name, value) for name, value in request.headers if name != b"host"]
    return h11.Request(
        method=request.method,
        target=rest if rest.startswith(b"/") else b"/" + rest,
        headers=[(b"host", host), *others],
        http_version=request.http_version,
    )
