"""What `clipmod bench` measured on this machine, kept in the user's cache folder for `--dry-run`.

One file for each choice of models, device, precision and batch size. Figures of another version, machine or
library are never used.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clipmod_cli import __version__
from clipmod_cli.atomic import atomic_file
from clipmod_cli.bench.report import Report
from clipmod_cli.errors import SettingsError
from clipmod_cli.models.device.processor import name_cpu
from clipmod_cli.pipeline import default_workers
from clipmod_cli.settings.definition import Settings
from clipmod_cli.types import Geometry

log = logging.getLogger(__name__)

FIGURES_SCHEMA: Final = "clipmod-figures/1"
LIBRARIES: Final = (
    "av", "onnxruntime", "onnxruntime-gpu", "pillow", "simplejpeg", "torch", "torchvision", "transformers",
)  # fmt: skip
"""The packages that decide how long decoding and models take."""

KEY: Final = ("device", "dtype", "batch_size", "compile")
"""The settings, beside the models, that figures are kept by."""


class Figures(BaseModel):
    """One measurement, and what it holds for."""

    model_config = ConfigDict(
        frozen=True, allow_inf_nan=False, protected_namespaces=(), serialize_by_alias=True
    )

    name: Literal["clipmod-figures/1"] = Field(default=FIGURES_SCHEMA, alias="schema")
    measured_at: datetime
    libraries: dict[str, str]
    geometries: list[Geometry]
    report: Report

    @property
    def ms_a_view(self) -> float:
        """The time of a view through all models, in milliseconds."""
        return self.report.stages["forward"].ms


@dataclass(frozen=True, slots=True)
class NoFigures:
    """Why there are none that can be used, as a sentence."""

    reason: str


def figures_path(models: Iterable[str], settings: Settings) -> Path:
    """Return where the figures of these models and settings are kept."""
    from platformdirs import user_cache_path

    asked = {name: getattr(settings, name) for name in KEY} | {"models": sorted(models)}
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    return user_cache_path("clipmod", appauthor=False) / "bench" / f"{key}.json"


def save(report: Report, geometries: Sequence[Geometry], settings: Settings, at: datetime) -> Path | None:
    """Keep a measurement in place of an earlier one of the same models and settings; return its path.

    One that cannot be written is no error: None, and a message.

    Args:
        report: what was measured.
        geometries: of the models.
        settings: it was measured with.
        at: when.
    """
    path = figures_path(report.setup.models, settings)
    figures = Figures(measured_at=at, libraries=dict(_versions()), geometries=list(geometries), report=report)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic_file(path) as file:
            file.write(figures.model_dump_json(indent=1).encode() + b"\n")
    except OSError as e:
        log.warning("the figures are not kept for --dry-run: %s: %s", path, e.strerror)
        return None
    return path


def find(models: Iterable[str], settings: Settings) -> Figures | NoFigures:
    """Return the figures of these models and settings that hold on this machine now."""
    path = figures_path(models, settings)
    try:
        figures = Figures.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return NoFigures("no figures of these models and settings are stored")
    except OSError as e:
        return NoFigures(f"the stored figures cannot be read: {path}: {e.strerror}")
    except ValidationError:
        return NoFigures(f"the stored figures are broken: {path}")
    changed = next(_changes(figures, settings), None)
    return NoFigures(f"the stored figures are of {changed}") if changed else figures


def _changes(figures: Figures, settings: Settings) -> Iterator[str]:
    """Yield what is another than when the figures were measured."""
    report, machine = figures.report, figures.report.machine
    if report.version != __version__:
        yield f"clipmod {report.version}, and this is {__version__}"
    if (machine.cpu, machine.cores) != (name_cpu(), default_workers()):
        yield f"{machine.cores} cores of {machine.cpu}, and here are {default_workers()} of {name_cpu()}"
    now = dict(_versions())
    for name in LIBRARIES:
        if figures.libraries.get(name) != now.get(name):
            here = f"and here is {now[name]}" if name in now else "which is not installed here"
            yield (
                f"{name} {figures.libraries[name]}, {here}"
                if name in figures.libraries
                else (f"a machine without {name}")
            )
    if machine.torch is not None:
        yield from _changed_device(report, settings)


def _changed_device(report: Report, settings: Settings) -> Iterator[str]:
    """Yield the device or precision of torch if it is not what the settings choose now."""
    from clipmod_cli.models.device import machine
    from clipmod_cli.models.device.device import dtype_name, place

    try:
        placement = place(settings.device, settings.dtype)
    except SettingsError as e:
        yield f"{report.machine.device}: {e}"
        return
    device = machine.name_device(placement)
    if (report.machine.device, report.machine.devices) != (device, len(placement.devices)):
        yield f"{report.machine.device}, and models compute on {device} now"
    possible = {dtype_name(one) for one in (*placement.candidates, placement.dtype)} | {"float32"}
    if not {*report.setup.dtype.split("+")} <= possible:
        yield f"{report.setup.dtype}, which --dtype {settings.dtype} does not choose on {device}"


def _versions() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
