"""The environment of a process in which the packages of all extras are hidden."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from clipmod_cli.install import EXTRAS

HIDING = Path(__file__).parent / "hiding"
ROOT = Path(__file__).parent.parent.parent
NOT_IN_THE_BASE = frozenset(module for modules in EXTRAS.values() for module in modules)


def hiding(modules: Collection[str] = NOT_IN_THE_BASE) -> dict[str, str]:
    """Return variables that hide modules from a process and its children, and let it import this checkout."""
    path = os.pathsep.join(map(str, (HIDING, ROOT)))
    return {"PYTHONPATH": path, "HIDDEN_MODULES": " ".join(modules)}
