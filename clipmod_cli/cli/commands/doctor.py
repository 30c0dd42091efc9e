"""`clipmod doctor`: what is installed, what is missing, and the command that installs it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from clipmod_cli.errors import ExitCode

if TYPE_CHECKING:
    from clipmod_cli.cli.checks import Check

MARKS = {"ok": "ok", "note": "note", "missing": "MISSING"}


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="do not contact the model hub")] = False,
) -> None:
    """Print versions, devices, decoders, caches and disk, what is missing and the command that mends it.

    Exits 4 if no model is on this machine.
    """
    from clipmod_cli.cli.checks import run_checks

    checks = run_checks(offline=offline)
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
