"""`clipmod policies`: list the built-in policies, print one, check, test and compare policies."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipmod_cli.cli.options import WITHOUT_RISK, Flags, with_settings
from clipmod_cli.cli.usage.completion import complete_policy
from clipmod_cli.errors import ExitCode

if TYPE_CHECKING:
    from clipmod_cli.judge.policy.values import Policy

app = typer.Typer(
    name="policies",
    help="Show the built-in policies; check, test and compare policy files.",
    no_args_is_help=True,
)

TEST_EXAMPLES = """
\b
Examples:
  clipmod policies test mine.toml                       by the models of scan
  clipmod policies test mine.toml --models nudenet --sensitivity high
  clipmod policies test mine.toml --json | jq 'select(.passed | not)'
"""

AsJson = Annotated[bool, typer.Option("--json", help="JSON Lines on stdout even on a terminal.")]


@app.command("list")
def list_policies(*, as_json: AsJson = False) -> None:
    """List the built-in policies and what each of them flags."""
    from clipmod_cli.judge.policy.reading import BUILTIN, load_policy

    policies = [load_policy(name) for name in BUILTIN]
    if as_json or not sys.stdout.isatty():
        for policy in policies:
            _print_json({**_summary(policy), "default_of": list(_default_of(policy))})
    else:
        _print_table(policies)


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A built-in policy.", autocompletion=complete_policy)
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Print a built-in policy as TOML, ready to be copied and changed."""
    from clipmod_cli.judge.policy.reading import builtin_text, load_policy

    text = builtin_text(name)
    if as_json:
        _print_json(_complete_table(load_policy(name)))
    else:
        typer.echo(text, nl=False)


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Policy files (TOML).")],
    *,
    as_json: AsJson = False,
) -> None:
    """Check policy files and print every fault with its line. Exits with 2 if there is one."""
    faults = [_check_file(file, as_json=as_json) for file in files]
    if any(faults):
        raise typer.Exit(ExitCode.USAGE)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="A built-in policy or a policy file.")],
    after: Annotated[str, typer.Argument(metavar="B", help="What would judge in its place.")],
    *,
    evidence: Annotated[
        Path,
        typer.Option("--evidence", metavar="DIR", help="The folder of `scan --evidence DIR`."),
    ],
    show: Annotated[int, typer.Option(metavar="N", min=0, help="Changed inputs to list.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show which decisions change between two policies, on stored evidence."""
    from clipmod_cli.cli.commands.results.rescoring import compare_policies_on

    compare_policies_on(evidence, before, after, show=show, as_json=as_json)


@app.command("test", epilog=TEST_EXAMPLES)
@with_settings(
    "judging",
    "machine",
    "cache",
    "talk",
    without=frozenset({"policy", "classes", "unsafe", "bank", "progress", "risk", "screen"}),
    choices=WITHOUT_RISK,
)
def run_tests(
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="a policy file (.toml) with [[tests]]")],
    *,
    as_json: AsJson = False,
    flags: Flags,
) -> None:
    """Judge the pictures of a policy's [[tests]]. Exits with 1 if one is not what it must be."""
    from clipmod_cli.cli.commands.evaluate.policy_tests import run_policy_tests
    from clipmod_cli.cli.terminal.logs import resolve_settings

    resolved = resolve_settings({**flags, "policy": policy})
    raise typer.Exit(run_policy_tests(resolved, as_json=as_json))


def _check_file(file: str, *, as_json: bool) -> list[str]:
    """Print the faults of a file, or that it is OK; return the faults."""
    from clipmod_cli.errors import PolicyError
    from clipmod_cli.judge.policy.reading import read_policy
    from clipmod_cli.judge.policy.values import policy_notes

    faults: list[str] = []
    notes: list[str] = []
    policy = None
    try:
        policy = read_policy(file)
        notes = list(policy_notes(policy))
    except PolicyError as error:
        faults = str(error).splitlines()
    if as_json:
        known = _summary(policy) if policy else None
        _print_json(
            {"file": file, "ok": policy is not None, "errors": faults, "notes": notes, "policy": known}
        )
        return faults
    for line in (*faults, *(f"{file}: note: {note}" for note in notes)):
        typer.echo(line, err=True)
    if policy:
        typer.echo(f"{file}: OK ({_describe(policy)})", err=True)
    return faults


def _default_of(policy: Policy) -> tuple[str, ...]:
    """Return the commands whose default policy this is."""
    from clipmod_cli.settings.definition import DEFAULT_POLICY, SERVE_DEFAULTS

    by_command = {"scan": DEFAULT_POLICY, "urls": DEFAULT_POLICY, "serve": SERVE_DEFAULTS["policy"]}
    return tuple(command for command, name in by_command.items() if name == policy.name)


def _describe(policy: Policy) -> str:
    flagged = ", ".join(policy.unsafe) or "nothing"
    parts = [f"policy {policy.name}", f"{len(policy.categories)} categories", f"flags {flagged}"]
    if policy.is_independent:
        parts.append("scores categories independently")
    tests = len(policy.tests)
    if tests:
        parts.append(f"{tests} test{'s' if tests > 1 else ''}")
    return ", ".join((*parts, f"hash {policy.hash}"))


def _summary(policy: Policy) -> dict[str, Any]:
    return {
        "name": policy.name,
        "description": policy.description,
        "scoring": policy.scoring,
        "unsafe": list(policy.unsafe),
        "safe": [c.name for c in policy.categories if c.safety == "SAFE"],
        "policy_hash": policy.hash,
        "tests": len(policy.tests),
    }


def _complete_table(policy: Policy) -> dict[str, Any]:
    """Return a policy as the keys of its TOML file, defaults included."""
    from dataclasses import asdict

    table = asdict(policy)
    video = {key: table.pop(key) for key in ("persistence_s", "max_gap_s")}
    return {**table, "video": video, "policy_hash": policy.hash}


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))


def _print_table(policies: list[Policy]) -> None:
    from clipmod_cli.cli.terminal.tables import stdout_console, table_of

    rows = [
        (f"{policy.name}{_marked(policy)}", ", ".join(policy.unsafe) or "nothing", policy.description)
        for policy in policies
    ]
    stdout_console().print(table_of(("policy", "flags", "for"), rows))


def _marked(policy: Policy) -> str:
    commands = ", ".join(_default_of(policy))
    return f" (default of {commands})" if commands else ""
