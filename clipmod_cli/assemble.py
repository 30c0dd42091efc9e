"""From `--models` to a loaded ensemble: what `auto` takes, what is missing, what is said of it."""

from __future__ import annotations

import atexit
import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clipmod_cli.decode.limits import DecodeOptions, parse_frames
from clipmod_cli.ensemble.cache import EvidenceCache
from clipmod_cli.ensemble.cache_file import EvidenceFile, default_path
from clipmod_cli.ensemble.duplicates import DUPLICATE_CACHE_BYTES
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.errors import MissingModelError
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.policy import Policy, load_policy, policy_from_classes, unseen_categories
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.models import nudenet
from clipmod_cli.models.device.names import check_device_name
from clipmod_cli.models.hub import download, weights
from clipmod_cli.models.hub.client import SILENT, DownloadProgress, Hub
from clipmod_cli.models.registry import ensemble_size, human_size
from clipmod_cli.models.seam import Model
from clipmod_cli.models.specs import (
    AUTO,
    ENSEMBLE,
    FALLBACK,
    NUDENET,
    Members,
    ModelSpec,
    member_names,
    parse_models,
)
from clipmod_cli.pipeline import Options, default_workers
from clipmod_cli.settings import Resolved, Settings, count_of

if TYPE_CHECKING:
    from clipmod_cli.models.device.crops import CropBatches
    from clipmod_cli.models.device.device import Placement


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """Which models judge, before any is loaded.

    Attributes:
        auto: nobody named them.
        degraded: they are less than the three-model ensemble that `auto` wants.
        called: the members' names in records, where they are not the usual ones.
    """

    members: Members
    auto: bool
    degraded: bool
    called: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names in records."""
        return self.called or member_names(self.members)


@dataclass(frozen=True, slots=True)
class _How:
    """How models are loaded."""

    placement: Placement
    hub: Hub
    progress: DownloadProgress
    compile: bool
    crops: CropBatches


def choose(models: Sequence[str], policy: Policy, hub: Hub | None = None) -> ModelChoice:
    """Return the models that a `--models` setting names; `auto` takes the best that is here.

    `auto` never downloads. It passes over what cannot see the policy.

    Raises:
        SpecError: if the setting cannot be understood.
        MissingModelError: if `auto` finds nothing here that can see the policy.
    """
    named = parse_models(models)
    if named != AUTO:
        return ModelChoice(members=named, auto=False, degraded=False)
    for text in (ENSEMBLE, FALLBACK, NUDENET):
        members = parse_models([text])
        if members != AUTO and all(_is_usable(m.spec, policy, hub) for m in members):
            return ModelChoice(members=members, auto=True, degraded=text != ENSEMBLE)
    raise MissingModelError(
        f"no model that can judge by the policy {policy.name!r} is on this machine. "
        f"`clipmod models download ensemble` fetches the ensemble ({human_size(ensemble_size())}), "
        f"`clipmod models download fallback` its first model; {nudenet.INSTALL} brings a detector"
    )


def load_ensemble(
    models: Sequence[str] | str = AUTO,
    policy: Policy | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int | None = None,
    offline: bool = False,
    compile: bool = False,  # noqa: A002 — the setting's name
) -> Ensemble:
    """Return a loaded ensemble.

    Args:
        models: `auto`, `ensemble`, `fallback`, `nudenet`, or model specs with weights.
        policy: what it will judge by, so that `auto` can pass over a model that cannot see it.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        batch_size: frames in one forward pass; default by device.
        offline: never touch the network; otherwise missing weights that were named are downloaded.
        compile: have torch compile the vision towers, which takes a minute and pays on GPUs alone.

    Raises:
        SpecError: if `models` cannot be understood.
        MissingError: if weights or a package are missing and cannot be had.
    """
    from clipmod_cli.judge.policy import load_policy

    texts = [models] if isinstance(models, str) else models
    hub = Hub.from_environment(offline=offline)
    choice = choose(texts, policy or load_policy("nsfw"), hub)
    return load(choice, device=device, dtype=dtype, batch_size=batch_size, hub=hub, compile=compile)


def load(
    choice: ModelChoice,
    *,
    device: str,
    dtype: str,
    batch_size: int | None,
    hub: Hub,
    progress: DownloadProgress | None = None,
    compile: bool = False,  # noqa: A002 — the setting's name
) -> Ensemble:
    """Return the chosen models, loaded; downloads what is missing unless the hub is offline.

    Raises:
        MissingError: if weights or a package are missing and cannot be had.
        SettingsError: if the device or precision cannot be had.
    """
    if all(member.spec.kind == "nudenet" for member in choice.members):
        return _detector_alone(choice, device, batch_size)
    from clipmod_cli.models.device.crops import CropBatches
    from clipmod_cli.models.device.device import place

    placement = place(device, dtype)
    how = _How(placement, hub, progress or SILENT, compile, CropBatches.of(placement))
    loaded = [
        Member(_load_one(m.spec, name, how), m.weight)
        for m, name in zip(choice.members, choice.names, strict=True)
    ]
    return Ensemble(
        members=loaded,
        dtype=_precision([member.model for member in loaded], placement),
        batch_size=batch_size or placement.batch_size,
        degraded=choice.degraded,
    )


def _detector_alone(choice: ModelChoice, device: str, batch_size: int | None) -> Ensemble:
    """Return the detector without importing torch, which takes longer than a folder of pictures."""
    check_device_name(device)
    detector = nudenet.load(name=choice.names[0], spec=NUDENET, device=device, alone=True)
    return Ensemble(
        members=[Member(detector, 1.0)],
        dtype="float32",
        batch_size=batch_size or nudenet.BATCH,
        degraded=choice.degraded,
    )


def _precision(models: Sequence[Model], placement: Placement) -> str:
    """Return the precision of the models: a tower that checks itself may have chosen another one."""
    chosen = {model.dtype for model in models if model.kind != "detector"}  # a detector has no choice
    return "+".join(sorted(chosen)) or placement.dtype_name


def _load_one(spec: ModelSpec, name: str, how: _How) -> Model:
    log.info("loading %s", spec.spec)
    match spec.kind:
        case "nudenet":
            return nudenet.load(name=name, spec=spec.spec, device=str(how.placement.device))
        case "hf" | "hf_dir":
            from clipmod_cli.models import transformers

            folder = spec.path or _files(spec, how).folder
            return transformers.load(folder, name=name, spec=spec.spec, placement=how.placement)
        case "open_clip" | "open_clip_dir":
            return _load_open_clip(spec, name, how)
    raise AssertionError(f"unknown kind of model {spec.kind!r}")


def _load_open_clip(spec: ModelSpec, name: str, how: _How) -> Model:
    from clipmod_cli.models.open_clip import model as open_clip
    from clipmod_cli.models.open_clip import text_cache
    from clipmod_cli.models.open_clip.source import source_of

    source = source_of(spec, None if spec.path else _files(spec, how))
    cache = text_cache.TextCache(text_cache.default_folder(), source.revision)
    return open_clip.load(
        source,
        name=name,
        spec=spec.spec,
        placement=how.placement,
        cache=cache,
        crops=how.crops,
        compile=how.compile,
    )


def _files(spec: ModelSpec, how: _How) -> weights.WeightFiles:
    """Return the files of a model; what is here is used without asking anybody."""
    here = weights.locate(spec, hub=how.hub)
    return here or download.download(spec, hub=how.hub, progress=how.progress)


def _is_usable(spec: ModelSpec, policy: Policy, hub: Hub | None) -> bool:
    text_image = spec.kind in ("open_clip", "open_clip_dir")
    if unseen_categories(policy, spec=spec.spec, text_image=text_image):
        return False
    if spec.kind == "nudenet":
        return nudenet.is_installed() and any(c.otherwise for c in policy.categories)
    return weights.locate(spec, hub=hub) is not None


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
    settings: Settings, choice: ModelChoice, policy: Policy, hub: Hub, progress: DownloadProgress
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
    return ensemble, prepare(ensemble, policy, threshold=threshold, allow_partial=settings.allow_partial)


@contextmanager
def with_evidence_cache(ensemble: Ensemble, settings: Settings) -> Iterator[Ensemble]:
    """Give the same models, asked only about what no earlier run has shown to them.

    What they see is kept in the user's cache folder.
    """
    if settings.no_cache:
        yield ensemble
        return
    most = settings.cache_mb * 1_000_000
    with closing(EvidenceFile(default_path(), most, days=settings.retention)) as kept:
        yield replace(ensemble, cache=EvidenceCache(kept))


def freeze_gc() -> None:
    """Have the garbage collector look no more through what is here now; for a process that goes on long.

    Libraries and models are some million objects that live to the end. Each full collection walks through
    all of them, and the objects that requests and records make bring on one after the other.
    """
    gc.freeze()
    atexit.register(gc.unfreeze)  # else libraries find at the end that their objects were never let go


def describe_choice(choice: ModelChoice) -> str:
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
        duplicate_cache_bytes=DUPLICATE_CACHE_BYTES,
    )
