"""`clipmod models list|download|verify`: what can judge, and whether its weights are here.

Talks and nothing else; finding and fetching is `clipmod_cli.models.hub.weights`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipmod_cli.errors import MissingModelError, SpecError

if TYPE_CHECKING:
    from clipmod_cli.models.hub.progress import DownloadProgress
    from clipmod_cli.models.hub.weights import Hub, WeightFiles
    from clipmod_cli.models.registry import KnownModel
    from clipmod_cli.models.specs import ModelSpec

app = typer.Typer(
    name="models", help="What can judge: list it, download it, verify it.", no_args_is_help=True
)

Specs = Annotated[
    list[str], typer.Argument(metavar="SPEC", help="ensemble, fallback, nudenet, or model specs")
]
SomeSpecs = Annotated[
    list[str] | None,
    typer.Argument(metavar="SPEC", help="models to read again (default: every one that is here)"),
]


@app.command("list")
def list_models(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines on stdout even on a terminal")] = False,
) -> None:
    """Show what can judge, its size, licence, revision, and whether it is on this machine."""
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
        bool, typer.Option("--offline", envvar="CLIPMOD_OFFLINE", help="only check what is here")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="show no progress")] = False,
) -> None:
    """Fetch the weights of models, check them, lock their revision, and write their 16-bit towers."""
    from clipmod_cli.cli.terminal.download_bar import DownloadBar
    from clipmod_cli.models.hub.weights import Hub, download

    hub = Hub.of_environment(offline=offline)
    with DownloadBar(quiet=quiet) as progress:
        for spec in _named(specs):
            files = download(spec, hub=hub, progress=progress)
            if spec.kind in ("open_clip", "open_clip_dir"):
                _keep_tower(spec, files, progress)
            typer.echo(f"{spec.spec}: {files.folder}")


@app.command("verify")
def verify_models(specs: SomeSpecs = None) -> None:
    """Read the weights again and compare them with what was locked at the first download."""
    from clipmod_cli.models.hub.weights import Hub, verify

    hub = Hub.of_environment()
    chosen = _named(specs) if specs else _all_here(hub)
    if not chosen:
        typer.echo("No weights are on this machine yet: clipmod models download ensemble", err=True)
    wrong, towers = [], []
    for spec in chosen:
        problems = verify(spec, hub=hub)
        of_tower = [] if problems else _tower_problems(spec, hub)
        typer.echo(f"{spec.spec}: {'; '.join(problems or of_tower) or 'good'}")
        wrong += [spec] if problems else []
        towers += [spec] if of_tower else []
    if wrong or towers:
        raise MissingModelError(
            f"{len(wrong) + len(towers)} of {len(chosen)} models failed the check. "
            f"{' '.join(_remedies(wrong, towers))}"
        )


def _keep_tower(spec: ModelSpec, files: WeightFiles, progress: DownloadProgress) -> None:
    """Write what makes the next start fast; without it the model judges all the same."""
    from clipmod_cli.models.open_clip.source import source_of
    from clipmod_cli.models.open_clip.towers import keep_tower

    try:
        keep_tower(source_of(spec, files), progress)
    except MissingModelError as e:
        progress.say(f"no 16-bit tower was written: {e}")


def _tower_problems(spec: ModelSpec, hub: Hub) -> list[str]:
    """Return what is wrong with the 16-bit tower of a model whose weights are good."""
    from clipmod_cli.models.hub.weights import locate

    files = locate(spec, hub=hub)
    if spec.kind not in ("open_clip", "open_clip_dir") or files is None:
        return []
    from clipmod_cli.models.open_clip.source import source_of
    from clipmod_cli.models.open_clip.towers import tower_problems

    try:
        return tower_problems(source_of(spec, files))
    except MissingModelError as e:
        return [str(e)]


def _named(texts: Sequence[str]) -> list[ModelSpec]:
    """Return the models that the arguments name, each once; weights are of no account here."""
    from clipmod_cli.models.specs import parse_models

    specs: dict[str, ModelSpec] = {}
    for text in texts:
        members = parse_models([text])
        if members == "auto":
            raise SpecError("auto takes what is here and never downloads: name ensemble, fallback or a model")
        specs |= {member.spec.spec: member.spec for member in members}
    return list(specs.values())


def _all_here(hub: Hub) -> list[ModelSpec]:
    from clipmod_cli.models.hub.weights import downloaded, locate
    from clipmod_cli.models.specs import NUDENET, parse_spec

    detector = parse_spec(NUDENET)
    bundled = [detector] if locate(detector, hub=hub) else []
    return [parse_spec(text) for text in downloaded(hub)] + bundled


def _remedies(specs: Sequence[ModelSpec], towers: Sequence[ModelSpec]) -> list[str]:
    """Return the commands that mend these models, and those whose 16-bit tower alone is wrong."""
    fetched = [spec.spec for spec in specs if spec.kind in ("open_clip", "hf")]
    fetched += [spec.spec for spec in towers]
    told = [f"To mend it: clipmod models download {' '.join(fetched)}."] if fetched else []
    if any(spec.kind == "nudenet" for spec in specs):
        told.append("To mend the detector: pip install --force-reinstall --no-deps nudenet.")
    told += [f"Put {spec.path} right by hand." for spec in specs if spec.path]
    return told


def _rows() -> list[dict[str, Any]]:
    from clipmod_cli.models.hub.weights import Hub, downloaded, locate
    from clipmod_cli.models.registry import KNOWN, SEE_CARD, KnownModel
    from clipmod_cli.models.specs import parse_spec

    hub = Hub.of_environment()
    rows = [_row(model, locate(parse_spec(model.spec), hub=hub)) for model in KNOWN]
    known = {model.spec for model in KNOWN}
    for spec, files in downloaded(hub).items():
        if spec not in known:
            model = KnownModel(spec=spec, about="downloaded before", size=None, licence=SEE_CARD)
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
    from rich.console import Console
    from rich.table import Column, Table

    from clipmod_cli.models.registry import human_size

    # A spec is there to be copied, so its column is the last to be made narrower.
    model = Column("model", no_wrap=True, min_width=max(len(row["spec"]) for row in rows), overflow="fold")
    table = Table(model, "what it is", "size", "licence", "revision", "here", box=None, pad_edge=False)
    for row in rows:
        size, revision = human_size(row["size_bytes"]), (row["revision"] or "-")[:7]
        here = "yes" if row["on_this_machine"] else "no"
        table.add_row(row["spec"], row["about"], size, row["licence"], revision, here)
    Console(markup=False, highlight=False).print(table)
