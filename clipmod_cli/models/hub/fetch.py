"""One file from the hub into a partial file over HTTP, resumed with `Range` after an interruption.

huggingface_hub's own downloader (2.x) and its Xet transport start again from the first byte after an
interruption; weights are gigabytes, so they are not used. Checksums are verified by `hub.download`.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.hub.client import DownloadProgress, Hub, HubFile, request_headers, translate_error
from clipmod_cli.models.hub.files import size_of

if TYPE_CHECKING:
    import httpx2

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")
_RETRYABLE = frozenset({408, 429, *range(500, 600)})
# HTTP statuses; any other refusal is final.


def fetch(hub: Hub, repo: str, commit: str, file: HubFile, partial: Path, progress: DownloadProgress) -> None:
    """Download the bytes that `partial` lacks of the file.

    A broken connection is retried up to `hub.retries` times in a row without a new byte, but only after the
    first byte has come: a hub that does not answer at all is reported at once.

    Raises:
        MissingModelError: the download failed; bytes received so far stay in `partial`.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    partial.parent.mkdir(parents=True, exist_ok=True)
    received_any, failures = False, 0
    while (before := size_of(partial)) != file.size or not partial.exists():
        try:
            _stream(hub, hub.url(repo, commit, file.name), file, partial, progress)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            size = size_of(partial)
            received_any, failures = received_any or size > before, 0 if size > before else failures + 1
            final = isinstance(error, HfHubHTTPError) and error.response.status_code not in _RETRYABLE
            if final or not received_any or failures > hub.retries:
                raise _failure(error, hub, repo, file, size) from error
            time.sleep(hub.retry_pause_s)


def _stream(hub: Hub, url: str, file: HubFile, partial: Path, progress: DownloadProgress) -> None:
    import httpx2
    from huggingface_hub import get_session, hf_raise_for_status

    size = size_of(partial)
    if size > file.size:
        partial.unlink()
        size = 0
    headers = request_headers(hub.token) | ({"Range": f"bytes={size}-"} if size else {})
    stream = get_session().stream
    with stream("GET", url, headers=headers, timeout=hub.timeout_s, follow_redirects=True) as response:
        if response.status_code == 416:
            partial.unlink(missing_ok=True)
            raise httpx2.RemoteProtocolError(f"the file there ends before byte {size}")
        hf_raise_for_status(response)
        _append(response, _first_byte(response, size), file, partial, progress)


def _append(
    response: httpx2.Response, start: int, file: HubFile, partial: Path, progress: DownloadProgress
) -> None:
    import httpx2

    with partial.open("ab") as out:
        out.truncate(start)
        done = start
        progress.advance(file.name, done, file.size)
        for chunk in response.iter_bytes():
            done += len(chunk)
            if done > file.size:
                break
            out.write(chunk)
            progress.advance(file.name, done, file.size)
        out.flush()
        os.fsync(out.fileno())
    if done > file.size:
        partial.unlink()
        raise MissingModelError(
            f"the hub sends more of {file.name} than the {file.size} bytes it announced; try again or set "
            "HF_ENDPOINT to another mirror"
        )
    if done < file.size:
        raise httpx2.RemoteProtocolError(f"the response ended after {done} of {file.size} bytes")


def _first_byte(response: httpx2.Response, requested: int) -> int:
    """Return the offset of the response's first byte: 0 where the server ignored `Range`."""
    if response.status_code != 206:
        return 0
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    start = int(match[1]) if match else requested
    if start > requested:
        import httpx2

        raise httpx2.RemoteProtocolError(f"requested bytes from {requested}, the response starts at {start}")
    return start


def _failure(error: Exception, hub: Hub, repo: str, file: HubFile, size: int) -> MissingModelError:
    translated = translate_error(error, hub, repo, file.name)
    if not size:
        return translated
    return MissingModelError(
        f"{translated}. {size} of {file.size} bytes are kept; the next try resumes there"
    )
