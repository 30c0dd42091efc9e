"""The names that `--device` knows. Imports nothing heavy; whether such a device is here is not asked here."""

from __future__ import annotations

import re

from clipmod_cli.errors import SettingsError

_NAME = re.compile(r"auto|cpu|mps|cuda(:(0|[1-9][0-9]{0,3}))?")


def check_device_name(name: str) -> None:
    """Refuse what names no device.

    Raises:
        SettingsError: it is none of the names.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(f"--device {name!r} is none of auto, cpu, cuda, cuda:N, mps")


def number_of(name: str) -> int:
    """Return which one of its kind a device is: 1 of `cuda:1`, and 0 where no number is said."""
    return int(name.partition(":")[2] or 0)
