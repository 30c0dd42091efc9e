"""Checks a policy file's keys, types and ranges, and lists all faults at once.

What the values mean together (names that collide, thresholds that rise) is checked by
`clipmod_cli.judge.policy.rules`; a policy is built of checked values by `clipmod_cli.judge.policy`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from clipmod_cli.judge.policy.report import PolicyReport, did_you_mean, inside, quoted
from clipmod_cli.judge.policy.toml_lines import Path

SENSITIVITIES: Final = ("low", "medium", "high", "ultra")

NUDENET_LABELS: Final = frozenset(
    {
        *("FACE_FEMALE", "FEMALE_BREAST_COVERED", "FEMALE_BREAST_EXPOSED"),
        *("FEMALE_GENITALIA_COVERED", "FEMALE_GENITALIA_EXPOSED"),
        *("FACE_MALE", "MALE_BREAST_EXPOSED", "MALE_GENITALIA_EXPOSED"),
        *("ANUS_COVERED", "ANUS_EXPOSED", "BUTTOCKS_COVERED", "BUTTOCKS_EXPOSED"),
        *("ARMPITS_COVERED", "ARMPITS_EXPOSED", "BELLY_COVERED", "BELLY_EXPOSED"),
        *("FEET_COVERED", "FEET_EXPOSED"),
    }
)
# All that the detector can say. A misspelt label would leave its category unseen in
# silence, so it must be found before anything is judged.

MIN_GAP_S: Final = 0.01
# Less than a frame of any film: nothing is left to fill.
MAX_SECONDS: Final = 86_400
# A day: no accepted video is longer.

_ENDS_IN_WEIGHT = re.compile(r"\s*=\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*$")

Rule: TypeAlias = Callable[[PolicyReport, Path, Any], None]


def check_shape(report: PolicyReport, table: Mapping[str, Any]) -> None:
    """Note every unknown or missing key, wrong type and number out of range."""
    _check_table(report, (), table, _POLICY, required=("name", "categories"))


def is_plain(text: str) -> bool:
    """Return whether a name can be printed: not blank, no blanks around it, no control signs."""
    return text == text.strip() != "" and not any(unicodedata.category(sign) == "Cc" for sign in text)


def _check_table(
    report: PolicyReport, path: Path, value: Any, rules: Mapping[str, Rule], required: tuple[str, ...] = ()
) -> None:
    if not isinstance(value, dict):
        report.wrong(path, "a table", value)
        return
    for key in required:
        if key not in value:
            report.add(path, f'missing "{key}"{inside((*path, key))}')
    for key, inner in value.items():
        where = (*path, key)
        if key in rules:
            rules[key](report, where, inner)
        else:
            report.add(where, f"unknown key {quoted(key)}{inside(where)}{did_you_mean(key, rules)}")


def _table(rules: Mapping[str, Rule]) -> Rule:
    def check(report: PolicyReport, path: Path, value: Any) -> None:
        _check_table(report, path, value, rules)

    return check


def _name(report: PolicyReport, path: Path, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        report.wrong(path, "text", value)
    elif not is_plain(value):
        report.add(path, f"{quoted(value)} has blanks around it or control signs in it")


def _text(report: PolicyReport, path: Path, value: Any) -> None:
    if not isinstance(value, str):
        report.wrong(path, "text", value)


def _flag(report: PolicyReport, path: Path, value: Any) -> None:
    if not isinstance(value, bool):
        report.wrong(path, "true or false", value)


def _safety(report: PolicyReport, path: Path, value: Any) -> None:
    if not isinstance(value, str):
        report.wrong(path, '"SAFE" or "UNSAFE"', value)
    elif value not in {"SAFE", "UNSAFE"}:
        report.add(path, f'"safety"{inside(path)} must be "SAFE" or "UNSAFE", not {quoted(value)}')


def is_number(value: object, low: float = 0, high: float = 1) -> bool:
    """Return whether a value is a number from `low` to `high`; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _number(low: float, high: float) -> Rule:
    def check(report: PolicyReport, path: Path, value: Any) -> None:
        if not is_number(value, low, high):
            report.wrong(path, f"a number from {low} to {high}", value)

    return check


