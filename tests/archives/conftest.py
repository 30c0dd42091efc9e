"""The command, for the tests that go through it."""

from __future__ import annotations

from tests.end_to_end.conftest import clipmod

__all__ = ["clipmod"]
