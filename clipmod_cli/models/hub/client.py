"""Requests to the Hugging Face hub: its address and limits, what a repository holds, what its errors mean.

Files are downloaded by `hub.fetch`. Every error of huggingface_hub and of its HTTP library becomes a
`MissingModelError` here and nowhere else; no message holds the error's own URL, since the hub signs the URLs
of large files and a mirror's may hold a password. huggingface_hub reads HF_HOME, HF_ENDPOINT and
HF_HUB_OFFLINE when it is imported, so it is imported inside functions.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

from clipmod_cli import __version__
from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.hub.cache import RepoFolder
from clipmod_cli.models.hub.lock import is_commit, is_sha256

TIMEOUT_S = 6.0
# An unreachable hub is to be reported within 10 s; starting Python and the hub's client takes some of it.
RETRIES = 5
# Consecutive ones without a new byte, after the first byte has come: about 40 s of a dead connection.
RETRY_PAUSE_S = 1.0
# Between two retries, so that a restarting proxy is not flooded.

_BAD_RESPONSE = (TypeError, LookupError, AttributeError)
# Raised by reading a response that has another structure than the hub's.

_T = TypeVar("_T")


class DownloadProgress(Protocol):
    """Callbacks of a download, called from the thread that called `download`."""

    def advance(self, name: str, done: int, total: int) -> None:
        """`done` of `total` bytes of the file `name` are on disk."""
        ...

    def say(self, sentence: str) -> None:
        """Show a message for the user."""
        ...


class _NoProgress:
    def advance(self, name: str, done: int, total: int) -> None:
        pass

    def say(self, sentence: str) -> None:
        pass


SILENT = _NoProgress()
"""Shows nothing."""


def _free_space(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """A hub, the local cache for its files, and the limits of a request.

    Attributes:
        endpoint: base URL, without a trailing slash.
        offline: never use the network.
        timeout_s: of a request, and between two chunks of a response, in seconds.
        retries: see `RETRIES`.
        retry_pause_s: in seconds.
        token: instead of the one that huggingface_hub finds.
        free_space: returns the free bytes at a path.
    """

    endpoint: str
    cache_dir: Path
    offline: bool = False
    timeout_s: float = TIMEOUT_S
    retries: int = RETRIES
    retry_pause_s: float = RETRY_PAUSE_S
    token: str | None = field(default=None, repr=False)
    free_space: Callable[[Path], int] = _free_space

    @classmethod
    def from_environment(cls, *, offline: bool = False) -> Hub:
        """Return the hub and cache that HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE name."""
        from huggingface_hub import constants

        return cls(
            endpoint=constants.ENDPOINT,
            cache_dir=Path(constants.HF_HUB_CACHE),
            offline=offline or constants.HF_HUB_OFFLINE,
        )

    @property
    def display_url(self) -> str:
        """The endpoint without a password."""
        parts = urlsplit(self.endpoint)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def url(self, repo: str, commit: str, name: str) -> str:
        """Return the download URL of a file."""
        return f"{self.endpoint}/{repo}/resolve/{commit}/{quote(name)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file as the hub describes it.

    Attributes:
        size: in bytes.
        sha256: of a large file (in LFS or Xet storage); None for a small one.
        git_id: of a small file: git's id of its content, 40 hex digits.
    """

    name: str
    size: int
    sha256: str | None
    git_id: str | None

    @property
    def etag(self) -> str:
        """The content's key in the hub and in its cache."""
        return self.sha256 or self.git_id or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoState:
    """What a repository holds at one commit; files by name."""

    commit: str
    files: Mapping[str, HubFile]


def fetch_repo_state(hub: Hub, repo: str, commit: str | None) -> RepoState:
    """Return what the repository holds at this commit; without one, at the head of main.

    Raises:
        MissingModelError: the hub cannot be reached, refuses, or has no such repository or commit.
    """
    import httpx2

    revision = f"/revision/{commit}" if commit else ""
    url = f"{hub.endpoint}/api/models/{repo}{revision}"
    try:
        return _parse_state(_with_timeout(hub.timeout_s, lambda: _get_json(hub, url)), commit)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, *_BAD_RESPONSE) as error:
        raise translate_error(error, hub, repo) from error


