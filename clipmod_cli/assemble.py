"""From settings to what judges: the policy, the models loaded as an ensemble, and how inputs are decoded."""

from __future__ import annotations

import atexit
import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from clipmod_cli.decode.limits import DecodeOptions, parse_coverage, parse_frames
from clipmod_cli.ensemble.cache import DUPLICATE_CACHE_BYTES, EvidenceCache
from clipmod_cli.ensemble.cache_file import EvidenceFile, default_path
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.errors import MissingModelError
from clipmod_cli.install import install_command, is_installed
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.policy.reading import CLASSES, load_policy, policy_from_classes
from clipmod_cli.judge.policy.values import Policy, unseen_categories
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.models.backend import (
    LoadContext,
    ModelSpec,
    TorchContext,
    has_packages,
    human_size,
    require_packages,
)
from clipmod_cli.models.backends import FALLBACK, NUDENET
from clipmod_cli.models.device.names import check_device_name
from clipmod_cli.models.hub.client import SILENT, DownloadProgress, Hub
from clipmod_cli.models.hub.download import download
from clipmod_cli.models.hub.weights import WeightFiles, locate
from clipmod_cli.models.seam import Model
from clipmod_cli.models.specs import AUTO, ENSEMBLE, Members, ensemble_size, member_names, parse_models
from clipmod_cli.pipeline import Options, default_workers
from clipmod_cli.settings.definition import Settings
from clipmod_cli.settings.reading import Resolved, count_of

log = logging.getLogger(__name__)

AUTO_ORDER = (ENSEMBLE, FALLBACK, NUDENET)
"""What `auto` tries, best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """Which models judge, before any is loaded.

    Attributes:
        auto: `auto` chose them.
        degraded: they are less than the three-model ensemble that `auto` prefers.
        called: the members' names in records, if they are not the usual ones.
    """

    members: Members
    auto: bool
    degraded: bool
    called: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names in records."""
        return self.called or member_names(self.members)


def choose(models: Sequence[str], policy: Policy, hub: Hub | None = None) -> ModelChoice:
    """Return the models that a `--models` setting names; `auto` takes the best on this machine.

    `auto` never downloads, and skips models that cannot see the policy.

    Raises:
        SpecError: if the setting cannot be parsed.
        MissingModelError: if no model on this machine can see the policy.
    """
    named = parse_models(models)
    if named != AUTO:
        return ModelChoice(members=named, auto=False, degraded=False)
    for text in AUTO_ORDER:
        members = parse_models([text])
        if members != AUTO and all(_is_usable(m.spec, policy, hub) for m in members):
            return ModelChoice(members=members, auto=True, degraded=text != ENSEMBLE)
    by = "your own --classes" if policy.name == CLASSES else f"the policy {policy.name!r}"
    raise MissingModelError(f"no model that can judge by {by} is on this machine. {_ways_out(policy)}")


def _ways_out(policy: Policy) -> str:
    """Return the commands that bring models which can see the policy."""
    clip = [] if is_installed("clip") else [install_command("clip")]
    lines = [
        f"The ensemble ({human_size(ensemble_size())}; for its first model alone, name fallback instead):",
        *(f"  {command}" for command in (*clip, "clipmod models download ensemble")),
    ]
    has_rest = any(category.otherwise for category in policy.categories)
    if has_rest and not unseen_categories(policy, spec=NUDENET, text_image=False):
        lines += ["A detector of bare skin:", f"  {install_command(NUDENET)}"]
    return "\n".join(lines)


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
        policy: the policy, so that `auto` can skip models that cannot see it.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        batch_size: frames in one forward pass; default by device.
        offline: never touch the network; otherwise missing weights that were named are downloaded.
        compile: have torch compile the vision towers, which takes a minute and pays on GPUs alone.

    Raises:
        SpecError: if `models` cannot be parsed.
        MissingError: if weights or a package are missing and cannot be had.
    """
    texts = [models] if isinstance(models, str) else models
    size = str(batch_size or "auto")
    settings = Settings(device=device, dtype=dtype, batch_size=size, compile=compile)  # type: ignore[arg-type]
    hub = Hub.from_environment(offline=offline)
    return load(choose(texts, policy or load_policy("nsfw"), hub), settings=settings, hub=hub)


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
        MissingError: if weights or a package are missing and cannot be had.
        SettingsError: if the device or precision cannot be had.
    """
    batch_size = count_of(settings.batch_size, "--batch-size")
    for member in choice.members:  # before anything is downloaded
        require_packages(member.spec)
    context = LoadContext(device=settings.device, fetch=partial(_fetch, hub=hub, progress=progress))
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


def _fetch(spec: ModelSpec, *, hub: Hub, progress: DownloadProgress) -> WeightFiles:
    """Return the files of a model; those on this machine are used without a request to the hub."""
    return locate(spec, hub=hub) or download(spec, hub=hub, progress=progress)


def _precision(models: Sequence[Model]) -> str:
    """Return the precision of the models: a tower that checks itself may have chosen another one."""
    chosen = {model.dtype for model in models if model.kind != "detector"}  # a detector has no choice
    return "+".join(sorted(chosen or {model.dtype for model in models}))


def _is_usable(spec: ModelSpec, policy: Policy, hub: Hub | None) -> bool:
    """Return whether the model and its packages are on this machine, and it can see the policy."""
    kind = spec.backend.kind
    if not has_packages(spec):
        return False
    if unseen_categories(policy, spec=spec.spec, text_image=kind == "text-image"):
        return False
    if kind == "detector" and not any(c.otherwise for c in policy.categories):
        return False
    return locate(spec, hub=hub) is not None


def policy_of(resolved: Resolved) -> Policy:
    """Return the policy that the settings name; warn about the default policy if they name none.

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
    ensemble = load(choice, settings=settings, hub=hub, progress=progress)
    threshold = policy.threshold_for(settings.sensitivity, settings.threshold)
    return ensemble, prepare(ensemble, policy, threshold=threshold, allow_partial=settings.allow_partial)


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


def describe_choice(choice: ModelChoice) -> str:
    """Return a sentence on the models that `auto` took."""
    names = ", ".join(choice.names)
    if choice.degraded:
        return (
            f"auto took {names}, the best on this machine. The ensemble weighs "
            f"{human_size(ensemble_size())}: clipmod models download ensemble"
        )
    return f"auto took the ensemble: {names}"


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
