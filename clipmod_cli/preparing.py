"""From settings to what judges: the policy, the models with their criteria, and how inputs are decoded.

Both front ends begin here. What `--models` means is `assemble`'s matter; what is shown of it while it
loads is theirs.
"""

from __future__ import annotations

import atexit
import gc
import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from clipmod_cli.assemble import Choice, load
from clipmod_cli.decode.limits import DecodeOptions, parse_frames
from clipmod_cli.ensemble.cache import AskOnce
from clipmod_cli.ensemble.cache_file import EvidenceFile, default_path
from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.ensemble.seen_before import REMEMBERED_BYTES
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.policy import Policy, load_policy, policy_from_classes
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.models.hub.progress import Progress
from clipmod_cli.models.registry import ensemble_size, human_size
from clipmod_cli.pipeline import Options, default_workers
from clipmod_cli.settings import Resolved, Settings, count_of

log = logging.getLogger(__name__)


def policy_of(resolved: Resolved) -> Policy:
    """Return the policy that the settings name; warn of what the default flags if they name none.

    Raises:
        PolicyError: if it cannot be read.
    """
    settings = resolved.settings
    if settings.classes is not None:
        return policy_from_classes(settings.classes, settings.unsafe)
    if not resolved.named("policy"):
        log.warning(
            "no --policy was named: the documented default, female-presence, flags any picture with a woman "
            "in it. For sexual content use --policy nsfw"
        )
    return load_policy(settings.policy)


def load_models(
    settings: Settings, choice: Choice, policy: Policy, hub: Hub, progress: Progress
) -> tuple[Ensemble, Criteria]:
    """Return the chosen models, loaded as the settings say, and the policy made ready for them.

    Raises:
        MissingError: if weights or a package are missing and cannot be had.
        SettingsError: if the device or precision cannot be had.
        BlindModelError: if a member cannot see an UNSAFE category and that is not allowed.
    """
    size = None if settings.batch_size == "auto" else count_of(settings.batch_size, "--batch-size", default=1)
    ensemble = load(
        choice,
        device=settings.device,
        dtype=settings.dtype,
        batch_size=size,
        hub=hub,
        progress=progress,
        compile=settings.compile,
    )
    threshold = policy.threshold_for(settings.sensitivity, settings.threshold)
    return ensemble, ensemble.prepare(policy, threshold=threshold, allow_partial=settings.allow_partial)


@contextmanager
def sparing(ensemble: Ensemble, settings: Settings) -> Iterator[Ensemble]:
    """Give the same models, asked only about what no earlier run has shown to them.

    What they see is kept in the user's cache folder.
    """
    if settings.no_cache:
        yield ensemble
        return
    most = settings.cache_mb * 1_000_000
    with closing(EvidenceFile(default_path(), most, days=settings.retention)) as kept:
        yield replace(ensemble, ask=AskOnce(kept, ensemble.dtype))


def leave_alone_what_is_loaded() -> None:
    """Have the garbage collector look no more through what is here now; for a process that goes on long.

    Libraries and models are some million objects that live to the end. Each full collection walks through
    all of them, and the objects that requests and records make bring on one after the other.
    """
    gc.freeze()
    atexit.register(gc.unfreeze)  # else libraries find at the end that their objects were never let go


def describe_choice(choice: Choice) -> str:
    """Return a sentence on what `auto` took."""
    names = ", ".join(choice.names)
    if choice.degraded:
        return (
            f"auto took {names}, the best that is here. The ensemble weighs "
            f"{human_size(ensemble_size())}: clipmod models download ensemble"
        )
    return f"auto took the ensemble: {names}"


def decoding_options(settings: Settings, *, heic: bool = True) -> Options:
    """Return how inputs are looked at."""
    decoding = DecodeOptions(
        exact=settings.decode == "exact", frames=parse_frames(settings.frames), heic=heic
    )
    return Options(
        decode=decoding,
        workers=count_of(settings.workers, "--workers", default=default_workers()),
        isolate=settings.isolate,
        early_exit=settings.early_exit == "exact",
        remembered_bytes=REMEMBERED_BYTES,
    )