_share = _number(0, 1)


def _band(report: PolicyReport, path: Path, value: Any) -> None:
    if not isinstance(value, list) or len(value) != 2:
        report.wrong(path, "a list of two numbers", value)
        return
    before = len(report.problems)
    for index, bound in enumerate(value):
        _share(report, (*path, index), bound)
    if len(report.problems) == before and value[0] > value[1]:
        report.add(path, f'"review_band" is reversed: {value[0]} is over {value[1]}')


def _texts(report: PolicyReport, path: Path, value: Any) -> None:
    if not isinstance(value, list) or not value:
        report.wrong(path, "a list of texts", value)
        return
    for index, text in enumerate(value):
        if not isinstance(text, str) or not text.strip():
            report.wrong((*path, index), "text", text)


def _templates(report: PolicyReport, path: Path, value: Any) -> None:
    _texts(report, path, value)
    for index, text in enumerate(value if isinstance(value, list) else []):
        if not isinstance(text, str) or not text.strip():
            continue
        if text.count("{}") != 1:
            report.add(
                (*path, index), f"a template has exactly one {{}} for the prompt, not so {quoted(text)}"
            )
        elif text in value[:index]:
            report.add((*path, index), f'"templates" has {quoted(text)} twice')


def _labels(report: PolicyReport, path: Path, value: Any) -> None:
    if not isinstance(value, dict) or not value:
        report.wrong(path, "a table of lists by model", value)
        return
    for spec, labels in value.items():
        _spec(report, (*path, spec), spec)
        _texts(report, (*path, spec), labels)
        if spec == "nudenet" and isinstance(labels, list):
            _known_labels(report, (*path, spec), labels)


def _spec(report: PolicyReport, path: Path, spec: str) -> None:
    bare = _ENDS_IN_WEIGHT.sub("", spec)
    if bare != spec:
        report.add(path, f"a label map's key carries no weight: {quoted(bare)}, not {quoted(spec)}")
    elif spec.startswith("open_clip:") or spec in {"auto", "ensemble", "fallback"}:
        report.add(path, f'{quoted(spec)} has no labels of its own: it judges by "prompts"')
    elif spec != "nudenet" and not re.fullmatch(r"hf:\S(?:.*\S)?", spec):
        hint = f" (did you mean {quoted('hf:' + spec)}?)" if "/" in spec else did_you_mean(spec, {"nudenet"})
        report.add(path, f"{quoted(spec)} is no model with labels: nudenet, hf:OWNER/NAME or hf:PATH{hint}")


def _known_labels(report: PolicyReport, path: Path, labels: list[Any]) -> None:
    for index, label in enumerate(labels):
        if isinstance(label, str) and label.strip() and label not in NUDENET_LABELS:
            hint = did_you_mean(label, NUDENET_LABELS)
            report.add((*path, index), f"nudenet has no label {quoted(label)}{hint}")


def _categories(report: PolicyReport, path: Path, value: Any) -> None:
    if not isinstance(value, list):
        report.wrong(path, "a list of tables ([[categories]])", value)
        return
    for index, category in enumerate(value):
        _check_table(report, (*path, index), category, _CATEGORY, required=("name", "safety"))


_CATEGORY: Final[Mapping[str, Rule]] = {
    "name": _name,
    "label": _name,
    "safety": _safety,
    "description": _text,
    "otherwise": _flag,
    "prompts": _texts,
    "labels": _labels,
}
_VIDEO: Final[Mapping[str, Rule]] = {
    "persistence_s": _number(0, MAX_SECONDS),
    "max_gap_s": _number(MIN_GAP_S, MAX_SECONDS),
}
_POLICY: Final[Mapping[str, Rule]] = {
    "name": _name,
    "description": _text,
    "templates": _templates,
    "agreement_threshold": _share,
    "review_band": _band,
    "thresholds": _table(dict.fromkeys(SENSITIVITIES, _share)),
    "video": _table(_VIDEO),
    "categories": _categories,
}
