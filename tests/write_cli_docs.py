"""Writes docs/cli.md from the commands' own help: `python -m tests.write_cli_docs`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs" / "cli.md"
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


if __name__ == "__main__":
    DOCS.write_text(write_page(), encoding="utf-8")
