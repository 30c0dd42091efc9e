"""Checks of a policy file: keys, types and ranges by pydantic models, then what the values mean together.

All faults are listed at once, each as one sentence with its line. Reads no file (see `reading`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from clipmod_cli.errors import PolicyError, did_you_mean
from clipmod_cli.judge.policy.expectation_checks import useless_tests
from clipmod_cli.judge.policy.label_maps import repeated_labels
from clipmod_cli.judge.policy.scoring_checks import useless_heads, useless_negatives, useless_scoring
from clipmod_cli.judge.policy.tables import TABLES, PolicyTable, normalise, quoted
from clipmod_cli.judge.policy.threshold_checks import (
    Categories,
    unordered_thresholds,
    useless_promises,
    useless_thresholds,
)
from clipmod_cli.models.nudenet import LABELS
from clipmod_cli.toml_lines import TomlPath, locate

_PLACE_IN_MESSAGE = re.compile(r"\s*\((?:at line (\d+), column \d+|at end of document)\)$")


class _Faults:
    """The faults of one file, by line."""

    def __init__(self, lines: Mapping[TomlPath, int]) -> None:
        self._lines = lines
        self.found: set[tuple[int, str]] = set()

    def add(self, path: TomlPath, message: str) -> None:
        """Note a fault of the value that `path` leads to."""
        self.found.add((self.line(path), message))

    def line(self, path: TomlPath) -> int:
        """Return the line of a value, or of the nearest table around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)


def check_toml(text: str, where: str) -> dict[str, Any]:
    """Return the values that a policy's TOML text sets, lists as tuples.

    Raises:
        PolicyError: with a line `where:line: message` for each fault.
    """
    try:
        table = tomllib.loads(text)
        faults = _Faults(locate(text))
    except RecursionError as error:
        raise PolicyError(f"{where}:1: lists or tables are nested too deeply") from error
    except ValueError as error:
        message = _PLACE_IN_MESSAGE.sub("", str(error))
        line = _line_of(error, text)
        raise PolicyError(f"{where}:{line}: not valid TOML: {message[:1].lower()}{message[1:]}") from error
    checked: dict[str, Any] = {}
    try:
        checked = PolicyTable.model_validate(table).model_dump(exclude_unset=True)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["type"] not in {
                "too_short",
                "too_long",
            }:  # said of lists whose faulty items were dropped
                faults.add(*_describe(detail))
    _check_meaning(faults, table)
    if faults.found:
        raise PolicyError("\n".join(f"{where}:{line}: {message}" for line, message in sorted(faults.found)))
    return checked


def _line_of(error: ValueError, text: str) -> int:
    place = _PLACE_IN_MESSAGE.search(str(error))
    if place is None:
        return 1
    return int(place[1]) if place[1] else text.rstrip("\n").count("\n") + 1


def _describe(detail: ErrorDetails) -> tuple[TomlPath, str]:
    """Return the path and the sentence of one of pydantic's errors."""
    path, key = detail["loc"], str(detail["loc"][-1])
    match detail["type"]:
        case "missing":
            return path, f"missing {quoted(key)}{_inside(path)}"
        case "extra_forbidden":
            table = TABLES[path[0]] if len(path) > 1 else PolicyTable
            hint = did_you_mean(key, table.model_fields)
            return path, f"unknown key {quoted(key)}{_inside(path)}{hint}"
        case "value_error":  # a whole sentence from one of the functions above
            return path[:-1] if key == "[key]" else path, str(detail["ctx"]["error"])
        case _:
            return path, f"{_subject(path)} must be {detail['msg']}, not {_kind(detail['input'])}"


def _subject(path: TomlPath) -> str:
    if isinstance(path[-1], int):
        return f"each of {quoted(str(path[-2]))}{_inside(path[:-1])}"
    return f"{quoted(path[-1])}{_inside(path)}"


def _inside(path: TomlPath) -> str:
    """Return ` in [[categories]]` and the like: the table in which the key `path` stands."""
    match [step for step in path[:-1] if isinstance(step, str)]:
        case []:
            return ""
        case [("categories" | "tests") as table]:
            return f" in [[{table}]]"
        case ["categories", inner, *_]:
            return f" in {quoted(inner)} of [[categories]]"
        case [table, *_]:
            return f" in [{table}]"
        case _:
            raise AssertionError


