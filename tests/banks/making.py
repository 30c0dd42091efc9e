"""Makes bank files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from clipmod_cli.banks.bank import Banks, BankSpec


def sha(data: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write_bank(path: Path, *hashes: str) -> Path:
    """Write a bank of lines, and return its path."""
    path.write_text("".join(f"{one}\n" for one in hashes), encoding="utf-8")
    return path


def banks_of(folder: Path, *, deny: Iterable[str] = (), allow: Iterable[str] = ()) -> Banks:
    """Return banks of these hashes, in files `deny` and `allow`."""
    specs = [
        BankSpec(kind="deny" if name == "deny" else "allow", path=write_bank(folder / name, *hashes))
        for name, found in (("deny", deny), ("allow", allow))
        if (hashes := list(found))
    ]
    return Banks.read(specs)
