"""What the stores' libraries raise, and what it becomes."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from clipmod_cli.sources.stores.errors import translate


def _named(name: str, *bases: type[Exception]) -> Exception:
    made: Exception = type(name, bases or (Exception,), {})()
    return made


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FileNotFoundError(), "not_found"),
        (PermissionError(), "permission_denied"),
        (OSError("Forbidden: https://host/secret"), "permission_denied"),
        (TimeoutError(), "timeout"),
        (socket.gaierror(), "dns_error"),
        (ConnectionRefusedError(), "connect_error"),
        (OSError(5, "secret"), "read_error"),
        (MemoryError(), "out_of_memory"),
        (_named("NoCredentialsError"), "permission_denied"),
        (_named("EndpointConnectionError", OSError), "connect_error"),
        (ValueError("secret"), "internal_error"),
    ],
)
def test_errors_become_codes_without_their_texts(error: Exception, code: str) -> None:
    told = translate(error)
    assert told.code == code
    assert "secret" not in told.message


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "http_error"), (401, "permission_denied"), (403, "permission_denied"), (404, "not_found"),
     (412, "read_error"), (500, "http_error"), (503, "http_error")],
)  # fmt: skip
def test_a_status_says_more_than_what_it_was_wrapped_in(status: int, code: str) -> None:
    inner: Any = _named("ClientError")
    inner.response = {"Error": {"Code": "SomeWord"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    outer = OSError(5, "wrapped")
    outer.__cause__ = inner
    told = translate(outer)
    assert told.code == code
    assert "SomeWord" in told.message or code == "read_error"
