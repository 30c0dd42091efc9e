"""Hides the modules named in HIDDEN_MODULES, as if they were not installed; each process imports it."""

from __future__ import annotations

import importlib.machinery
import os
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

HIDDEN = frozenset(os.environ.get("HIDDEN_MODULES", "").split())
_find = PathFinder.find_spec


def _find_unhidden(name: str, *rest: Any) -> ModuleSpec | None:
    return None if name.partition(".")[0] in HIDDEN else _find(name, *rest)


importlib.machinery.PathFinder.find_spec = staticmethod(_find_unhidden)  # type: ignore[assignment]
