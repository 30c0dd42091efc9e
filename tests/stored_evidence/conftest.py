"""The command, for films from first to last."""

from __future__ import annotations

from tests.end_to_end.conftest import clipmod

__all__ = ["clipmod"]
