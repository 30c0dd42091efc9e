"""Errors of downloads, and the translation of the HTTP libraries' exceptions into them.

Messages never hold an address that a name was resolved to: a record must not reveal the network it was
made in.
"""

from __future__ import annotations

import os
import socket
import ssl

import httpcore2

from clipmod_cli.errors import ErrorCode, ItemError, causes


class FetchError(ItemError):
    """One URL could not be downloaded; `again` if it should be tried again within this run.

    Attributes:
        retry_after_s: the pause that the server asked for, in seconds.
        final_url: the last URL of the redirects before the error; None without any.
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
        super().__init__(code, message, status=status)
        self.again = again
        self.retry_after_s = retry_after_s
        self.final_url: str | None = None


_CODES: tuple[tuple[type[BaseException], ErrorCode, str], ...] = (
    (ssl.SSLError, "tls_error", "no TLS connection could be made"),
    (httpcore2.UnsupportedProtocol, "invalid_url", "the URL does not begin with http:// or https://"),
    (httpcore2.LocalProtocolError, "invalid_url", "this URL and these headers do not make a valid request"),
    (httpcore2.ConnectTimeout, "timeout", "no connection was made in time"),
    (httpcore2.TimeoutException, "timeout", "the server sent nothing for too long"),
    (TimeoutError, "timeout", "the download did not end in time"),
    (httpcore2.ConnectError, "connect_error", "no connection could be made"),
    (httpcore2.ConnectionNotAvailable, "connect_error", "no connection could be made"),
    (httpcore2.ProxyError, "connect_error", "no connection could be made"),
    (httpcore2.ProtocolError, "read_error", "the server's answer is not valid HTTP"),
    (httpcore2.NetworkError, "read_error", "the connection broke"),
    (OSError, "read_error", "the connection broke"),
    (MemoryError, "out_of_memory", "there is not enough memory for this download"),
)
"""From the particular to the general: the first that matches is used."""

_MISSING_BYTES = (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLZeroReturnError, ssl.SSLEOFError)
"""The connection ended; nothing is wrong with its security."""

_FOREIGN_ERRNO = (ssl.SSLError, socket.gaierror)
"""OSErrors whose `errno` is not one of the system's."""


def translate(error: BaseException, *, answered: bool) -> FetchError:
    """Return the FetchError for what a request raised; `answered` if the server had begun its answer.

    An unknown exception is `internal_error`.
    """
    if isinstance(error, FetchError):
        return error
    if isinstance(error, ItemError):
        return FetchError(error.code, error.message, status=error.status)
    tls = next(
        (e for e in causes(error) if isinstance(e, ssl.SSLError) and not isinstance(e, _MISSING_BYTES)), None
    )
    known = next((entry for entry in _CODES if isinstance(tls or error, entry[0])), None)
    if known is None:
        reason = f"{type(error).__name__}: {error}"
        return FetchError("internal_error", f"a bug in clipmod ({reason}); please report it")
    _, code, message = known
    if detail := _detail(error, tls):
        message = f"{message}: {detail}"
    return FetchError(code, message, again=tls is None and not answered and _is_connecting(error))


def _is_connecting(error: BaseException) -> bool:
    """Return whether a request failed before the server can have answered.

    That includes a reused connection that the server closes at this moment: the library raises a
    protocol error then, but one without a parser's error as its cause.
    """
    if isinstance(error, httpcore2.RemoteProtocolError):
        return error.__cause__ is None
    return isinstance(
        error,
        (httpcore2.ConnectError, httpcore2.ConnectTimeout, httpcore2.ReadError, httpcore2.WriteError),
    )


def _detail(error: BaseException, tls: ssl.SSLError | None) -> str:
    """Return the system's short reason, if there is one; never the error's text, which holds addresses."""
    if tls is not None:
        reason = getattr(tls, "verify_message", None) or getattr(tls, "reason", None) or ""
        return reason.replace("_", " ").lower()
    system = (e for e in causes(error) if isinstance(e, OSError) and not isinstance(e, _FOREIGN_ERRNO))
    number = next((e.errno for e in system if e.errno is not None), None)
    return os.strerror(number).lower() if number is not None else ""
