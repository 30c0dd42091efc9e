"""What `doctor` looks at. Each check returns what it found; none raises, none changes anything."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from clipmod_cli import __version__
from clipmod_cli.errors import ClipmodError

PACKAGES = ("torch", "torchvision", "open_clip_torch", "pillow", "duckdb", "huggingface_hub")
EXTRAS = {
    "nudenet": "nudenet",
    "onnxruntime": "nudenet",
    "transformers": "hf",
    "pillow_heif": "heic",
    "av": "video",
    "s3fs": "stores",
    "gcsfs": "stores",
}
MIN_FREE_BYTES = 2 * 10**9
"""Less than this on the disk, and a night's output or a download may not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the doctor's report.

    Attributes:
        mend: the command that brings what is missing; empty if there is nothing to do.
    """

    group: Literal["versions", "device", "decoders", "models", "places", "platform"]
    name: str
    state: Literal["ok", "note", "missing"]
    detail: str
    mend: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def run_checks(*, offline: bool) -> list[Check]:
    """Return the report, in the order it is read. Takes at most some ten seconds."""
    return [*_versions(), *_device(), *_decoders(), *_models(offline=offline), *_places(), *_platform()]


def _versions() -> Iterator[Check]:
    python = platform.python_version()
    yield Check(group="versions", name="clipmod", state="ok", detail=f"{__version__}, Python {python}")
    for name in PACKAGES:
        yield Check(group="versions", name=name, state="ok", detail=importlib.metadata.version(name))
    for name, extra in EXTRAS.items():
        try:
            yield Check(group="versions", name=name, state="ok", detail=importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            mend = f"pip install '.[{extra}]'"
            yield Check(
                group="versions", name=name, state="note", detail="not installed (optional)", mend=mend
            )


def _device() -> Iterator[Check]:
    import torch

    from clipmod_cli.models.device.device import has_fast_bfloat16, place

    placement = place("auto", "auto")
    detail = f"{placement.device} in {placement.dtype_name}, batches of {placement.batch_size}"
    yield Check(group="device", name="auto", state="ok", detail=detail)
    fast = "multiplies bfloat16 in hardware" if has_fast_bfloat16() else "has no bfloat16 in hardware"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Check(group="device", name="cpu", state="ok", detail=f"{cores} cores, {fast}")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Check(
        group="device", name="cuda", state="ok" if names else "note", detail=", ".join(names) or "no device"
    )


def _decoders() -> Iterator[Check]:
    from PIL import features

    for name, feature in (
        ("JPEG", "jpg"),
        ("PNG", "zlib"),
        ("WebP", "webp"),
        ("AVIF", "avif"),
        ("TIFF", "libtiff"),
    ):
        there = features.check(feature)
        yield Check(
            group="decoders",
            name=name,
            state="ok" if there else "missing",
            detail=str(features.version(feature) or "built in") if there else "Pillow was built without it",
            mend="" if there else "pip install --force-reinstall pillow",
        )
    yield Check(group="decoders", name="GIF, BMP", state="ok", detail="built in")


def _models(*, offline: bool) -> Iterator[Check]:
    from clipmod_cli.models.backend import human_size
    from clipmod_cli.models.backends import NUDENET
    from clipmod_cli.models.hub.client import Hub
    from clipmod_cli.models.hub.weights import locate
    from clipmod_cli.models.registry import BACKENDS, known
    from clipmod_cli.models.specs import ENSEMBLE, parse_models
    from clipmod_cli.models.tower.storage import tower_size

    hub = Hub.from_environment(offline=offline)
    members = parse_models([ENSEMBLE])
    for member in () if members == "auto" else members:
        try:
            files, trouble = locate(member.spec, hub=hub), ""
        except ClipmodError as e:
            files, trouble = None, str(e)
        here, tower = files is not None, tower_size(member.spec, files)
        about = known(member.spec)
        size = human_size(about.size if about else None)
        kept = f"its 16-bit tower too ({human_size(tower)})" if tower else "its 16-bit tower not yet"
        where = f"here, {kept}" if here else trouble or f"not here ({size})"
        yield Check(
            group="models",
            name=str(member.spec.arch),
            state="ok" if here else "note",
            detail=f"{member.weight:.0%} of the ensemble, {where}",
            mend="" if here else f"clipmod models download {member.spec.spec}",
        )
    detector = BACKENDS[NUDENET]
    there = detector.local_files(detector.parse(NUDENET)) is not None
    yield Check(
        group="models",
        name="nudenet",
        state="ok" if there else "note",
        detail="detector, needs no download" if there else "not installed (optional)",
        mend="" if there else detector.install,
    )
    yield _hub(hub)


def _hub(hub: Any) -> Check:
    from clipmod_cli.models.hub.client import fetch_repo_state

    if hub.offline:
        return Check(group="places", name="hub", state="note", detail="not asked (offline)")
    try:
        fetch_repo_state(hub, "laion/CLIP-ViT-L-14-laion2B-s32B-b82K", None)
    except ClipmodError as e:
        return Check(group="places", name="hub", state="note", detail=str(e))
    return Check(group="places", name="hub", state="ok", detail=f"{hub.display_url} answers")


def _places() -> Iterator[Check]:
    from clipmod_cli.ensemble.cache_file import default_path
    from clipmod_cli.models.hub.client import Hub
    from clipmod_cli.models.open_clip.text_cache import default_folder
    from clipmod_cli.output.history.store import default_db_path
    from clipmod_cli.settings.reading import default_config_path

    yield _place("weights", Hub.from_environment().cache_dir, "set HF_HOME to a folder that can be written")
    yield _place("text cache", default_folder(), "set XDG_CACHE_HOME to a folder that can be written")
    yield _place("seen before", default_path().parent, "set XDG_CACHE_HOME, or use --no-cache")
    yield _place("store", default_db_path().parent, "set CLIPMOD_DB or --db to a file that can be written")
    config = default_config_path()
    detail = f"{config}" + ("" if config.exists() else " (not there; defaults hold)")
    yield Check(group="places", name="settings", state="ok", detail=detail)


def _place(name: str, folder: Path, mend: str) -> Check:
    there = folder
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK):
        return Check(
            group="places", name=name, state="missing", detail=f"{folder} cannot be written", mend=mend
        )
    free = shutil.disk_usage(there).free
    state: Literal["ok", "note"] = "ok" if free >= MIN_FREE_BYTES else "note"
    return Check(group="places", name=name, state=state, detail=f"{folder}, {free / 1e9:.0f} GB free")


def _platform() -> Iterator[Check]:
    yield Check(group="platform", name="system", state="ok", detail=platform.platform())
    lacks = {
        "win32": "no SIGHUP, no names that are not Unicode, no memory limit for decoders",
        "darwin": "file names as the disk normalises them, no CUDA, no memory limit for decoders",
    }
    if sys.platform in lacks:
        yield Check(group="platform", name="limits", state="note", detail=lacks[sys.platform])
