"""`clipmod models list|download|verify`: what can judge, and whether its weights are here.

Talks and nothing else; finding and fetching is `clipmod_cli.models.weights`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from clipmod_cli.errors import MissingModelError, SpecError

if TYPE_CHECKING:
    from clipmod_cli.models.progress import Progress
    from clipmod_cli.models.registry import KnownModel
    from clipmod_cli.models.specs import ModelSpec
    from clipmod_cli.models.weights import WeightFiles

LINE_EVERY_S = 30.0
# How often a download says how far it is where there is no terminal to draw on.

app = typer.Typer(help="What can judge: list it, download it, verify it.", no_args_is_help=True)

Specs = Annotated[
    list[str], typer.Argument(metavar="SPEC...", help="ensemble, fallback, nudenet, or model specs")
]
SomeSpecs = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SPEC...]", help="models to read again (default: every one that is here)"),
]


@app.command("list")
def list_models(
    *, as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False
) -> None:
    """Show what can judge, its size, licence, revision, and whether it is on this machine."""
    rows = _rows()
    if as_json:
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
) -> None:
    """Fetch the weights of models, check them, and lock their revision."""
    from clipmod_cli.models.weights import Hub, download

    hub = Hub.of_environment(offline=offline)
    with telling() as progress:
        for spec in _named(specs):
            files = download(spec, hub=hub, progress=progress)
            typer.echo(f"{spec.spec}: {files.folder}")


@app.command("verify")
def verify_models(specs: SomeSpecs = None) -> None:
    """Read the weights again and compare them with what was locked at the first download."""
    from clipmod_cli.models.weights import Hub, verify

    hub = Hub.of_environment()
    chosen = _named(specs) if specs else _all_here(hub)
    if not chosen:
        typer.echo("No weights are on this machine yet: clipmod models download ensemble", err=True)
    wrong = []
    for spec in chosen:
        problems = verify(spec, hub=hub)
        typer.echo(f"{spec.spec}: {'; '.join(problems) or 'good'}")
        if problems:
            wrong.append(spec)
    if wrong:
        raise MissingModelError(
            f"{len(wrong)} of {len(chosen)} models failed the check. {' '.join(_remedies(wrong))}"
        )


@contextmanager
def telling(mode: Literal["auto", "plain", "json", "none"] = "auto") -> Iterator[Progress]:
    """Show a download on stderr: a bar on a terminal, else a line every 30 s."""
    from clipmod_cli.models.progress import SILENT

    if mode == "none":
        yield SILENT
    elif mode == "auto" and sys.stderr.isatty():
        bars = _Bars()
        try:
            yield bars
        finally:
            bars.close()
    else:
        yield _Lines(as_json=mode == "json")


class _Bars:
    """A bar for each file."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._name = ""

    def advance(self, name: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if self._bar is None or name != self._name or done < self._bar.n:
            self.close()
            self._name = name
            self._bar = tqdm(total=total, initial=done, desc=name, unit="B", unit_scale=True, file=sys.stderr)
        self._bar.update(done - self._bar.n)
        if done == total:
            self.close()

    def say(self, sentence: str) -> None:
        from tqdm import tqdm

        tqdm.write(sentence, file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None


class _Lines:
    """A line now and then."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._told = time.monotonic()

    def advance(self, name: str, done: int, total: int) -> None:
        from clipmod_cli.models.registry import human_size

        if time.monotonic() - self._told < LINE_EVERY_S:
            return
        self._told = time.monotonic()
        if self._json:
            typer.echo(
                json.dumps({"event": "download", "file": name, "done": done, "total": total}), err=True
            )
        else:
            typer.echo(f"{name}: {human_size(done)} of {human_size(total)}", err=True)

    def say(self, sentence: str) -> None:
        line = json.dumps({"event": "message", "message": sentence}) if self._json else sentence
        typer.echo(line, err=True)


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


def _all_here(hub: Any) -> list[ModelSpec]:
    from clipmod_cli.models.specs import NUDENET, parse_spec
    from clipmod_cli.models.weights import downloaded, locate

    detector = parse_spec(NUDENET)
    bundled = [detector] if locate(detector, hub=hub) else []
    return [parse_spec(text) for text in downloaded(hub)] + bundled


def _remedies(specs: Sequence[ModelSpec]) -> list[str]:
    """Return the commands that mend these models."""
    fetched = [spec.spec for spec in specs if spec.kind in ("open_clip", "hf")]
    told = [f"To mend it: clipmod models download {' '.join(fetched)}."] if fetched else []
    if any(spec.kind == "nudenet" for spec in specs):
        told.append("To mend the detector: pip install --force-reinstall --no-deps nudenet.")
    told += [f"Put {spec.path} right by hand." for spec in specs if spec.path]
    return told


def _rows() -> list[dict[str, Any]]:
    from clipmod_cli.models.registry import KNOWN, SEE_CARD, KnownModel
    from clipmod_cli.models.specs import parse_spec
    from clipmod_cli.models.weights import Hub, downloaded, locate

    hub = Hub.of_environment()
    rows = [_row(model, locate(parse_spec(model.spec), hub=hub)) for model in KNOWN]
    known = {model.spec for model in KNOWN}
    for spec, files in downloaded(hub).items():
        if spec not in known:
            model = KnownModel(spec=spec, about="downloaded before", size=None, licence=SEE_CARD)
            rows.append(_row(model, files))
    return rows


def _row(model: KnownModel, files: WeightFiles | None) -> dict[str, Any]:
    return {
        "spec": model.spec,
        "about": model.about,
        "size_bytes": files.size if files else model.size,
        "licence": model.licence,
        "revision": files.commit or None if files else None,
        "locked": bool(files and files.sha256),
        "on_this_machine": files is not None,
        "folder": str(files.folder) if files else None,
    }


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from clipmod_cli.models.registry import human_size

    table = Table("model", "what it is", "size", "licence", "revision", "here", box=None, pad_edge=False)
    for row in rows:
        here = "yes" if row["on_this_machine"] else "no"
        revision = (row["revision"] or "-")[:7]
        table.add_row(
            row["spec"], row["about"], human_size(row["size_bytes"]), row["licence"], revision, here
        )
    # A pipe has no width: nothing is to be cut or wrapped there.
    console = Console(width=None if sys.stdout.isatty() else 250, markup=False)
    console.print(table)
