"""Banks of a service, read again when their files change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from clipmod_cli.banks.bank import NO_BANKS, Banks, BankSpec
from clipmod_cli.settings.watched import Watched

CHECK_EVERY_S: Final = 2.0
"""How often the files are looked at, at most."""

BankWatch: TypeAlias = Watched[Banks]


def watch_banks(specs: Sequence[BankSpec]) -> BankWatch:
    """Return the banks of the files, as they are at each time.

    Raises:
        BankError: one cannot be read, is broken or is empty.
    """
    return Watched("the banks", [one.path for one in specs], lambda: Banks.read(specs), CHECK_EVERY_S)


UNWATCHED: Final[BankWatch] = Watched("the banks", (), lambda: NO_BANKS, CHECK_EVERY_S)
"""No banks."""
