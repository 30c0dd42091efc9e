"""What the documents of the interfaces print, and examples of answers made from it for `/openapi.json`.

Each `printed.json` names its source document and holds its requests and answers. It is written by
`tests/contract/extract_*.py`, and the contract tests compare real answers with it. `extras.json` holds the
fields that clipmod adds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

_ROOMS: Final = Path(__file__).parent
SUCCESS: Final = ("Response:", "Success Response:", "Streaming Response Format:")


def load(room: str, name: str = "printed") -> dict[str, Any]:
    """Return the data of one interface, by its room in this folder."""
    found: dict[str, Any] = json.loads((_ROOMS / room / f"{name}.json").read_text(encoding="utf-8"))
    return found


def answer_of(document: dict[str, Any], section: str, mark: str = "") -> Any:
    """Return the answer printed in a section below a line that begins with `mark`; default: of success."""
    marks = (mark,) if mark else SUCCESS
    answers = (one for one in document["answers"] if one["section"] == section)
    return next(one["answer"] for one in answers if one["mark"].startswith(marks))


def example(section: str) -> Any:
    """Return the ensemble API's printed answer of an endpoint with the fields that clipmod adds."""
    extras = load("ensemble", "extras").get(section, {})
    return _merged(answer_of(load("ensemble"), section), extras)


def _merged(printed: Any, extras: Any) -> Any:
    if isinstance(extras, dict) and isinstance(printed, dict):
        return {**printed, **{name: _merged(printed.get(name), one) for name, one in extras.items()}}
    if isinstance(extras, list) and isinstance(printed, list):
        return [_merged(*pair) for pair in zip(printed, extras, strict=True)]
    return extras
