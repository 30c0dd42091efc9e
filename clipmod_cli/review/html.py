"""What all HTML files have in common: the head, by which no script and no remote address works, and facts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from importlib.resources import files

from clipmod_cli.review.words import visible


def head(title: str, package: str, sheet: str) -> str:
    """Return the page up to the start of its body.

    Args:
        title: as text.
        package: that holds the style sheet, the only one that the page may use.
        sheet: its file name.
    """
    style = files(package).joinpath(sheet).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; form-action 'none'; base-uri 'none'"
    )
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        "<meta name=referrer content=no-referrer><meta name=robots content=noindex>"
        f"<title>{text_of(title)}</title><style>{style}</style></head><body>"
    )


def facts_list(facts: Mapping[str, str]) -> str:
    """Return a list of names and texts, without those that are empty."""
    listed = "".join(f"<dt>{name}</dt><dd>{text_of(text)}</dd>" for name, text in facts.items() if text)
    return f"<dl class=facts>{listed}</dl>"


def text_of(text: str) -> str:
    """Return a text for HTML, its control characters visible."""
    return escape(visible(text))


def now() -> str:
    """Return the time, as pages say when they were made."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
