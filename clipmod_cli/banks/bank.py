"""One bank in memory, and what several of them decide for a hash.

A million SHA-256 take 32 MB: they are rows of a sorted array.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.banks.entries import HASH_BYTES, NO_LABEL, BankKind, EntryReader, Label
from clipmod_cli.errors import BankError, SettingsError
from clipmod_cli.results import BankDecision, BankMatch

log = logging.getLogger(__name__)

_WORDS: Final = HASH_BYTES // 8
"""A hash is four unsigned numbers: numpy sorts and finds them much faster than texts."""

_SPEC: Final = re.compile(r"(deny|allow):(.+)", re.DOTALL)
_DISTANCE: Final = re.compile(r".+:\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class BankSpec:
    """A bank as `--bank` names it."""

    kind: BankKind
    path: Path

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the bank that `deny:FILE` or `allow:FILE` names.

        Raises:
            SettingsError: it is something else.
        """
        found = _SPEC.fullmatch(text)
        if found is None:
            raise SettingsError(f"--bank must be deny:FILE or allow:FILE, not {text!r}")
        kind, name = found.groups()
        if _DISTANCE.fullmatch(name):
            raise SettingsError(
                f"--bank {text}: a distance is for banks of PDQ, which this version does not compare. "
                f"Give {text.rpartition(':')[0]}"
            )
        return cls(kind="deny" if kind == "deny" else "allow", path=Path(name).expanduser())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bank:
    """A bank file that was read.

    Attributes:
        name: for people: the file's name, or its path where two banks share a name.
        sha256: of the file.
        hashes: `(n, 4)`, each SHA-256 once as big-endian numbers, sorted.
        labels: the labels that occur.
        label_of: `(n,)`, of each hash the number of its label; empty where there is no label.
        not_compared: entries without a SHA-256 that counts, by kind of hash or by the reason.
    """

    kind: BankKind
    path: Path
    name: str
    sha256: str
    hashes: NDArray[np.uint64] = field(repr=False)
    labels: Sequence[Label] = field(repr=False)
    label_of: NDArray[np.uint32] = field(repr=False)
    not_compared: Mapping[str, int]

    @classmethod
    def read(cls, spec: BankSpec, name: str | None = None) -> Self:
        """Return the bank of a file.

        Raises:
            BankError: it cannot be read, is broken, or has no SHA-256. A table without rows is an empty allow
                bank; an empty deny bank is taken for a file that did not arrive.
        """
        reader = EntryReader(spec.path, spec.kind)
        packed, numbers = bytearray(), bytearray()
        labels: dict[Label, int] = {}
        for digest, label in reader.read():
            packed += digest
            if label != NO_LABEL or labels:
                _add_label(numbers, labels, label, len(packed) // HASH_BYTES)
        if not packed and not (spec.kind == "allow" and reader.has_header and not reader.not_compared):
            raise BankError(f"the bank {spec.path} is empty: it holds no SHA-256{_told(reader.not_compared)}")
        hashes, order = _sorted(np.frombuffer(packed, dtype=">u8").reshape(-1, _WORDS).astype(np.uint64))
        return cls(
            kind=spec.kind,
            path=spec.path,
            name=name or spec.path.name,
            sha256=reader.sha256,
            hashes=hashes,
            labels=list(labels),
            label_of=np.frombuffer(numbers, dtype="<u4")[order] if labels else np.zeros(0, dtype=np.uint32),
            not_compared=dict(reader.not_compared),
        )

    def find(self, digest: bytes) -> BankMatch | None:
        """Return the entry of a SHA-256; None if there is none."""
        wanted = np.frombuffer(digest, dtype=">u8").astype(np.uint64)
        first = self.hashes[:, 0]
        at, end = np.searchsorted(first, wanted[0], "left"), np.searchsorted(first, wanted[0], "right")
        for row in range(int(at), int(end)):
            if (self.hashes[row] == wanted).all():
                kind, note = self.labels[self.label_of[row]] if self.labels else NO_LABEL
                return BankMatch(bank=self.name, type=kind, note=note)
        return None

    @property
    def facts(self) -> dict[str, Any]:
        """What the run card tells of it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "sha256": self.sha256,
            "hashes": len(self.hashes),
            "not_compared": dict(self.not_compared),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Banks:
    """The banks of a run. Deny comes before allow."""

    banks: Sequence[Bank] = ()

    def __bool__(self) -> bool:
        return bool(self.banks)

    @classmethod
    def read(cls, specs: Iterable[BankSpec]) -> Self:
        """Return the banks of the files; warn of what is not compared, and of hashes in both kinds.

        Raises:
            BankError: one cannot be read, is broken or is empty.
        """
        listed = list(dict.fromkeys(specs))
        names = [spec.path.name for spec in listed]
        read = [
            Bank.read(spec, str(spec.path) if names.count(spec.path.name) > 1 else None) for spec in listed
        ]
        for bank in read:
            if bank.not_compared:
                log.warning(
                    "the bank %s: not compared, since only SHA-256 is%s", bank.name, _told(bank.not_compared)
                )
        _warn_of_both(read)
        return cls(read)

    @property
    def denying(self) -> Banks:
        """The deny banks alone."""
        return Banks([bank for bank in self.banks if bank.kind == "deny"])

    def decide(self, sha256: str | None) -> BankDecision | None:
        """Return what the banks decide for content with this SHA-256 (hexadecimal); None if nothing."""
        if sha256 is None or not self.banks:
            return None
        digest = bytes.fromhex(sha256)
        found = [(bank.kind, match) for bank in self.banks if (match := bank.find(digest)) is not None]
        if not found:
            return None
        kind: BankKind = "deny" if any(kind == "deny" for kind, _ in found) else "allow"
        return BankDecision(decided_by=kind, matches=tuple(match for of, match in found if of == kind))


def _add_label(numbers: bytearray, labels: dict[Label, int], label: Label, count: int) -> None:
    """Add the number of the label of the last of so many hashes; all before the first had none."""
    if not labels:
        labels[NO_LABEL] = 0
        numbers += bytes(4 * (count - 1))
    numbers += labels.setdefault(label, len(labels)).to_bytes(4, "little")


def _sorted(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """Return the hashes sorted and each once, and the first place of each."""
    order = np.lexsort(hashes.T[::-1])  # stable: of equal ones the first comes first
    hashes = hashes[order]
    is_new = np.ones(len(hashes), dtype=bool)
    is_new[1:] = (hashes[1:] != hashes[:-1]).any(axis=1)
    return np.asfortranarray(hashes[is_new]), order[is_new]


NO_BANKS: Final = Banks()


def _warn_of_both(banks: Sequence[Bank]) -> None:
    deny = [bank for bank in banks if bank.kind == "deny"]
    allow = [bank for bank in banks if bank.kind == "allow"]
    for one, other in product(deny, allow):
        both = (
            len(one.hashes) + len(other.hashes) - len(_sorted(np.concatenate([one.hashes, other.hashes]))[0])
        )
        if both:
            log.warning(
                "the deny bank %s and the allow bank %s share hashes (%d): these are denied",
                one.name, other.name, both,
            )  # fmt: skip


def _told(counts: Mapping[str, int]) -> str:
    """Return counts in brackets after a space, as ` (HASH_PDQ 12)`; nothing if there are none."""
    text = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    return f" ({text})" if text else ""
