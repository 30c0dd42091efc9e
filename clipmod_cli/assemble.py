"""From settings to what judges: the policy, the models loaded as an ensemble, and how inputs are decoded."""

from __future__ import annotations

import atexit
import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial

from clipmod_cli.banks.bank import BankSpec
from clipmod_cli.decode.limits import DecodeOptions, parse_coverage, parse_frames
from clipmod_cli.ensemble.cache import DUPLICATE_CACHE_BYTES, EvidenceCache
from clipmod_cli.ensemble.cache_file import EvidenceFile, default_path
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.errors import SettingsError
from clipmod_cli.judge.choice import ModelChoice, choose, choose_screens
from clipmod_cli.judge.criteria import Criteria, WeightedReader
from clipmod_cli.judge.policy.reading import load_policy, policy_from_classes
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.judge.prepare import check_sight, prepare, reader_of
from clipmod_cli.models.backend import LoadContext, ModelSpec, TorchContext, require_packages
from clipmod_cli.models.device.names import check_device_name
from clipmod_cli.models.hub.client import SILENT, DownloadProgress, Hub
from clipmod_cli.models.hub.download import download
from clipmod_cli.models.hub.weights import WeightFiles, locate
from clipmod_cli.models.seam import Model
from clipmod_cli.models.specs import AUTO
from clipmod_cli.pipeline import Options, default_workers
from clipmod_cli.settings.definition import DEFAULT_POLICY, SERVE_DEFAULTS, Settings
from clipmod_cli.settings.reading import Resolved, count_of

log = logging.getLogger(__name__)


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
        models: `auto`, `ensemble`, `fallback`, `open_nsfw`, `nudenet`, or other model specs, with weights.
        policy: the policy, so that `auto` can skip models that cannot see it.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        batch_size: frames in one forward pass; default by device.
        offline: never touch the network; otherwise missing weights that were named are downloaded.
        compile: have torch compile the vision towers, which takes a minute and pays on GPUs alone.

    Raises:
        SpecError: if `models` cannot be parsed.
        MissingError: if weights or a package are missing and cannot be downloaded.
    """
    texts = [models] if isinstance(models, str) else models
    size = str(batch_size or "auto")
    settings = Settings(device=device, dtype=dtype, batch_size=size, compile=compile)  # type: ignore[arg-type]
    hub = Hub.from_environment(offline=offline)
    return load(choose(texts, policy or load_policy(DEFAULT_POLICY), hub), settings=settings, hub=hub)


def _load_one(spec: ModelSpec, name: str, context: LoadContext) -> Model:
    log.info("loading %s", spec.spec)
    return spec.backend.load(spec, name, context)


def load(
    choice: ModelChoice,
    *,
    settings: Settings,
    hub: Hub,
    progress: DownloadProgress = SILENT,
    load_one: Callable[[ModelSpec, str, LoadContext], Model] = _load_one,
) -> Ensemble:
    """Return the chosen models, loaded; downloads what is missing unless the hub is offline.

    Raises:
        MissingError: if weights or a package are missing and cannot be downloaded.
        SettingsError: if the device or precision is not available.
    """
    batch_size = count_of(settings.batch_size, "--batch-size")
    for member in choice.members:  # before anything is downloaded
        require_packages(member.spec)
    context = LoadContext(device=settings.device, fetch=fetcher(hub, progress))
    if any(member.spec.backend.uses_torch for member in choice.members):
        context, size = _on_torch(context, settings)
    else:  # without importing torch, which takes longer than a folder of pictures
        check_device_name(settings.device)
        size = min(member.spec.backend.batch_size() for member in choice.members)
    members = [
        Member(load_one(m.spec, name, context), m.weight)
        for m, name in zip(choice.members, choice.names, strict=True)
    ]
    return Ensemble(
        members=members,
        dtype=_precision([member.model for member in members]),
        batch_size=batch_size or size,
        degraded=choice.degraded,
    )


def _on_torch(context: LoadContext, settings: Settings) -> tuple[LoadContext, int]:
    """Return the context of models on torch, and their batch size."""
    from clipmod_cli.models.device.crops import CropBatches
    from clipmod_cli.models.device.device import place

    placement = place(settings.device, settings.dtype)
    torch = TorchContext(placement=placement, crops=CropBatches.of(placement), compile=settings.compile)
    return replace(context, device=str(placement.device), torch=torch), placement.batch_size


def fetcher(hub: Hub, progress: DownloadProgress = SILENT) -> Callable[[ModelSpec], WeightFiles]:
    """Return a function that gives a model's files, and downloads those that are missing."""
    return partial(_fetch, hub=hub, progress=progress)


def _fetch(spec: ModelSpec, *, hub: Hub, progress: DownloadProgress) -> WeightFiles:
    """Return the files of a model; those on this machine are used without a request to the hub."""
    return locate(spec, hub=hub) or download(spec, hub=hub, progress=progress)


def _precision(models: Sequence[Model]) -> str:
    """Return the precision of the models: a tower that checks itself may have chosen another one."""
    chosen = {model.dtype for model in models if model.kind != "detector"}  # a detector has no choice
    return "+".join(sorted(chosen or {model.dtype for model in models}))


