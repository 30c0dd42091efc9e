"""What the stores' libraries raise → our codes, in the one place where it is known.

Their own texts are left out of messages: they hold addresses, some of them signed, and headers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from clipmod_cli.errors import ErrorCode, ItemError
from clipmod_cli.sources.web.errors import FetchError

_CODES: tuple[tuple[str, ErrorCode, str], ...] = (
    (
        "NoCredentialsError PartialCredentialsError CredentialRetrievalError ProfileNotFound SSOError",
        "permission_denied",
        "the credentials for this store are not complete, or cannot be had",
    ),
    (
        "DefaultCredentialsError RefreshError TokenRetrievalError UnauthorizedSSOTokenError",
        "permission_denied",
        "the credentials for this store cannot be had, or have expired",
    ),
    (
        "ParamValidationError HfUriError HFValidationError InvalidURL",
        "invalid_url",
        "this can be no name in such a store",
    ),
    (
        "SSLError ClientSSLError ClientConnectorCertificateError",
        "tls_error",
        "no secure connection to the store could be made",
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
        "the store's answer is not whole",
    ),
    ("MemoryError", "out_of_memory", "there is not enough memory for this object"),
)
"""By the names of classes, so that no library is imported for an error that it did not raise. From the
particular to the general: the first that fits anything in the chain of causes holds."""

_TOKEN = re.compile(r"[A-Za-z0-9]{1,60}")

_NOT_THERE = "there is no such object, bucket or repository"
_NO_REPOSITORY = (
    "there is no such repository, or none for you: if it is private, `hf auth login` or set HF_TOKEN"
)
_FORBIDDEN = "the store refuses access"


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn whatever a store's library raises inside into an ItemError."""
    try:
        yield
    except ItemError:
        raise
    except Exception as error:
        raise translate(error) from error


def changed() -> ItemError:
    """Return the error that an object is which is not any more what it was listed as."""
    return ItemError("read_error", "the object changed while it was read")


def translate(error: Exception) -> ItemError:
    """Return what happened in our words; what nobody knows is `internal_error`."""
    chain = list(_chain(error))
    names = [{kind.__name__ for kind in type(one).__mro__} for one in chain]
    if any("RepositoryNotFoundError" in found and "GatedRepoError" not in found for found in names):
        return ItemError("not_found", _NO_REPOSITORY)  # whatever its status: the hub answers 401 to strangers
    status = next(filter(None, map(_status, chain)), None)
    if status is not None:
        return _refused(status, next(filter(None, map(_reason, chain)), ""))
    if any(isinstance(one, FileNotFoundError) for one in chain):
        return ItemError("not_found", _NOT_THERE)
    if any(isinstance(one, PermissionError) for one in chain):
        return ItemError("permission_denied", _FORBIDDEN)
    for wanted, code, message in _CODES:
        if any(not found.isdisjoint(wanted.split()) for found in names):
            return ItemError(code, message)
    what = f"reading a store raised {type(error).__name__}"
    return ItemError("internal_error", f"a bug in clipmod ({what}); please report it")


def _refused(status: int, reason: str) -> ItemError:
    said = f" ({reason})" if reason else ""
    match status:
        case 404 | 410:
            return ItemError("not_found", f"{_NOT_THERE}{said}")
        case 401 | 403:
            return ItemError("permission_denied", f"{_FORBIDDEN}{said}")
        case 412 | 416:
            return changed()
    phrase = next((f" ({known.phrase})" for known in HTTPStatus if known == status), "")
    return FetchError("http_error", f"the store answered {status}{said or phrase}", status=status)


def _status(error: BaseException) -> int | None:
    """Return the status of the answer that an error tells of, as the four libraries keep it."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    elif response is not None:
        found = getattr(response, "status_code", None)
    else:  # those of gcsfs and of aiohttp; what aiohttp's parser raises has a code that no server sent
        field = {"HttpError": "code", "ClientResponseError": "status"}.get(type(error).__name__)
        found = getattr(error, field) if field else None
    if found is None and isinstance(error, OSError) and str(error).startswith("Forbidden: "):
        return 403  # gcsfs keeps no number of it
    text = str(found)
    return int(text) if text.isdigit() and 400 <= int(text) < 600 else None


def _reason(error: BaseException) -> str:
    """Return the store's own word for it, as `AccessDenied`, if it is one."""
    response: Any = getattr(error, "response", None)
    word = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return word if _TOKEN.fullmatch(str(word)) and not str(word).isdigit() else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
