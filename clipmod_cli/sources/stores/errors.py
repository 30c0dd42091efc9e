"""Exceptions of the stores' libraries → error codes.

Messages leave out the libraries' own texts, which hold headers and addresses, some of them signed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from clipmod_cli.errors import ErrorCode, ItemError, causes

_CREDENTIALS = (
    "NoCredentialsError PartialCredentialsError CredentialRetrievalError ProfileNotFound SSOError "
    "DefaultCredentialsError RefreshError TokenRetrievalError UnauthorizedSSOTokenError"
)
_CODES: tuple[tuple[str, ErrorCode, str], ...] = (
    (
        _CREDENTIALS,
        "permission_denied",
        "the credentials for this store are incomplete, have expired, or cannot be loaded",
    ),
    (
        "ParamValidationError HfUriError HFValidationError InvalidURL",
        "invalid_url",
        "this is not a valid name in such a store",
    ),
    (
        "SSLError ClientSSLError ClientConnectorCertificateError",
        "tls_error",
        "no TLS connection to the store could be made",
    ),
    ("gaierror ClientConnectorDNSError", "dns_error", "the store's name cannot be resolved"),
    (
        "TimeoutError ConnectTimeoutError ReadTimeoutError TimeoutException Timeout",
        "timeout",
        "the store did not answer in time",
    ),
    (
        "EndpointConnectionError ClientConnectorError ConnectError ConnectionRefusedError",
        "connect_error",
        "no connection to the store could be made",
    ),
    (
        "HTTPClientError ClientError ClientPayloadError HTTPError IncompleteRead OSError",
        "read_error",
        "the store's answer could not be read",
    ),
    (
        "IncompleteReadError ResponseParserError JSONDecodeError ChecksumError",
        "read_error",
        "the store's answer is incomplete",
    ),
    ("MemoryError", "out_of_memory", "there is not enough memory for this object"),
)
"""By class name, so that no library is imported only to check for its errors. From the particular to the
general: the first that matches anything in the chain of causes is used."""

_TOKEN = re.compile(r"[A-Za-z0-9]{1,60}")

_NOT_FOUND = "there is no such object, bucket or repository"
_NO_REPOSITORY = "there is no such repository, or it is private: run `hf auth login` or set HF_TOKEN"
_FORBIDDEN = "the store refuses access"


@contextmanager
def store_errors() -> Iterator[None]:
    """Raise whatever a store's library raises in the block as an ItemError."""
    try:
        yield
    except ItemError:
        raise
    except Exception as error:
        raise translate(error) from error


def changed() -> ItemError:
    """Return the error for an object that is no longer as it was listed."""
    return ItemError("read_error", "the object changed while it was read")


def translate(error: Exception) -> ItemError:
    """Return the ItemError for an exception; an unknown one is `internal_error`."""
    chain = list(causes(error))
    names = [{kind.__name__ for kind in type(one).__mro__} for one in chain]
    if any("RepositoryNotFoundError" in found and "GatedRepoError" not in found for found in names):
        return ItemError("not_found", _NO_REPOSITORY)  # first: the hub answers 401 without a token
    status = next(filter(None, map(_status, chain)), None)
    if status is not None:
        return _from_status(status, next(filter(None, map(_reason, chain)), ""))
    if any(isinstance(one, FileNotFoundError) for one in chain):
        return ItemError("not_found", _NOT_FOUND)
    if any(isinstance(one, PermissionError) for one in chain):
        return ItemError("permission_denied", _FORBIDDEN)
    for classes, code, message in _CODES:
        if any(not found.isdisjoint(classes.split()) for found in names):
            return ItemError(code, message)
    what = f"reading a store raised {type(error).__name__}"
    return ItemError("internal_error", f"a bug in clipmod ({what}); please report it")


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a store refused a request.

    Attributes:
        status: of HTTP.
        reason: the store's own error code, as `AccessDenied`; empty if it gave none.
    """

    status: int
    reason: str


def refusal(error: BaseException) -> Refusal | None:
    """Return how the store refused a request; None if it gave no answer."""
    for one in causes(error):
        if (status := _status(one)) is not None:
            return Refusal(status, _reason(one))
    return None


def _from_status(status: int, reason: str) -> ItemError:
    detail = f" ({reason})" if reason else ""
    match status:
        case 404 | 410:
            return ItemError("not_found", f"{_NOT_FOUND}{detail}")
        case 401 | 403:
            return ItemError("permission_denied", f"{_FORBIDDEN}{detail}")
        case 412 | 416:
            return changed()
    phrase = next((f" ({known.phrase})" for known in HTTPStatus if known == status), "")
    return ItemError("http_error", f"the store answered {status}{detail or phrase}", status=status)


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an error carries, in the form of each of the four libraries."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif response is not None:
        found = getattr(response, "status_code", None)
    else:  # gcsfs and aiohttp; errors of aiohttp's parser have a code that no server sent
        field = {"HttpError": "code", "ClientResponseError": "status"}.get(type(error).__name__)
        found = getattr(error, field) if field else None
    if found is None and isinstance(error, OSError) and str(error).startswith("Forbidden: "):
        return 403  # gcsfs gives no number
    text = str(found)
    return int(text) if text.isdigit() and 400 <= int(text) < 600 else None


def _reason(error: BaseException) -> str:
    """Return the store's own error code, such as `AccessDenied`, if it is a plain word."""
    response: Any = getattr(error, "response", None)
    word = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return word if _TOKEN.fullmatch(str(word)) and not str(word).isdigit() else ""
