"""What can go wrong with a download, and the one place where other libraries' errors become ours.

Messages are one sentence for a person. They never hold an address that a name was resolved to:
whoever reads a record must learn nothing of the network that it was made in.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

import httpcore2
import httpx2

from clipmod_cli.errors import ErrorCode, ItemError


class FetchError(ItemError):
    """One URL could not be downloaded.

    Attributes:
        status: that of the answer, for `http_error`.
        again: trying again within this run makes sense.
        retry_after_s: how long the server asked to be left alone, in seconds.
        final_url: where redirects had led when it happened; None if nowhere.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        status: int | None = None,
        again: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        """Keep what a record and the next try need to know."""
        super().__init__(code, message)
        self.status = status
        self.again = again
        self.retry_after_s = retry_after_s
        self.final_url: str | None = None


_CODES: tuple[tuple[type[BaseException], ErrorCode, str], ...] = (
    (ssl.SSLError, "tls_error", "no secure connection could be made"),
    (httpx2.InvalidURL, "invalid_url", "this is not a valid URL"),
    (httpx2.UnsupportedProtocol, "invalid_url", "the URL does not begin with http:// or https://"),
    (httpcore2.UnsupportedProtocol, "invalid_url", "the URL does not begin with http:// or https://"),
    (httpx2.LocalProtocolError, "invalid_url", "no request can be made of this URL and these headers"),
    (httpcore2.LocalProtocolError, "invalid_url", "no request can be made of this URL and these headers"),
    (httpx2.ConnectTimeout, "timeout", "no connection was made in time"),
    (httpcore2.ConnectTimeout, "timeout", "no connection was made in time"),
    (httpx2.TimeoutException, "timeout", "the server sent nothing for too long"),
    (httpcore2.TimeoutException, "timeout", "the server sent nothing for too long"),
    (TimeoutError, "timeout", "the download did not end in time"),
    (httpx2.ConnectError, "connect_error", "no connection could be made"),
    (httpcore2.ConnectError, "connect_error", "no connection could be made"),
    (httpcore2.ConnectionNotAvailable, "connect_error", "no connection could be made"),
    (httpx2.ProxyError, "connect_error", "no connection could be made"),
    (httpcore2.ProxyError, "connect_error", "no connection could be made"),
    (httpx2.TooManyRedirects, "too_many_redirects", "there are too many redirects"),
    (httpx2.HTTPStatusError, "http_error", "the server answered with an error"),
    (httpx2.ProtocolError, "read_error", "the server's answer is not HTTP as it should be"),
    (httpcore2.ProtocolError, "read_error", "the server's answer is not HTTP as it should be"),
    (httpx2.NetworkError, "read_error", "the connection broke"),
    (httpcore2.NetworkError, "read_error", "the connection broke"),
    (httpx2.HTTPError, "read_error", "the answer could not be read"),
    (httpx2.StreamError, "read_error", "the answer could not be read"),
    (httpx2.CookieConflict, "read_error", "the answer could not be read"),
    (OSError, "read_error", "the connection broke"),
    (MemoryError, "out_of_memory", "there is not enough memory for this download"),
)
"""From the particular to the general: the first that fits holds."""

_ENDINGS = (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLZeroReturnError, ssl.SSLEOFError)
"""Says that bytes are missing, not that something is wrong with the security of the connection."""

_CONNECTING = (httpcore2.ConnectError, httpcore2.ConnectTimeout, httpx2.ConnectError, httpx2.ConnectTimeout)


_OTHER_NUMBERS = (ssl.SSLError, socket.gaierror)
"""OSErrors whose number is not one of the system's."""


def translate(error: BaseException, *, answered: bool) -> FetchError:
    """Return what happened in our words; what nobody knows is `internal_error`.

    Args:
        error: anything that a request raised.
        answered: the server had begun its answer.
    """
    if isinstance(error, FetchError):
        return error
    secure = next(
        (e for e in _chain(error) if isinstance(e, ssl.SSLError) and not isinstance(e, _ENDINGS)), None
    )
    known = next((entry for entry in _CODES if isinstance(secure or error, entry[0])), None)
    if known is None:
        reason = f"{type(error).__name__}: {error}"
        return FetchError("internal_error", f"a bug in clipmod ({reason}); please report it")
    _, code, message = known
    if detail := _detail(error, secure):
        message = f"{message}: {detail}"
    status = error.response.status_code if isinstance(error, httpx2.HTTPStatusError) else None
    again = secure is None and not answered and _is_connecting(error)
    return FetchError(code, message, status=status, again=again)


def _is_connecting(error: BaseException) -> bool:
    """Return whether a request failed before the server can have said anything.

    That includes a kept connection that the server closes just as it is used again: the library
    calls that a protocol error, but one that no parser raised.
    """
    if isinstance(error, httpcore2.RemoteProtocolError):
        return error.__cause__ is None
    return isinstance(error, (*_CONNECTING, httpcore2.ReadError, httpcore2.WriteError))


def _detail(error: BaseException, secure: ssl.SSLError | None) -> str:
    """Return the system's own short reason, if there is one; never its text, which names addresses."""
    if secure is not None:
        said = getattr(secure, "verify_message", None) or getattr(secure, "reason", None) or ""
        return said.replace("_", " ").lower()
    plain = (e for e in _chain(error) if isinstance(e, OSError) and not isinstance(e, _OTHER_NUMBERS))
    number = next((e.errno for e in plain if e.errno is not None), None)
    return os.strerror(number).lower() if number is not None else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, what caused it, and what that was made of."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        waiting += [e for e in (one.__cause__, one.__context__) if e is not None]
