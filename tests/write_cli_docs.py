"""Writes docs/cli.md from the commands' help and docs/errors.md from `clipmod_cli.errors`.

Run: `python -m tests.write_cli_docs`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from clipmod_cli import errors

FOLDER = Path(__file__).parent.parent / "docs"
DOCS = FOLDER / "cli.md"
ERROR_DOCS = FOLDER / "errors.md"
COMMANDS = (
    (),
    ("scan",),
    ("urls",),
    ("serve",),
    ("stats",),
    ("stats", "forget"),
    ("models",),
    ("models", "list"),
    ("models", "download"),
    ("models", "verify"),
    ("policies",),
    ("policies", "list"),
    ("policies", "show"),
    ("policies", "check"),
    ("bench",),
    ("doctor",),
    ("schema",),
    ("config", "show"),
)
HEAD = """# The command line

Generated from the commands' own `--help` (`make docs`); a test holds the two together. What the records and
exit codes mean is in the [README](../README.md), and `clipmod schema` prints every field of a record.
"""

ASKING = """
import contextlib, io, json, sys
from clipmod_cli.cli.main import run
answers = []
for command in json.loads(sys.argv[1]):
    sys.argv = ["clipmod", *command, "--help"]
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
    words = [sys.executable, "-c", ASKING, json.dumps(COMMANDS)]
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
`error.code`. Retryable ones are judged again by the same command with the same `-o`. HTTP is the status
of a request to `clipmod serve` that fails with the code.

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
        return "408, 425, 429, 5xx"
    return "yes" if errors.is_retryable(code) else "no"


if __name__ == "__main__":
    DOCS.write_text(write_page(), encoding="utf-8")
    ERROR_DOCS.write_text(write_errors_page(), encoding="utf-8")
