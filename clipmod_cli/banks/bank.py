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

from clipmod_cli.banks.entries import HASH_BYTES, NO_LABEL, PDQ, SHA256, BankKind, EntryReader, Label
from clipmod_cli.errors import BankError, SettingsError
from clipmod_cli.results import BankDecision, BankMatch

log = logging.getLogger(__name__)

_WORDS: Final = HASH_BYTES // 8
"""A hash is four unsigned numbers: numpy sorts and finds them much faster than texts."""

_NAMES: Final = {SHA256: "SHA-256", PDQ: "PDQ"}

_SPEC: Final = re.compile(r"(deny|allow):(.+)", re.DOTALL)
_DISTANCE: Final = re.compile(r"(?P<path>.+):(?P<distance>\d{1,3})", re.DOTALL)
MOST_DISTANCE: Final = 90
"""Unlike pictures differ by 128 bits on average, and hardly ever by fewer than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BankSpec:
    """A bank as `--bank` names it.

    Attributes:
        distance: of a deny bank of PDQ: the most bits of 256 by which a near copy differs; None if PDQ is not
            compared.
    """

    kind: BankKind
    path: Path
    distance: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the bank that `deny:FILE`, `deny:FILE:DISTANCE` or `allow:FILE` names.

        Raises:
            SettingsError: it is something else.
        """
        found = _SPEC.fullmatch(text)
        if found is None:
            raise SettingsError(f"--bank must be deny:FILE or allow:FILE, not {text!r}")
        kind, name = found.groups()
        near = _DISTANCE.fullmatch(name)
        if near is None:
            return cls(kind="deny" if kind == "deny" else "allow", path=Path(name).expanduser())
        if kind == "allow":
            raise SettingsError(
                f"--bank {text}: near copies are never allowed, for they may hide something. "
                f"Give {kind}:{near['path']}, which allows by SHA-256"
            )
        if int(near["distance"]) > MOST_DISTANCE:
            raise SettingsError(f"--bank {text}: PDQ hashes of copies differ in at most {MOST_DISTANCE} bits")
        return cls(kind="deny", path=Path(near["path"]).expanduser(), distance=int(near["distance"]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bank:
    """A bank file that was read.

    Attributes:
        name: for people: the file's name, or its path where two banks share a name.
        sha256: of the file.
        hashes: `(n, 4)`, each SHA-256 once as big-endian numbers, sorted.
        labels: the labels that occur.
        label_of: `(n,)`, of each hash the number of its label; empty where there is no label.
        pdq: `(m, 4)`, PDQ hashes as they stand in the file.
        pdq_labels: their labels.
        distance: as in its spec.
        not_compared: entries without a hash that counts, by kind of hash or by the reason.
    """

    kind: BankKind
    path: Path
    name: str
    sha256: str
    hashes: NDArray[np.uint64] = field(repr=False)
    labels: Sequence[Label] = field(repr=False)
    label_of: NDArray[np.uint32] = field(repr=False)
    not_compared: Mapping[str, int]
    pdq: NDArray[np.uint64] = field(repr=False)
    pdq_labels: Sequence[Label] = field(repr=False)
    distance: int | None = None

    @classmethod
    def read(cls, spec: BankSpec, name: str | None = None) -> Self:
        """Return the bank of a file.

        Raises:
            BankError: it cannot be read, is broken, or has no hash that is compared. A table without rows is
                an empty allow bank; an empty deny bank is taken for a file that did not arrive.
        """
        kinds = (SHA256,) if spec.distance is None else (PDQ, SHA256)
        reader = EntryReader(spec.path, spec.kind, kinds)
        packed, numbers, near = bytearray(), bytearray(), bytearray()
        labels: dict[Label, int] = {}
        near_labels: list[Label] = []
        for kind, digest, label in reader.read():
            if kind == PDQ:
                near += digest
                near_labels += [label] * (len(digest) // HASH_BYTES)
                continue
            packed += digest
            if label != NO_LABEL or labels:
                _add_label(numbers, labels, label, len(packed) // HASH_BYTES)
        if (
            not packed
            and not near
            and not (spec.kind == "allow" and reader.has_header and not reader.not_compared)
        ):
            raise BankError(
                f"the bank {spec.path} is empty: it holds no {' or '.join(_NAMES[one] for one in kinds)}"
                f"{_told(reader.not_compared)}"
            )
        hashes, order = _sorted(_words(packed))
        return cls(
            kind=spec.kind,
            path=spec.path,
            name=name or spec.path.name,
            sha256=reader.sha256,
            hashes=hashes,
            labels=list(labels),
            label_of=np.frombuffer(numbers, dtype="<u4")[order] if labels else np.zeros(0, dtype=np.uint32),
            not_compared=dict(reader.not_compared),
            pdq=np.asfortranarray(_words(near)),  # three times as fast to compare
            pdq_labels=near_labels,
            distance=spec.distance,
        )

    def find_near(self, pdq: bytes) -> BankMatch | None:
        """Return the entry whose PDQ hash is the nearest; None if none is near enough."""
        if self.distance is None or not len(self.pdq):
            return None
        bits = np.bitwise_count(self.pdq ^ _words(pdq)).sum(axis=1, dtype=np.uint16)
        nearest = int(bits.argmin())
        if bits[nearest] > self.distance:
            return None
        kind, note = self.pdq_labels[nearest]
        return BankMatch(bank=self.name, type=kind, note=note)

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
            "hashes": len(self.hashes) + len(self.pdq),
            "distance": self.distance,
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
                    "the bank %s: not compared, since only %s%s",
                    bank.name,
                    _compared(bank),
                    _told(bank.not_compared),
                )
        _warn_of_both(read)
        return cls(read)

    @property
    def has_pdq(self) -> bool:
        """Whether one of them compares PDQ hashes."""
        return any(bank.distance is not None for bank in self.banks)

    def decide_near(self, pdq: str | None) -> BankDecision | None:
        """Return what deny banks decide for a picture with this PDQ hash (hexadecimal); None if nothing.

        There is none (empty or None) of films, and of pictures whose hash would say nothing.
        """
        if not pdq:
            return None
        found = [match for bank in self.banks if (match := bank.find_near(bytes.fromhex(pdq))) is not None]
        return BankDecision(decided_by="deny", matches=tuple(found)) if found else None

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


def _words(packed: bytes | bytearray) -> NDArray[np.uint64]:
    """Return hashes of 32 bytes each as big-endian numbers, `(n, 4)`."""
    return np.frombuffer(packed, dtype=">u8").reshape(-1, _WORDS).astype(np.uint64)


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


def _compared(bank: Bank) -> str:
    if bank.distance is not None:
        return "PDQ and SHA-256 are"
    hint = f", PDQ by deny:{bank.path}:31" if bank.kind == "deny" and "PDQ" in str(bank.not_compared) else ""
    return f"SHA-256 is{hint}"


def _told(counts: Mapping[str, int]) -> str:
    """Return counts in brackets after a space, as ` (HASH_PDQ 12)`; nothing if there are none."""
    text = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    return f" ({text})" if text else ""
