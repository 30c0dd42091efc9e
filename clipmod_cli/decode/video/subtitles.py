"""Which subtitles show more than words: those that are pictures, and scripts that draw shapes.

Does not decode or render them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from av.codec import CodecContext
    from av.subtitles.stream import SubtitleStream

_SCRIPTS = frozenset({"ass", "ssa"})

_DRAWING = re.compile(rb"\\p[\s(+]*0*[1-9]|\\i?clip\s*\([^)]*\bm\s")
"""SubStation Alpha's drawing mode (`\\p1`), and shapes that cut something else (`\\clip(m 0 0 l ...)`)."""


def are_pictures(subtitles: SubtitleStream) -> bool:
    """Return whether subtitles are pictures, which can show anything: those of discs and broadcasts."""
    context = cast("CodecContext | None", subtitles.codec_context)
    return context is not None and context.codec.bitmap_sub


def may_draw(subtitles: SubtitleStream) -> bool:
    """Return whether subtitles are scripts, in which any event can draw."""
    context = cast("CodecContext | None", subtitles.codec_context)
    return context is not None and context.name in _SCRIPTS


def draws(script: bytes) -> bool:
    """Return whether a part of a script draws shapes, which can show anything."""
    return _DRAWING.search(script) is not None
