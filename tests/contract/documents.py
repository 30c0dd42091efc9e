"""Whether an answer has every field of a printed one: name, type and nesting."""

from __future__ import annotations

from typing import Any

BY_NAME = frozenset(
    {
        "per_model_predictions",
        "category_probabilities",
        "category_ensemble_probabilities",
        "weights",
        "models_usage",
        "classification_categories",
        "results",
    }
)
"""Objects whose keys are names of models, categories or panels: each value has the printed values' shape."""

NULLABLE = frozenset({"errors"})
"""Printed as null where all went well, and as a list where not."""


def differences(answer: Any, printed: Any, where: str = "$") -> list[str]:
    """Return what an answer lacks of what is printed, or has of another type."""
    key = where.rpartition(".")[2]
    if printed is None or (key in NULLABLE and answer is None):
        return [] if answer is None or key in NULLABLE else [f"{where} is not null"]
    if isinstance(printed, dict):
        return _in_object(answer, printed, where, by_name=key in BY_NAME)
    if isinstance(printed, list):
        if not isinstance(answer, list):
            return [f"{where} is no list"]
        return [d for i, one in enumerate(answer) for d in differences(one, printed[0], f"{where}[{i}]")]
    return [] if _is_like(answer, printed) else [f"{where} is {answer!r}, printed {printed!r}"]


def _in_object(answer: Any, printed: dict[str, Any], where: str, *, by_name: bool) -> list[str]:
    if not isinstance(answer, dict):
        return [f"{where} is no object"]
    if by_name:
        like = next(iter(printed.values()))
        return [d for name, one in answer.items() for d in differences(one, like, f"{where}.<{name}>")]
    found = []
    for name, value in printed.items():
        if name not in answer:
            found.append(f"{where} lacks {name}")
        else:
            found += differences(answer[name], value, f"{where}.{name}")
    return found


def _is_like(answer: Any, printed: Any) -> bool:
    if isinstance(printed, bool) or isinstance(answer, bool):
        return isinstance(printed, bool) and isinstance(answer, bool)
    if isinstance(printed, float):
        return isinstance(answer, (int, float))
    return isinstance(answer, type(printed))
