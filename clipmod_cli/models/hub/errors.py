"""What the hub's refusals and a broken network mean, in sentences for a person.

Every error of huggingface_hub and of its HTTP library becomes a `MissingModelError`
here and nowhere else. No sentence holds an error's own address: the hub signs the
addresses of large files, and a mirror's may hold a password.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.hub.cache import RepoFolder

if TYPE_CHECKING:
    from clipmod_cli.models.hub.client import Hub

NOT_A_HUB = (TypeError, LookupError, AttributeError)
# What reading an answer of another shape raises.


def explain(error: Exception, hub: Hub, repo: str, name: str = "") -> MissingModelError:
    """Return what happened to a request for `repo` (its file `name`), and what to do about it."""
    from huggingface_hub import errors

    what = f"{name} of {repo}" if name else repo
    page = f"{hub.shown}/{repo}"
    refused = f"{what} is not on this machine, and HF_HUB_OFFLINE forbids fetching it"
    told: tuple[tuple[type[Exception], str], ...] = (
        (errors.OfflineModeIsEnabled, refused),
        (errors.GatedRepoError, f"{repo} is gated: accept its terms at {page}, then `hf auth login`"),
        (errors.RepositoryNotFoundError, _no_such_repo(hub, repo)),
        (errors.RevisionNotFoundError, _no_such_commit(hub, repo)),
        (errors.RemoteEntryNotFoundError, f"{what} is not on the hub at {hub.shown} any more; see {page}"),
        (errors.DisabledRepoError, f"the hub at {hub.shown} has disabled {repo}; see {page}"),
    )
    for kind, sentence in told:
        if isinstance(error, kind):
            return MissingModelError(sentence)
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if status in (401, 403):
        return MissingModelError(_no_such_repo(hub, repo))
    if status == 404:
        return MissingModelError(f"{what} is not on the hub at {hub.shown}; see {page}")
    return MissingModelError(_unreachable(hub, what, _reason(error, status, hub)))


def _no_such_repo(hub: Hub, repo: str) -> str:
    return (
        f"the hub at {hub.shown} has no {repo} for you: check the name; if it is private or gated, log in "
        "with `hf auth login` (or set HF_TOKEN); if a token is set, it may have expired"
    )


def _no_such_commit(hub: Hub, repo: str) -> str:
    return (
        f"the hub at {hub.shown} no longer has the commit of {repo} that this machine holds to; to take what "
        f"it has now, delete {RepoFolder(hub.cache_dir, repo).path} and download again"
    )


def _unreachable(hub: Hub, what: str, reason: str) -> str:
    return (
        f"the hub at {hub.shown} cannot be reached ({reason}), so {what} cannot be downloaded now: check the "
        f"network or set HF_ENDPOINT to a mirror; or copy {hub.cache_dir} from a machine that has the "
        "weights and use --offline; or judge without a download by --models nudenet"
    )


def _reason(error: Exception, status: int | None, hub: Hub) -> str:
    import httpx2

    if status is not None:
        return f"it answers HTTP {status}"
    if isinstance(error, (TimeoutError, httpx2.TimeoutException)):
        return f"no answer within {hub.patience_s:g} s"
    if isinstance(error, (json.JSONDecodeError, *NOT_A_HUB)):
        return "what answers there is not a Hugging Face hub"
    return str(error) or type(error).__name__
