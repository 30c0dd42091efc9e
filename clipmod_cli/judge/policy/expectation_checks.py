"""Checks of a policy's `[[tests]]` against its categories: a test that could not pass, or tests nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from clipmod_cli.errors import did_you_mean
from clipmod_cli.judge.policy.tables import quoted
from clipmod_cli.judge.policy.threshold_checks import Categories
from clipmod_cli.toml_lines import TomlPath

OF_UNSAFE: Final = ("decision", "matched", "score_at_least", "score_at_most")
EXPECTATIONS: Final = ("category", *OF_UNSAFE)


def useless_tests(categories: Categories, tuned: Any, tests: Any) -> Iterator[tuple[TomlPath, str]]:
    """Yield the path and the fault of each expectation that no result could meet, or that is missing."""
    names = [category.get("name") for _, category in categories]
    has_unsafe = any(category.get("safety") == "UNSAFE" for _, category in categories)
    own = _with_thresholds(categories, tuned)
    for index, test in enumerate(tests if isinstance(tests, list) else ()):
        path = ("tests", index)
        if not isinstance(test, dict):
            continue
        if not test.keys() & set(EXPECTATIONS):
            listed = ", ".join(map(quoted, EXPECTATIONS))
            yield path, f"a test says what its picture must be, by one of {listed}"
        yield from _unknown_names(path, "category", [test.get("category")], names)
        if has_unsafe:
            yield from _unknown_names(path, "matched", test.get("matched"), own)
        else:
            yield from _without_unsafe(path, test)
        yield from _crossed_bounds(path, test)


def _with_thresholds(categories: Categories, tuned: Any) -> list[Any]:
    """Return the names of UNSAFE categories that have a threshold of their own, a tuned one included."""
    promises = tuned.get("promises") if isinstance(tuned, dict) else None
    listed = promises if isinstance(promises, list) else []
    promised = [promise.get("category") for promise in listed if isinstance(promise, dict)]
    unsafe = [category for _, category in categories if category.get("safety") == "UNSAFE"]
    return [c.get("name") for c in unsafe if "threshold" in c or c.get("name") in promised]


def _unknown_names(path: TomlPath, key: str, given: Any, known: list[Any]) -> Iterator[tuple[TomlPath, str]]:
    kind = "category" if key == "category" else 'UNSAFE category with a "threshold" of its own'
    for name in given if isinstance(given, list) else ():
        if isinstance(name, str) and name not in known:
            hint = did_you_mean(name, [one for one in known if isinstance(one, str)])
            yield (*path, key), f"no {kind} is named {quoted(name)}{hint}"


def _without_unsafe(path: TomlPath, test: dict[str, Any]) -> Iterator[tuple[TomlPath, str]]:
    for key in OF_UNSAFE:
        if key in test:
            yield (*path, key), f"{quoted(key)} can be tested only where a category is UNSAFE"


def _crossed_bounds(path: TomlPath, test: dict[str, Any]) -> Iterator[tuple[TomlPath, str]]:
    least, most = test.get("score_at_least"), test.get("score_at_most")
    if isinstance(least, int | float) and isinstance(most, int | float) and least > most:
        yield (*path, "score_at_least"), f'"score_at_least" is over "score_at_most": {least} and {most}'
