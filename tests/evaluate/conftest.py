"""The command, and the browser of the page's tests."""

from __future__ import annotations

from tests.end_to_end.conftest import clipmod
from tests.server.ui.conftest import browser, chromium

__all__ = ["browser", "chromium", "clipmod"]
