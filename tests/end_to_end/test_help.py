"""Help fits a terminal of 80 columns, and wrong calls are answered in one style."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

import pytest

from clipmod_cli.settings.definition import flag_of, option_of
from tests.end_to_end.command import Command
from tests.setting_values import FIELD_NAMES
from tests.write_cli_docs import COMMANDS

LINES: dict[tuple[str, ...], int] = {("urls",): 90, ("serve",): 104, ("config", "show"): 140}
"""How long the help of the longest commands may be; 80 lines of all others, `scan` among them."""


@cache
def help_at_80_columns(command: tuple[str, ...], flag: str = "--help") -> str:
    environment = {**os.environ, "COLUMNS": "80"}
    words = [sys.executable, "-m", "clipmod_cli", *command, flag]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_fits_80_columns(command: tuple[str, ...]) -> None:
    text = help_at_80_columns(command)
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert len(text.splitlines()) <= LINES.get(command, 80)


def test_help_of_scan_is_in_groups() -> None:
    headings = [
        line for line in help_at_80_columns(("scan",)).splitlines() if line.endswith(":") and line[0] != " "
    ]
    assert headings == [
        "Arguments:",
        "Input:",
        "Models and policy:",
        "Output:",
        "Speed:",
        "Messages:",
        "Help:",
    ]


def test_rare_options_are_in_the_long_help_alone() -> None:
    short, full = (help_at_80_columns(("scan",), flag) for flag in ("--help", "--help-all"))
    rare = [flag_of(name) for name in FIELD_NAMES if option_of(name).rare]
    assert "--retention" in rare
    for flag in rare:
        assert f"{flag} " not in short, flag
    assert "--retention " in full
    assert set(short.split()) - {"rarely"} <= set(full.split())


WRONG = [
    (["scan", "--polcy", "x"], "no such option: --polcy. Did you mean --only or --policy?", "clipmod scan"),
    (["scna"], "no such command 'scna'. Did you mean 'scan'", "clipmod"),
    (["models", "lst"], "no such command 'lst'. Did you mean 'list'?", "clipmod models"),
    (["scan", "--limit"], "option '--limit' requires an argument", None),
    (["scan", "x", "--limit", "few"], "--limit must be a whole number, not 'few'", None),
    (["scan", "x", "--policy", "nonsense"], "nonsense", None),
    (["scan"], "no source was named", None),
    (["serve", "--early-exit", "calibrated"], "--early-exit must be off or exact here", None),
    (["policies", "test", "x.toml", "--early-exit", "calibrated"], "must be off or exact here", None),
    (["scan", "x\x1b[2J", "--\x1b[2Jx"], r"no such option: --\x1b[2Jx", "clipmod scan"),
]


@pytest.mark.parametrize(("words", "said", "command"), WRONG)
def test_wrong_calls_are_answered_in_one_style(
    clipmod: Command, words: list[str], said: str, command: str | None
) -> None:
    run = clipmod(*words)
    assert run.code == 2
    assert not run.stdout
    first, *rest = run.stderr.splitlines()
    assert first.startswith("clipmod: error: ")
    assert said in first
    if command is not None:
        assert rest == [f"Try '{command} --help'."]


def test_no_command_is_answered_with_help(clipmod: Command) -> None:
    for words in ((), ("models",)):
        run = clipmod(*words)
        assert (run.code, run.stdout) == (2, b"")
        assert run.stderr.startswith("Usage: clipmod")
