"""The command, for recipes that end in it."""

from __future__ import annotations

from tests.end_to_end.conftest import clipmod, out

__all__ = ["clipmod", "out"]
