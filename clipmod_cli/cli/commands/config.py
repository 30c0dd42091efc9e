"""`clipmod config show`: every setting, its value and where it came from."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, get_args

import typer

from clipmod_cli.cli.options import ENVIRONMENT_NOTE, Flags, with_settings
from clipmod_cli.settings.definition import SERVE_DEFAULTS, Group, option_of

app = typer.Typer(help="Show the settings and their origins.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """Show the settings and their origins."""


@app.command(epilog=ENVIRONMENT_NOTE)
@with_settings(*(group for group in get_args(Group) if group != "secret"), without=frozenset({"json"}))
def show(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    flags: Flags,
) -> None:
    """Print every setting, its value, and where it came from: flag, environment, file or default."""
    from clipmod_cli.cli.terminal.stdout import say
    from clipmod_cli.settings.file import default_config_path
    from clipmod_cli.settings.reading import resolve

    resolved = resolve(flags)
    for warning in resolved.warnings:
        say(f"clipmod: warning: {warning}")
    values = {name: _masked(name, v) for name, v in dataclasses.asdict(resolved.settings).items()}
    if as_json:
        rows = {name: {"value": value, "from": resolved.origins[name]} for name, value in values.items()}
        typer.echo(json.dumps(rows))
        return
    width = max(map(len, values))
    for name, value in values.items():
        origin = resolved.origins[name]
        other = SERVE_DEFAULTS.get(name) if origin == "default" else None
        note = f" (clipmod serve: {other})" if other else ""
        typer.echo(f"{name:<{width}}  {_as_text(value):<24}  {origin}{note}")
    where = resolved.file or f"{default_config_path()} (does not exist)"
    typer.echo(f"\nsettings file: {where}", err=True)


def _masked(name: str, value: object) -> object:
    """Return the value with secrets and the values of headers masked."""
    if name == "header" and isinstance(value, tuple):
        return tuple(f"{header.partition(':')[0]}: ***" for header in value)
    return "***" if value and option_of(name).group == "secret" else value


def _as_text(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ", ".join(map(str, value)) or "-"
    return str(value)