def banks_of(resolved: Resolved) -> list[BankSpec]:
    """Return the banks that the settings name.

    Raises:
        SettingsError: one is named wrongly. Only a flag may name a file by a relative path: a settings file
            must not depend on who put files into the working directory.
    """
    specs = [BankSpec.parse(text) for text in resolved.settings.bank]
    if resolved.origins["bank"] != "flag":
        for spec in specs:
            if not spec.path.is_absolute():
                raise SettingsError(
                    f"bank: {spec.path} must begin with / or ~, for it would be another file in each folder"
                )
    return specs


def policy_of(resolved: Resolved) -> Policy:
    """Return the policy that the settings name; warn if it is the default of `clipmod serve`.

    Raises:
        PolicyError: if it cannot be read.
    """
    settings = resolved.settings
    if settings.classes is not None:
        return policy_from_classes(settings.classes, settings.unsafe)
    if settings.policy == SERVE_DEFAULTS["policy"] and not resolved.named("policy"):
        log.warning(
            "no --policy was named: the documented categories (%s) flag any picture with a woman in it. "
            "For sexual content: --policy nsfw",
            settings.policy,
        )
    return load_policy(settings.policy)


def load_models(
    settings: Settings, choice: ModelChoice, policy: Policy, hub: Hub, progress: DownloadProgress
) -> tuple[Ensemble, Criteria]:
    """Return the chosen models, loaded as the settings say, and the policy made ready for them.

    Raises:
        MissingError: if weights or a package are missing and cannot be downloaded.
        SettingsError: if the device or precision is not available.
        BlindModelError: if a member cannot see an UNSAFE category and that is not allowed.
    """
    ensemble = load(choice, settings=settings, hub=hub, progress=progress)
    threshold = policy.threshold_for(settings.sensitivity, settings.threshold)
    return ensemble, prepare(ensemble, policy, threshold=threshold, allow_partial=settings.allow_partial)


def with_screens(
    ensemble: Ensemble,
    criteria: Criteria,
    settings: Settings,
    hub: Hub,
    progress: DownloadProgress = SILENT,
) -> tuple[Ensemble, Criteria]:
    """Return both with the screens of calibrated early exit, as `--screen` names them.

    `auto` takes the light models that need no download, see something of the policy and are no members, and
    the first member in 8 bits where that is faster.

    Raises:
        SpecError: the setting cannot be parsed.
        SettingsError: it names too many models.
        MissingError: weights or a package are missing and cannot be downloaded.
        BlindModelError: a model that was named sees nothing of the policy.
    """
    policy = criteria.policy
    specs = [m.model.spec for m in ensemble.members]
    screens = choose_screens(settings.screen, specs, policy, hub, int8=_in_int8(ensemble.members[0].model))
    if screens is None:
        return ensemble, criteria
    loaded = load(screens, settings=settings, hub=hub, progress=progress)
    models = [member.model for member in loaded.members]
    for model in models:
        check_sight(model, policy, allow_partial=True)
    readers = [
        WeightedReader(name=model.name, weight=1.0, reader=reader_of(model, policy)) for model in models
    ]
    return replace(ensemble, screens=models), replace(criteria, screens=readers)


def _in_int8(model: Model) -> list[str]:
    """Return the spec of a model in 8 bits; empty if it has none, or is not slower than that."""
    if not (model.kind == "text-image" and model.device == "cpu" and model.dtype == "float32"):
        return []
    from clipmod_cli.models.open_clip.model import OpenClipModel

    return [model.spec_in_int8] if isinstance(model, OpenClipModel) and model.spec_in_int8 else []


@contextmanager
def with_evidence_cache(ensemble: Ensemble, settings: Settings) -> Iterator[Ensemble]:
    """Give the same ensemble with the evidence cache, a file in the user's cache folder."""
    if settings.no_cache:
        yield ensemble
        return
    max_bytes = settings.cache_mb * 1_000_000
    with closing(EvidenceFile(default_path(), max_bytes, days=settings.retention)) as file:
        yield replace(ensemble, cache=EvidenceCache(file))


def freeze_gc() -> None:
    """Exclude all present objects from garbage collection, for a long run or a service.

    Libraries and models are some million objects that live to the end. Each full collection walks through
    all of them, and requests and records trigger one after the other.
    """
    gc.freeze()
    atexit.register(gc.unfreeze)  # else libraries report at exit that their objects leaked


def decoding_options(settings: Settings, *, heic: bool = True) -> Options:
    """Return how inputs are decoded and run through the models."""
    decoding = DecodeOptions(
        exact=settings.decode == "exact",
        frames=replace(parse_frames(settings.frames), until_hit=settings.stop_on_hit),
        coverage=parse_coverage(settings.coverage),
        heic=heic,
    )
    return Options(
        decode=decoding,
        workers=count_of(settings.workers, "--workers") or default_workers(),
        isolate=settings.isolate,
        early_exit=settings.early_exit == "exact",
        duplicate_cache_bytes=DUPLICATE_CACHE_BYTES,
    )
