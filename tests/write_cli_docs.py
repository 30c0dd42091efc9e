"""Writes docs/cli.md from the commands' own help: `python -m tests.write_cli_docs`."""

from __future__ import annotations

import os
import subprocess
import sys
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


def read_help(command: tuple[str, ...]) -> str:
    """Return what `clipmod COMMAND --help` prints, at a fixed width and without colour."""
    environment = {**os.environ, "COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb"}
    words = [sys.executable, "-m", "clipmod_cli", *command, "--help"]
    run = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return run.stdout.replace("python -m clipmod_cli", "clipmod").rstrip()


def write_page() -> str:
    """Return the whole page."""
    sections = [
        f"## `{' '.join(('clipmod', *command))}`\n\n```text\n{read_help(command)}\n```\n"
        for command in COMMANDS
    ]
    return "\n".join([HEAD, *sections])


if __name__ == "__main__":
    DOCS.write_text(write_page(), encoding="utf-8")
