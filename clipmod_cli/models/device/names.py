"""The grammar of `--device`; does not import torch. `device.device` checks that a device exists."""

from __future__ import annotations

import re

from clipmod_cli.errors import SettingsError

_NAME = re.compile(r"auto|cpu|mps|cuda(:(0|[1-9][0-9]{0,3}))?")


def check_device_name(name: str) -> None:
    """Check the grammar of a device name.

    Raises:
        SettingsError: the name is invalid.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(f"--device must be auto, cpu, cuda[:N] or mps, not {name!r}")


def number_of(name: str) -> int:
    """Return the index of a device: 1 of `cuda:1`, 0 without a number."""
    return int(name.partition(":")[2] or 0)
