"""Reads JSON in which each key may stand once: of two values of a key, one would be passed over."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from fastapi import Request

from clipmod_cli.server.problems import problem

SHOWN_CHARS: Final = 100
"""Of a key in a message."""


def read_json(text: str) -> Any:
    """Return the value; texts in it may hold halves of surrogate pairs.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as e:
        raise ValueError("it is nested too deeply") from e


class StrictJsonRequest(Request):
    """A request whose JSON is read by `read_json`."""

    async def json(self) -> Any:
        """Return the body.

        Raises:
            JSONDecodeError: it is not JSON.
            HTTPException: 400, a key stands twice or is not in UTF-8.
        """
        try:
            return read_json((await self.body()).decode())
        except json.JSONDecodeError:
            raise
        except ValueError as e:
            raise problem(400, f"The body is not valid JSON: {e}") from e


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        ((twice, _),) = counts.most_common(1)
        raise ValueError(f"the key {twice[:SHOWN_CHARS]!r} is given more than once")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")
