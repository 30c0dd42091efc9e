"""No library's error is left untranslated, and none lets an address into a record."""

from __future__ import annotations

import errno
import inspect
import socket
import ssl
from types import ModuleType

import h11
import httpcore2
import pytest

from clipmod_cli.sources.web.errors import FetchError, translate

EXPECTED = {
    "ConnectError": "connect_error",
    "ConnectTimeout": "timeout",
    "ConnectionNotAvailable": "connect_error",
    "LocalProtocolError": "invalid_url",
    "PoolTimeout": "timeout",
    "ProxyError": "connect_error",
    "ReadTimeout": "timeout",
    "TimeoutException": "timeout",
    "UnsupportedProtocol": "invalid_url",
    "WriteTimeout": "timeout",
}
"""By the class's name; every other one is a `read_error`."""


def exceptions_of(module: ModuleType) -> list[type[Exception]]:
    """Return all exceptions that a library names."""
    found = [
        value for _, value in inspect.getmembers(module, inspect.isclass) if issubclass(value, Exception)
    ]
    assert len(found) > 10
    return found


def make(kind: type[Exception]) -> Exception:
    """Return an exception of this class, as its library would make it."""
    try:
        return kind("10.0.0.1 says no")
    except TypeError:
        return kind()


@pytest.mark.parametrize("kind", exceptions_of(httpcore2), ids=lambda k: k.__qualname__)
@pytest.mark.parametrize("answered", [True, False])
def test_every_exception_of_the_libraries_is_known(kind: type[Exception], answered: bool) -> None:
    error = translate(make(kind), answered=answered)
    assert error.code == EXPECTED.get(kind.__name__, "read_error")
    assert error.status is None
    assert "10.0.0.1" not in error.message
    assert not (answered and error.again)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ssl.SSLCertVerificationError("x"), "tls_error"),
        (ssl.SSLError("x"), "tls_error"),
        (TimeoutError(), "timeout"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "read_error"),
        (OSError("10.0.0.1"), "read_error"),
        (MemoryError(), "out_of_memory"),
        (ZeroDivisionError("x"), "internal_error"),
        (KeyError("x"), "internal_error"),
    ],
)
def test_other_exceptions(error: Exception, code: str) -> None:
    assert translate(error, answered=False).code == code


def test_our_own_pass_through() -> None:
    error = FetchError("blocked_address", "no")
    assert translate(error, answered=False) is error


def chained(outer: Exception, inner: BaseException) -> Exception:
    """Return an error that another one caused."""
    outer.__cause__ = inner
    return outer


def test_tls_is_known_by_its_cause() -> None:
    inner = ssl.SSLCertVerificationError(1, "certificate verify failed")
    inner.verify_message = "certificate has expired"
    error = translate(chained(httpcore2.ConnectError("x"), inner), answered=False)
    assert (error.code, error.again) == ("tls_error", False)
    assert error.message.endswith("certificate has expired")


@pytest.mark.parametrize(
    "inner", [ssl.SSLWantReadError(2, "x"), ssl.SSLEOFError(8, "x"), ssl.SSLZeroReturnError(6, "x")]
)
def test_missing_bytes_are_no_fault_of_tls(inner: ssl.SSLError) -> None:
    error = translate(chained(httpcore2.ReadError("x"), inner), answered=True)
    assert (error.code, error.message) == ("read_error", "the connection broke")


def test_the_systems_reason_is_told_and_the_resolvers_number_is_not_taken_for_one() -> None:
    refused = OSError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.1', 80)")
    group = ExceptionGroup("all failed for 10.0.0.1", [refused])
    error = translate(chained(httpcore2.ConnectError(group), group), answered=False)
    assert error.message == "no connection could be made: connection refused"
    name = translate(
        chained(httpcore2.ConnectError("x"), socket.gaierror(socket.EAI_NONAME, "x")), answered=False
    )
    assert name.message == "no connection could be made"


def test_what_goes_wrong_with_a_kept_connection_is_tried_again_but_no_nonsense() -> None:
    closed = httpcore2.RemoteProtocolError("Server disconnected without sending a response.")
    assert translate(closed, answered=False).again
    nonsense = chained(httpcore2.RemoteProtocolError("x"), h11.RemoteProtocolError("illegal status line"))
    assert not translate(nonsense, answered=False).again
    assert not translate(closed, answered=True).again


def test_an_error_that_caused_itself_ends() -> None:
    error = OSError("x")
    error.__context__ = RuntimeError("y")
    error.__context__.__context__ = error
    assert translate(error, answered=False).code == "read_error"