def _kind(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return str(value)
        case int():
            return str(value) if abs(value) < 10**15 else "a huge number"
        case str():
            return quoted(value) if value.strip() else "an empty string"
        case list() | tuple():
            return "a list" if value else "an empty list"
        case dict():
            return "a table" if value else "an empty table"
        case _:
            return "a date or a time"


# What the values mean together. Values of a wrong type are skipped: pydantic has reported them.


def _check_meaning(faults: _Faults, table: Mapping[str, Any]) -> None:
    for path, message in unordered_thresholds(table.get("thresholds")):
        faults.add(path, message)
    templates = _texts(("templates",), table.get("templates"))
    _check_repeats(faults, ((path, f"the template {quoted(text)}", text) for path, text in templates))
    listed = table.get("categories")
    if not isinstance(listed, list):
        return
    if len(listed) < 2:
        faults.add(("categories",), f"a policy has at least two [[categories]], not {len(listed)}")
    categories: Categories = [(("categories", i), c) for i, c in enumerate(listed) if isinstance(c, dict)]
    for path, category in categories:
        if not (category.get("otherwise") or {"prompts", "labels", "head"} & category.keys()):
            faults.add(
                path, 'a category needs "prompts", "labels", "head" or "otherwise", or no model can find it'
            )
    _check_otherwise(faults, categories)
    for values in (_names(categories), _prompts(categories), *_compared_texts(categories)):
        _check_repeats(faults, values)
    _check_labels(faults, categories, table.get("not_judged"))
    scoring = table.get("scoring")
    useless = (
        useless_thresholds(categories),
        useless_promises(categories, table.get("tuned")),
        useless_tests(categories, table.get("tuned"), table.get("tests")),
        useless_scoring(scoring, categories),
        useless_negatives(scoring, categories),
        useless_heads(scoring, categories),
    )
    for path, message in chain(*useless):
        faults.add(path, message)


def _check_labels(faults: _Faults, categories: Categories, not_judged: Any) -> None:
    labels = [*_labels(categories), *_labels_of(("not_judged",), not_judged)]
    unsafe = {path for path, category in categories if category.get("safety") == "UNSAFE"}
    for path, name, earlier in repeated_labels(labels, unsafe):
        faults.add(path, f"{name} is already at line {faults.line(earlier)}")
    if isinstance(not_judged, dict) and "nudenet" in not_judged:
        faults.add(
            ("not_judged", "nudenet"),
            '"not_judged" is for classifiers: what a detector finds beside the mapped labels does not count',
        )
    for path, _, (spec, text) in labels:
        if spec == "nudenet" and text not in LABELS:
            faults.add(path, f"nudenet has no label {quoted(text)}{did_you_mean(text, LABELS)}")


def _check_otherwise(faults: _Faults, categories: Categories) -> None:
    marked = [((*path, "otherwise"), c) for path, c in categories if c.get("otherwise") is True]
    for path, category in marked:
        if category.get("safety") == "UNSAFE":
            faults.add(path, '"otherwise" is for a SAFE category: it is taken where a detector finds nothing')
    for path, _ in marked[1:]:
        line = faults.line(marked[0][0])
        faults.add(path, f'only one category can be "otherwise", and line {line} has it already')


def _check_repeats(faults: _Faults, values: Iterable[tuple[TomlPath, str, Hashable]]) -> None:
    """Note values whose key came before; each is (path, its name in the message, key)."""
    first: dict[Hashable, TomlPath] = {}
    for path, name, key in values:
        if key in first:
            faults.add(path, f"{name} is already at line {faults.line(first[key])}")
        first.setdefault(key, path)


def _names(categories: Categories) -> Iterator[tuple[TomlPath, str, str]]:
    for path, category in categories:
        if isinstance(name := category.get("name"), str):
            yield (*path, "name"), f"a category named {quoted(name)}", name


def _prompts(categories: Categories) -> Iterator[tuple[TomlPath, str, str]]:
    for path, category in categories:
        for place, text in _texts((*path, "prompts"), category.get("prompts")):
            yield place, f"the prompt {quoted(text)}", normalise(text)


def _compared_texts(categories: Categories) -> Iterator[list[tuple[TomlPath, str, str]]]:
    """Yield, for each category with negatives, the texts that may not be among them, and the negatives."""
    safe = [(path, category) for path, category in categories if category.get("safety") == "SAFE"]
    for path, category in categories:
        if category.get("safety") == "UNSAFE" and "negatives" in category:
            negatives = _texts((*path, "negatives"), category["negatives"])
            yield [
                *_prompts([*safe, (path, category)]),
                *((place, f"the negative {quoted(text)}", normalise(text)) for place, text in negatives),
            ]


def _labels(categories: Categories) -> Iterator[tuple[TomlPath, str, tuple[str, str]]]:
    for path, category in categories:
        yield from _labels_of((*path, "labels"), category.get("labels"))


def _labels_of(path: TomlPath, labels: Any) -> Iterator[tuple[TomlPath, str, tuple[str, str]]]:
    for spec, named in labels.items() if isinstance(labels, dict) else ():
        for place, text in _texts((*path, spec), named):
            yield place, f"the label {quoted(text)} of {spec}", (spec, text)


def _texts(path: TomlPath, value: Any) -> Iterator[tuple[TomlPath, str]]:
    for index, text in enumerate(value if isinstance(value, list) else []):
        if isinstance(text, str) and text.strip():
            yield (*path, index), text
