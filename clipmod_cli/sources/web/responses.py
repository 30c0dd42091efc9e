"""What a server's answer says of itself: status, length, where to go on, when to come back.

Reads headers only. Lengths are hints for room; what is counted is counted elsewhere.
"""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpcore2

from clipmod_cli.decode.formats import sniff
from clipmod_cli.sources.archives.walk import UNREAD
from clipmod_cli.sources.web.errors import FetchError

REDIRECTS = frozenset({301, 302, 303, 307, 308})
BODIES = frozenset({200, 203})
"""A 206 that nobody asked for is a part of a picture, and other answers of success have none."""

PAUSING = frozenset({429, 503})
"""Their `Retry-After` speaks for the whole host."""

AGAIN = frozenset({429, *range(500, 600)})
"""Answers that are worth asking for again at once; 408 and 425 are for a later run."""

MAX_RETRY_AFTER_S = 60.0
"""No server can make a run wait longer than this at a time."""

_TYPE = re.compile(r"[a-z]{1,20}/[a-z0-9.+-]{1,40}", re.IGNORECASE | re.ASCII)
_TOKEN = re.compile(r"[a-z0-9-]{1,20}", re.IGNORECASE | re.ASCII)


def is_body(response: httpcore2.Response) -> bool:
    """Return whether what follows may be a picture."""
    return response.status in BODIES


def declared_length(response: httpcore2.Response) -> int | None:
    """Return the length in bytes that the server announced."""
    text = read_header(response, "content-length")
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None


def read_location(response: httpcore2.Response) -> str | None:
    """Return where a redirect leads, as the server wrote it; None if this is no redirect."""
    return read_header(response, "location") if response.status in REDIRECTS else None


def wrong_status(response: httpcore2.Response) -> FetchError:
    """Return the error that an answer with this status is."""
    status = response.status
    phrase = next((f" ({known.phrase})" for known in HTTPStatus if known == status), "")
    return FetchError(
        "http_error",
        f"the server answered {status}{phrase}",
        status=status,
        again=status in AGAIN,
        retry_after_s=_retry_after(response) if status in PAUSING else None,
    )


def may_be_archive(response: httpcore2.Response, head: bytes) -> bool:
    """Return whether a body that begins as an archive does is one that can be read.

    One that a server has compressed on the way begins so too, and nobody asked for that.
    """
    return _encoding(response) == "identity" and sniff(head) not in UNREAD


def no_picture(response: httpcore2.Response, head: bytes) -> FetchError:
    """Return the error that a body is which is no picture, no video and no archive that is read."""
    if not head:
        return FetchError("empty_file", "the server sent no bytes")
    encoding = _encoding(response)
    if encoding != "identity":
        how = f" ({encoding})" if _TOKEN.fullmatch(encoding) else ""
        return FetchError("not_an_image", f"the server sent it compressed{how}, which was not asked for")
    if kind_of_archive := UNREAD.get(sniff(head) or ""):
        return FetchError("not_an_image", f"the server sent a {kind_of_archive} archive, which is not read")
    kind = (read_header(response, "content-type") or "").partition(";")[0].strip()
    called = f", but what it calls {kind}" if _TYPE.fullmatch(kind) else ""
    return FetchError("not_an_image", f"the server sent no picture{called}")


def _encoding(response: httpcore2.Response) -> str:
    return (read_header(response, "content-encoding") or "identity").strip().lower()


def read_header(response: httpcore2.Response, name: str) -> str | None:
    """Return the first header of this name (in lower case), None if there is none."""
    wanted = name.encode()
    found = next((value for key, value in response.headers if key.lower() == wanted), None)
    if found is None:
        return None
    try:
        return found.decode()
    except UnicodeDecodeError:
        return found.decode("latin-1")


def _retry_after(response: httpcore2.Response) -> float | None:
    """Return the wait that is asked for, as a number or a date, in seconds; never more than the limit."""
    text = read_header(response, "retry-after")
    if text is None:
        return None
    try:
        if text.strip().isdigit():
            return float(min(int(text), MAX_RETRY_AFTER_S))
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)
