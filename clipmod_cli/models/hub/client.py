"""The Hugging Face hub: which one is asked, and what a repository holds there.

Downloads no files (`clipmod_cli.models.hub.download`); what its refusals mean is told by
`clipmod_cli.models.hub.errors`. huggingface_hub reads HF_HOME, HF_ENDPOINT and
HF_HUB_OFFLINE when it is imported, so it is imported inside functions.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from clipmod_cli import __version__
from clipmod_cli.models.hub.errors import NOT_A_HUB, explain
from clipmod_cli.models.hub.lock import is_commit, is_sha256

PATIENCE_S = 6.0
# "Told within 10 s" is promised; starting Python and the hub's client takes some of it.
RETRIES = 5
# In a row without one new byte, once some have come: about 40 s of a dead line.
PAUSE_S = 1.0
# Between two tries, so that a restarting proxy is not hammered.

_T = TypeVar("_T")


def _free_space(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Which hub is asked, which cache is filled, and how long an answer may take.

    Attributes:
        endpoint: the hub's address, without a slash at its end.
        offline: never touch the network.
        patience_s: the longest silence of the hub that is borne, in seconds.
        token: in place of the one that huggingface_hub finds.
        free_space: bytes that can be written at a path.
    """

    endpoint: str
    cache_dir: Path
    offline: bool = False
    patience_s: float = PATIENCE_S
    retries: int = RETRIES
    pause_s: float = PAUSE_S
    token: str | None = field(default=None, repr=False)
    free_space: Callable[[Path], int] = _free_space

    @classmethod
    def of_environment(cls, *, offline: bool = False) -> Hub:
        """Return the hub and cache that HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE tell of."""
        from huggingface_hub import constants

        return cls(
            endpoint=constants.ENDPOINT,
            cache_dir=Path(constants.HF_HUB_CACHE),
            offline=offline or constants.HF_HUB_OFFLINE,
        )

    @property
    def shown(self) -> str:
        """Its address for a message, without a password that may be in it."""
        parts = urlsplit(self.endpoint)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def url(self, repo: str, commit: str, name: str) -> str:
        """Return where a file of a commit is downloaded from."""
        return f"{self.endpoint}/{repo}/resolve/{commit}/{quote(name)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file as the hub describes it.

    Attributes:
        sha256: of a large file (kept in LFS or Xet storage); None for a small one.
        git_id: git's id of a small file's content, 40 hex digits.
    """

    name: str
    size: int
    sha256: str | None
    git_id: str | None

    @property
    def etag(self) -> str:
        """What the hub and its cache call these bytes."""
        return self.sha256 or self.git_id or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoState:
    """What a repository holds at one commit."""

    commit: str
    files: Mapping[str, HubFile]


def ask(hub: Hub, repo: str, commit: str | None) -> RepoState:
    """Return what the repository holds at this commit, or at the head of main.

    Raises:
        MissingModelError: the hub cannot be reached, or refuses, or has no such thing.
    """
    import httpx2

    revision = f"/revision/{commit}" if commit else ""
    url = f"{hub.endpoint}/api/models/{repo}{revision}"
    try:
        return _state(_within(hub.patience_s, lambda: _get_json(hub, url)), commit)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, *NOT_A_HUB) as error:
        raise explain(error, hub, repo) from error


def request_headers(own_token: str | None = None) -> dict[str, str]:
    """Return what goes with every request: who asks, and the user's token if there is one.

    With `own_token` it is that one. Not `build_hf_headers`: to name the software around it, that asks
    the hub once more.
    """
    from huggingface_hub import constants, get_token

    headers = {"User-Agent": f"clipmod/{__version__}", "Accept-Encoding": "identity"}
    token = own_token or (None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token())
    return headers | ({"Authorization": f"Bearer {token}"} if token else {})


def _get_json(hub: Hub, url: str) -> Any:
    from huggingface_hub import get_session, hf_raise_for_status

    answer = get_session().get(
        url,
        params={"blobs": "true"},
        headers=request_headers(hub.token),
        timeout=hub.patience_s,
        follow_redirects=True,
    )
    hf_raise_for_status(answer)
    return answer.json()


def _state(told: Any, asked: str | None) -> RepoState:
    commit = told["sha"]
    if not is_commit(commit) or commit != (asked or commit):
        raise ValueError(f"it answers with commit {commit!r}" + (f" when asked for {asked}" if asked else ""))
    files = (_file(sibling) for sibling in told["siblings"])
    return RepoState(commit=commit, files={file.name: file for file in files if file})


def _file(told: Any) -> HubFile | None:
    """Return the description, or None if it has nothing to check the file by."""
    size, sha256, git_id = told.get("size"), (told.get("lfs") or {}).get("sha256"), told.get("blobId")
    if not isinstance(size, int) or not (is_sha256(sha256) if sha256 else git_id and is_commit(git_id)):
        return None
    return HubFile(name=told["rfilename"], size=size, sha256=sha256, git_id=None if sha256 else git_id)


def _within(seconds: float, call: Callable[[], _T]) -> _T:
    """Return what `call` returns; raise TimeoutError if that takes longer.

    In a thread, because looking a name up cannot be interrupted, and a server that
    drips its answer defeats any timeout between two bytes. The thread ends with its
    own timeout or with the process.
    """
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as error:  # noqa: BLE001 - handed to the caller
            future.set_exception(error)

    Thread(target=run, name="clipmod-ask-hub", daemon=True).start()
    return future.result(timeout=seconds)