def request_headers(own_token: str | None = None) -> dict[str, str]:
    """Return the headers of every request: user agent, and `own_token` or the user's token if there is one.

    `build_hf_headers` is not used because it sends another request to the hub to learn its caller's name.
    """
    from huggingface_hub import constants, get_token

    headers = {"User-Agent": f"clipmod/{__version__}", "Accept-Encoding": "identity"}
    token = own_token or (None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token())
    return headers | ({"Authorization": f"Bearer {token}"} if token else {})


def translate_error(error: Exception, hub: Hub, repo: str, name: str = "") -> MissingModelError:
    """Return what happened to a request for `repo` (its file `name`), and what to do about it."""
    from huggingface_hub import errors

    what = f"{name} of {repo}" if name else repo
    at = f"the hub at {hub.display_url}"
    page = f"{hub.display_url}/{repo}"
    no_repo = (
        f"{at} has no {repo} that you may read: check the name; if it is private or gated, log in with "
        "`hf auth login` (or set HF_TOKEN); if a token is set, it may have expired"
    )
    no_commit = (
        f"{at} no longer has the locked commit of {repo}; to take its current files, delete "
        f"{RepoFolder(hub.cache_dir, repo).path} and download again"
    )
    messages: tuple[tuple[type[Exception], str], ...] = (
        (
            errors.OfflineModeIsEnabled,
            f"{what} is not on this machine, and HF_HUB_OFFLINE forbids fetching it",
        ),
        (errors.GatedRepoError, f"{repo} is gated: accept its terms at {page}, then `hf auth login`"),
        (errors.RepositoryNotFoundError, no_repo),
        (errors.RevisionNotFoundError, no_commit),
        (errors.RemoteEntryNotFoundError, f"{at} no longer has {what}; see {page}"),
        (errors.DisabledRepoError, f"{at} has disabled {repo}; see {page}"),
    )
    for kind, message in messages:
        if isinstance(error, kind):
            return MissingModelError(message)
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if status in (401, 403):
        return MissingModelError(no_repo)
    if status == 404:
        return MissingModelError(f"{at} has no {what}; see {page}")
    return MissingModelError(
        f"{at} cannot be reached ({_reason(error, status, hub)}), so {what} cannot be downloaded now: check "
        f"the network or set HF_ENDPOINT to a mirror; or copy {hub.cache_dir} from a machine that has the "
        "weights and use --offline; or judge without a download by --models nudenet"
    )


def _reason(error: Exception, status: int | None, hub: Hub) -> str:
    import httpx2

    if status is not None:
        return f"HTTP status {status}"
    if isinstance(error, (TimeoutError, httpx2.TimeoutException)):
        return f"no answer within {hub.timeout_s:g} s"
    if isinstance(error, (json.JSONDecodeError, *_BAD_RESPONSE)):
        return "the server there is not a Hugging Face hub"
    return str(error) or type(error).__name__


def _get_json(hub: Hub, url: str) -> Any:
    from huggingface_hub import get_session, hf_raise_for_status

    response = get_session().get(
        url,
        params={"blobs": "true"},
        headers=request_headers(hub.token),
        timeout=hub.timeout_s,
        follow_redirects=True,
    )
    hf_raise_for_status(response)
    return response.json()


def _parse_state(document: Any, requested: str | None) -> RepoState:
    commit = document["sha"]
    if not is_commit(commit) or commit != (requested or commit):
        raise ValueError(f"its response is for commit {commit!r}, the request for {requested or 'main'}")
    files = (_parse_file(sibling) for sibling in document["siblings"])
    return RepoState(commit=commit, files={file.name: file for file in files if file})


def _parse_file(entry: Any) -> HubFile | None:
    """Return the description, or None if it has no checksum."""
    size, sha256, git_id = entry.get("size"), (entry.get("lfs") or {}).get("sha256"), entry.get("blobId")
    if not isinstance(size, int) or not (is_sha256(sha256) if sha256 else git_id and is_commit(git_id)):
        return None
    return HubFile(name=entry["rfilename"], size=size, sha256=sha256, git_id=None if sha256 else git_id)


def _with_timeout(seconds: float, call: Callable[[], _T]) -> _T:
    """Return what `call` returns; raise TimeoutError if that takes longer.

    In a thread, because a DNS look-up cannot be interrupted, and a server that sends byte by byte defeats
    any read timeout.
    """
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as error:  # noqa: BLE001 - handed to the caller
            future.set_exception(error)

    Thread(target=run, name="clipmod-ask-hub", daemon=True).start()
    return future.result(timeout=seconds)
