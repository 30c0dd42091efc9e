"""One file from the hub into a partial file, resumed where an earlier try stopped.

Plain HTTP with `Range`. huggingface_hub's own downloader (2.x) begins a file anew
after an interruption, and so does its Xet transport; the ensemble's files are
gigabytes, so theirs is not used. Checks no hashes (`clipmod_cli.models.hub.weights`).
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.hub.cache import size_of
from clipmod_cli.models.hub.client import Hub, HubFile, request_headers
from clipmod_cli.models.hub.errors import explain
from clipmod_cli.models.hub.progress import DownloadProgress

if TYPE_CHECKING:
    import httpx2

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")
_BUSY = frozenset({408, 429, *range(500, 600)})
# Statuses that say "later"; any other refusal is final.


def fetch(hub: Hub, repo: str, commit: str, file: HubFile, partial: Path, progress: DownloadProgress) -> None:
    """Bring `partial` to the file's full size; what is there already is not asked for again.

    A broken connection is taken up again `hub.retries` times without a new byte, but
    only once some byte has come: a hub that does not answer at all is told at once.

    Raises:
        MissingModelError: it could not be had; what came so far is kept.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    partial.parent.mkdir(parents=True, exist_ok=True)
    moved, failures = False, 0
    while (have := size_of(partial)) != file.size or not partial.exists():
        try:
            _stream(hub, hub.url(repo, commit, file.name), file, partial, progress)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            came = size_of(partial)
            moved, failures = moved or came > have, 0 if came > have else failures + 1
            final = isinstance(error, HfHubHTTPError) and error.response.status_code not in _BUSY
            if final or not moved or failures > hub.retries:
                raise _gave_up(error, hub, repo, file, came) from error
            time.sleep(hub.pause_s)


def _stream(hub: Hub, url: str, file: HubFile, partial: Path, progress: DownloadProgress) -> None:
    """Append what one answer brings."""
    import httpx2
    from huggingface_hub import get_session, hf_raise_for_status

    have = size_of(partial)
    if have > file.size:
        partial.unlink()
        have = 0
    headers = request_headers(hub.token) | ({"Range": f"bytes={have}-"} if have else {})
    stream = get_session().stream
    with stream("GET", url, headers=headers, timeout=hub.patience_s, follow_redirects=True) as response:
        if response.status_code == 416:
            partial.unlink(missing_ok=True)
            raise httpx2.RemoteProtocolError(f"it has no bytes after the {have} that are here")
        hf_raise_for_status(response)
        _append(response, _start(response, have), file, partial, progress)


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
        raise MissingModelError(f"the hub sends more of {file.name} than the {file.size} bytes it announced")
    if done < file.size:
        raise httpx2.RemoteProtocolError(f"the answer ended after {done} of {file.size} bytes")


def _start(response: httpx2.Response, asked: int) -> int:
    """Return the offset of the answer's first byte: 0 where the server ignored `Range`."""
    if response.status_code != 206:
        return 0
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    start = int(match[1]) if match else asked
    if start > asked:
        import httpx2

        raise httpx2.RemoteProtocolError(f"asked for bytes from {asked}, the answer begins at {start}")
    return start


def _gave_up(error: Exception, hub: Hub, repo: str, file: HubFile, came: int) -> MissingModelError:
    told = explain(error, hub, repo, file.name)
    if not came:
        return told
    return MissingModelError(f"{told}. {came} of {file.size} bytes are kept; the next try goes on from there")
