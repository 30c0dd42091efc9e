"""Checks what a policy's values mean together: names, severity, thresholds, label maps.

Works on what `clipmod_cli.judge.policy.check` has looked at, but not only on what that found
good: a value of a wrong type is passed over here, so that all faults of a file are
told at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, Final, TypeAlias

from clipmod_cli.judge.policy.check import SENSITIVITIES, is_number
from clipmod_cli.judge.policy.report import PolicyReport, quoted
from clipmod_cli.judge.policy.toml_lines import Path

DEFAULT_THRESHOLDS: Final[Mapping[str, float]] = {"low": 0.7, "medium": 0.5, "high": 0.35, "ultra": 0.2}

Categories: TypeAlias = list[tuple[Path, dict[str, Any]]]


def check_meaning(report: PolicyReport, table: Mapping[str, Any]) -> None:
    """Note everything that the values of a policy contradict."""
    _check_thresholds(report, table.get("thresholds"))
    listed = table.get("categories")
    if not isinstance(listed, list):
        return
    if len(listed) < 2:
        report.add(("categories",), f"a policy has at least two [[categories]], not {len(listed)}")
    found: Categories = [(("categories", i), c) for i, c in enumerate(listed) if isinstance(c, dict)]
    _check_names(report, found)
    _check_content(report, found)
    _check_otherwise(report, found)
    _check_prompts(report, found)
    _check_labels(report, found)


def same_words(text: str) -> str:
    """Return what CLIP's tokenizer leaves of a text's looks: no capitals, single blanks."""
    return " ".join(text.split()).lower()


def _check_thresholds(report: PolicyReport, given: Any) -> None:
    given = given if isinstance(given, dict) else {}
    for milder, sharper in pairwise(SENSITIVITIES):
        high, low = (given.get(name, DEFAULT_THRESHOLDS[name]) for name in (milder, sharper))
        if is_number(high) and is_number(low) and high < low:
            at = sharper if sharper in given else milder
            defaults = "".join(f' ("{name}" by default)' for name in (milder, sharper) if name not in given)
            report.add(
                ("thresholds", at),
                f"thresholds must fall from low to ultra, but {milder} = {high} is under "
                f"{sharper} = {low}{defaults}",
            )


def _check_names(report: PolicyReport, categories: Categories) -> None:
    first: dict[str, int] = {}
    for path, category in categories:
        name = category.get("name")
        if not isinstance(name, str):
            continue
        where = (*path, "name")
        if name in first:
            report.add(where, f"a category named {quoted(name)} stands already at line {first[name]}")
        first.setdefault(name, report.line(where))


def _check_content(report: PolicyReport, categories: Categories) -> None:
    for path, category in categories:
        if not (category.get("prompts") or category.get("labels") or category.get("otherwise")):
            if "prompts" in category or "labels" in category:
                continue  # empty ones are faults of their own
            report.add(path, 'a category needs "prompts", "labels" or "otherwise": nothing could ever be it')


def _check_otherwise(report: PolicyReport, categories: Categories) -> None:
    marked = [(path, category) for path, category in categories if category.get("otherwise") is True]
    for path, category in marked:
        if category.get("safety") == "UNSAFE":
            report.add(
                (*path, "otherwise"),
                '"otherwise" is for a SAFE category: a detector that finds nothing would flag everything',
            )
    for path, _ in marked[1:]:
        first = report.line((*marked[0][0], "otherwise"))
        report.add((*path, "otherwise"), f'only one category is "otherwise", and line {first} has it already')


def _check_prompts(report: PolicyReport, categories: Categories) -> None:
    first: dict[str, int] = {}
    for path, category in categories:
        for where, prompt in _strings((*path, "prompts"), category.get("prompts")):
            words = same_words(prompt)
            if words in first:
                report.add(where, f"the prompt {quoted(prompt)} stands already at line {first[words]}")
            first.setdefault(words, report.line(where))


def _check_labels(report: PolicyReport, categories: Categories) -> None:
    first: dict[tuple[str, str], int] = {}
    for path, category in categories:
        labels = category.get("labels")
        for spec, mapped in labels.items() if isinstance(labels, dict) else ():
            for where, label in _strings((*path, "labels", spec), mapped):
                if (spec, label) in first:
                    report.add(
                        where,
                        f"the label {quoted(label)} of {spec} is mapped already at line "
                        f"{first[spec, label]}: it would count twice",
                    )
                first.setdefault((spec, label), report.line(where))


def _strings(path: Path, value: Any) -> Iterator[tuple[Path, str]]:
    for index, text in enumerate(value if isinstance(value, list) else []):
        if isinstance(text, str) and text.strip():
            yield (*path, index), text
