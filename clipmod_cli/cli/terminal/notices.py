"""Notices that are said once on this machine, and again only when they change."""

from __future__ import annotations

import contextlib
import json

from clipmod_cli.atomic import atomic_file

MOST_REMEMBERED = 100
"""Notices of one topic; the oldest are forgotten, and would be said again."""


def is_news(topic: str, about: str, fact: str) -> bool:
    """Return whether `fact` was not the last one that was said about this; remember it.

    Where the user's state folder cannot be written, everything is news.
    """
    from platformdirs import user_state_path

    path = user_state_path("clipmod", appauthor=False) / f"said-{topic}.json"
    said: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError, RecursionError):
        said = dict(json.loads(path.read_text(encoding="utf-8")))
    if said.pop(about, None) == fact:
        return False
    said[about] = fact
    newest = dict(list(said.items())[-MOST_REMEMBERED:])
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(json.dumps(newest).encode())
    return True
