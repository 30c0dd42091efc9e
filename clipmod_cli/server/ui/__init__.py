"""The page for people: one file of HTML, and scripts that speak to the same endpoints as any client."""

from __future__ import annotations

from clipmod_cli.server.ui.page import router

__all__ = ["router"]
