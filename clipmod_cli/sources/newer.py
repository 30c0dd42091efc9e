"""`--newer-than`: the time from which on a file of a folder or a bucket is an input."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path
from typing import Final

from clipmod_cli.errors import SettingsError

SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
MOST_AHEAD_S: Final = 60
"""How far a time may be in the future: the clock of a file server may be ahead."""

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw])")


def parse_newer_than(text: str, *, now: float | None = None) -> int:
    """Return the time that a text names, in ns since 1970.

    Args:
        text: how long ago (`90m`, `24h`, `7d`), a time by ISO 8601 (local unless it has an offset), or a
            file, whose modification time it is.
        now: in s since 1970, by default the time.

    Raises:
        SettingsError: it is none of them, or in the future.
    """
    now = time.time() if now is None else now
    found = _duration(text, now) or _time(text) or _file(text)
    if found is None:
        raise SettingsError(
            f"--newer-than {text!r} is neither how long ago (90m, 24h, 7d), nor a time "
            "(2026-08-30T18:00Z), nor a file"
        )
    if found > (now + MOST_AHEAD_S) * 10**9:
        raise SettingsError(f"--newer-than {text!r} is in the future, so nothing would be judged")
    return found


def _duration(text: str, now: float) -> int | None:
    parts = _DURATION.fullmatch(text)
    return None if parts is None else round((now - float(parts[1]) * SECONDS[parts[2]]) * 10**9)


def _time(text: str) -> int | None:
    try:
        return round(datetime.fromisoformat(text).timestamp() * 10**9)
    except (ValueError, OverflowError, OSError):
        return None


def _file(text: str) -> int | None:
    try:
        return Path(text).expanduser().stat().st_mtime_ns if text else None
    except (OSError, ValueError):
        return None
