"""Checks of a policy's thresholds: those by sensitivity, and those of single categories."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeAlias, get_args

from clipmod_cli.judge.policy.values import DEFAULT_THRESHOLDS, Sensitivity
from clipmod_cli.toml_lines import TomlPath

Categories: TypeAlias = list[tuple[TomlPath, dict[str, Any]]]
"""Tables of `[[categories]]` with their paths, as they were read."""


def unordered_thresholds(given: Any) -> Iterator[tuple[TomlPath, str]]:
    """Yield the path and the fault of each threshold of `[thresholds]` that rises from low to ultra."""
    given = given if isinstance(given, dict) else {}
    for milder, sharper in pairwise(get_args(Sensitivity)):
        high, low = (given.get(name, DEFAULT_THRESHOLDS[name]) for name in (milder, sharper))
        if _is_share(high) and _is_share(low) and high < low:
            defaults = "".join(f' ("{name}" by default)' for name in (milder, sharper) if name not in given)
            where = ("thresholds", sharper if sharper in given else milder)
            rising = f"{milder} = {high} is under {sharper} = {low}"
            yield where, f"thresholds must fall from low to ultra, but {rising}{defaults}"


def useless_thresholds(categories: Categories) -> Iterator[tuple[TomlPath, str]]:
    """Yield the path and the fault of each `threshold`, `review_margin` and `openai` without an effect."""
    for path, category in categories:
        if category.get("safety") == "SAFE":
            for key in ("threshold", "review_margin", "openai"):
                if key in category:
                    yield (*path, key), f'"{key}" is for an UNSAFE category: a SAFE one never makes NSFW'
        elif "review_margin" in category and "threshold" not in category:
            yield (
                (*path, "review_margin"),
                '"review_margin" in [[categories]] is for a category with a "threshold" of its own',
            )


def useless_promises(categories: Categories, tuned: Any) -> Iterator[tuple[TomlPath, str]]:
    """Yield the path and the fault of each promise that is of no UNSAFE category, or of one that has one."""
    unsafe = {category.get("name") for _, category in categories if category.get("safety") == "UNSAFE"}
    promises = tuned.get("promises") if isinstance(tuned, dict) else None
    earlier = set[str | None]()
    for index, promise in enumerate(promises if isinstance(promises, list) else []):
        name = promise.get("category") if isinstance(promise, dict) else None
        path = ("tuned", "promises", index, "category")
        if name is not None and name not in unsafe:
            yield path, f"no UNSAFE category is named {name!r}"
        elif name in earlier:
            yield path, f"the threshold of {name or 'the unsafe score'} is promised twice"
        earlier.add(name)


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
