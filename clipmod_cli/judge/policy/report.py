"""Gathers what is wrong with one policy file, each fault on its line and in one sentence.

Knows TOML and how to word a fault, but not what a policy may hold: that is
`clipmod_cli.judge.policy.check` (keys, types, ranges) and `clipmod_cli.judge.policy.rules`
(what the values mean together).
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from clipmod_cli.judge.policy.toml_lines import Path, locate

SHOWN_LENGTH: Final = 60
# What a message quotes of a value; a sentence must stay one line.

_PLACE_IN_MESSAGE = re.compile(r"\s*\((?:at line (\d+), column \d+|at end of document)\)$")


class PolicyProblem(NamedTuple):
    """One fault of a policy file.

    Attributes:
        line: from 1.
        message: what is wrong, without the file's name.
    """

    line: int
    message: str


class PolicyReport:
    """The faults of one file. It knows on which line each of its keys stands."""

    def __init__(self, lines: Mapping[Path, int]) -> None:
        """Keep what `clipmod_cli.judge.policy.toml_lines.locate` found."""
        self._lines = lines
        self.problems: list[PolicyProblem] = []

    def add(self, path: Path, message: str) -> None:
        """Note a fault at the value that `path` leads to."""
        self.problems.append(PolicyProblem(self.line(path), message))

    def wrong(self, path: Path, wanted: str, value: object) -> None:
        """Note that the value at `path` is not what is wanted there."""
        key = path[:-1] if isinstance(path[-1], int) else path
        name = f"each of {quoted(str(key[-1]))}" if key != path else quoted(str(key[-1]))
        self.add(path, f"{name}{inside(key)} must be {wanted}, not {_kind(value)}")

    def line(self, path: Path) -> int:
        """Return the line of a value, or of the nearest table around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)


def parse(text: str) -> tuple[dict[str, Any], PolicyReport]:
    """Return a TOML text's values and a report that knows their lines.

    Where the text is not TOML at all, the values are empty and the report says why.
    """
    try:
        return tomllib.loads(text), PolicyReport(locate(text))
    except RecursionError:
        return {}, _unreadable(1, "lists or tables are nested too deeply")
    except ValueError as error:
        message = _PLACE_IN_MESSAGE.sub("", str(error))
        return {}, _unreadable(_line_of(error, text), f"not valid TOML: {message[:1].lower()}{message[1:]}")


def _line_of(error: ValueError, text: str) -> int:
    place = _PLACE_IN_MESSAGE.search(str(error))
    if place is None:
        return 1
    return int(place[1]) if place[1] else text.rstrip("\n").count("\n") + 1


def _unreadable(line: int, message: str) -> PolicyReport:
    report = PolicyReport({})
    report.problems.append(PolicyProblem(line, message))
    return report


def inside(path: Path) -> str:
    """Return ` in [[categories]]` and the like: the table in which the key `path` stands."""
    match [step for step in path[:-1] if isinstance(step, str)]:
        case []:
            return ""
        case ["categories"]:
            return " in [[categories]]"
        case ["categories", inner, *_]:
            return f" in {quoted(inner)} of [[categories]]"
        case [table, *_]:
            return f" in [{table}]"
        case _:
            raise AssertionError


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return ` (did you mean "..."?)`, or nothing where no known word is close."""
    close = get_close_matches(word, sorted(known), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


def quoted(text: str) -> str:
    """Return text in double quotes, on one line, without control signs, and not too long."""
    short = text if len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 1] + "…"
    return json.dumps(short, ensure_ascii=False).replace("\x7f", "\\u007f")


def _kind(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return str(value)
        case int():
            return str(value) if abs(value) < 10**15 else "a huge number"
        case str():
            return "a string" if value.strip() else "an empty string"
        case list():
            return "a list" if value else "an empty list"
        case dict():
            return "a table" if value else "an empty table"
        case _:
            return "a date or a time"
