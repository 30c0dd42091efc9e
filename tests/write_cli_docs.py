"""Writes docs/cli.md from the commands' help, docs/errors.md, and the table of docs/settings.md.

Run: `python -m tests.write_cli_docs`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import Field, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import typer

from clipmod_cli import errors
from clipmod_cli.cli.main import app
from clipmod_cli.cli.options import PANELS
from clipmod_cli.settings.definition import ENV_PREFIX, SERVE_DEFAULTS, Settings, flag_of

FOLDER = Path(__file__).parent.parent / "docs"
DOCS = FOLDER / "cli.md"
ERROR_DOCS = FOLDER / "errors.md"
SETTINGS_DOCS = FOLDER / "settings.md"
SETTINGS_MARK = "## All settings\n"
"""What follows it in the page is generated."""


def _commands(command: Any, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield the names of a command and of all below it, in the order of help; True with `--help-all`."""
    yield name, any("--help-all" in one.opts for one in command.params)
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for word in command.list_commands(context):
            yield from _commands(command.get_command(context, word), (*name, word))


WITH_HELP_ALL = dict(_commands(typer.main.get_command(app)))
COMMANDS = tuple(WITH_HELP_ALL)

HEAD = """# The command line

Generated from the commands' own help (`make docs`); a test holds the two together. `--help` leaves out rarely
used options, `--help-all` lists what stands here. Each option is also a setting: [settings.md](settings.md).
What the records and exit codes mean is in the [README](../README.md), and `clipmod schema` prints every field
of a record.
"""

ASKING = """
import contextlib, io, json, sys
from clipmod_cli.cli.main import run
answers = []
commands, full = map(json.loads, sys.argv[1:])
for command in commands:
    sys.argv = ["clipmod", *command, "--help-all" if command in full else "--help"]
    code, text = None, io.StringIO()
    with contextlib.redirect_stdout(text):
        try:
            run()
        except SystemExit as e:
            code = e.code
    answers.append([code, text.getvalue(), sorted({name.partition(".")[0] for name in sys.modules})])
print(json.dumps(answers))
"""


@dataclass(frozen=True, slots=True)
class Help:
    """What `clipmod COMMAND --help` comes to.

    Attributes:
        modules: the top-level names of all that was imported for it and for the commands before it.
    """

    code: int
    text: str
    modules: frozenset[str]


@cache
def read_helps() -> dict[tuple[str, ...], Help]:
    """Return the help of each command, at a fixed width and without colour; one process gives them all."""
    environment = {**os.environ, "COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb"}
    full = [name for name, has in WITH_HELP_ALL.items() if has]
    words = [sys.executable, "-c", ASKING, json.dumps(COMMANDS), json.dumps(full)]
    run = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=120)
    answers = zip(COMMANDS, json.loads(run.stdout), strict=True)
    return {command: Help(code, text.rstrip(), frozenset(names)) for command, (code, text, names) in answers}


def write_page() -> str:
    """Return the whole page."""
    sections = [
        f"## `{' '.join(('clipmod', *command))}`\n\n```text\n{told.text}\n```\n"
        for command, told in read_helps().items()
    ]
    return "\n".join([HEAD, *sections])


ERRORS_HEAD = """# Errors

Generated from `clipmod_cli/errors.py` (`make docs`); a test holds the two together.

## Exit codes

How a command ends. Where several codes apply, the first in this table wins.

| code | meaning |
|---|---|
"""
ITEMS_HEAD = """
## Error codes of an input

An input that cannot be judged gets a record with `"status": "error"` and one of these codes in
`error.code`. Retryable ones are judged again by the same command with the same `-o`; *cured* ones are when
this run has a decoder, a header, a port or an access to private addresses that the earlier one had not; any
other by `--retry errors|CODE`. HTTP is the status of a request to `clipmod serve` that fails with the code.

| code | cause | fix | retryable | HTTP |
|---|---|---|---|---|
"""
EXCEPTIONS_HEAD = """
## Exceptions

What the library raises; all are subclasses of `clipmod_cli.ClipmodError`.

| exception | meaning | exit code | HTTP |
|---|---|---|---|
"""


def exceptions(base: type[errors.ClipmodError] = errors.ClipmodError) -> Iterator[type[errors.ClipmodError]]:
    """Yield the exceptions of `clipmod_cli.errors` that end a run, parents before children."""
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__ and kind is not errors.ItemError:
            yield kind
            yield from exceptions(kind)


def write_errors_page() -> str:
    """Return the whole page on errors."""
    codes = [f"| {code.value} | {code.meaning} |" for code in errors.ExitCode]
    items = [
        f"| `{code}` | {info.cause} | {info.fix} | {_retryable(code)} | {info.http_status} |"
        for code, info in errors.ERROR_CODES.items()
    ]
    kinds = [
        f"| `{kind.__name__}` | {(kind.__doc__ or '').splitlines()[0]} | {kind.exit_code.value} "
        f"| {kind.http_status} |"
        for kind in exceptions()
    ]
    sections = ((ERRORS_HEAD, codes), (ITEMS_HEAD, items), (EXCEPTIONS_HEAD, kinds))
    return "".join(head + "".join(f"{row}\n" for row in rows) for head, rows in sections)


def _retryable(code: errors.ErrorCode) -> str:
    if code == "http_error":
        return "408, 425, 429, 5xx; else cured"
    if errors.is_retryable(code):
        return "yes"
    return "cured" if errors.ERROR_CODES[code].cured_by else "no"


def write_settings_page() -> str:
    """Return the page on settings: the guide that is there, and the table of all settings."""
    guide = SETTINGS_DOCS.read_text(encoding="utf-8").partition(SETTINGS_MARK)[0]
    shown = [f for f in fields(Settings) if f.metadata["option"].group != "secret"]
    parts = [guide, SETTINGS_MARK, "\n"]
    for title in dict.fromkeys(PANELS.values()):
        parts.append(
            f"\n### {title}\n\n| option | variable | key | default | meaning |\n|---|---|---|---|---|\n"
        )
        parts += [_setting_row(f) for f in shown if PANELS[f.metadata["option"].group] == title]
    return "".join(parts)


def _setting_row(setting: Field[Any]) -> str:
    option = setting.metadata["option"]
    flags = ", ".join(f"`{flag}`" for flag in option.flags or (flag_of(setting.name),))
    match setting.default:
        case None | () | "":
            default = ""
        case bool():
            default = str(setting.default).lower()
        case tuple():
            default = ", ".join(setting.default)
        case _:
            default = str(setting.default)
    text = option.help.replace("|", "\\|")
    if setting.name in SERVE_DEFAULTS:
        default += f"; `serve`: {SERVE_DEFAULTS[setting.name]}"
    return f"| {flags} | `{ENV_PREFIX}{setting.name.upper()}` | `{setting.name}` | {default} | {text} |\n"


if __name__ == "__main__":
    DOCS.write_text(write_page(), encoding="utf-8")
    SETTINGS_DOCS.write_text(write_settings_page(), encoding="utf-8")
    ERROR_DOCS.write_text(write_errors_page(), encoding="utf-8")
