"""What becomes of an item: a Verdict, a Failure, or what banks of hashes decide for its content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from clipmod_cli.types import Decision, Failure, Item, Media, Verdict

DecidedBy: TypeAlias = Literal["models", "deny", "allow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BankMatch:
    """An entry of a bank that has the hash of an input.

    Attributes:
        bank: the name of the bank.
        type: what the entry says that it is, as `explicit`.
        note: further text of the entry.
    """

    bank: str
    type: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BankDecision:
    """What banks decide for some content.

    Attributes:
        decided_by: the kind of the banks that decide.
        matches: their entries, at least one.
    """

    decided_by: Literal["deny", "allow"]
    matches: tuple[BankMatch, ...]

    @property
    def decision(self) -> Decision:
        """NSFW for deny, Safe for allow."""
        return "NSFW" if self.decided_by == "deny" else "Safe"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BankVerdict:
    """An item whose content is in a bank, so that it is not scored, and not decoded unless by PDQ.

    It keeps its place.

    Attributes:
        media: only what is known from its bytes: size, hash, times and perhaps the format.
        by: what the banks decide.
        total_ms: latency in milliseconds; None if it was not read now.
    """

    item: Item
    media: Media
    by: BankDecision
    total_ms: float | None = None

    @property
    def last(self) -> bool:
        """Whether nothing more of this item follows: always."""
        return True

    @property
    def decision(self) -> Decision:
        """The decision."""
        return self.by.decision


Settled: TypeAlias = Failure | BankVerdict
"""An item, or a part of one, that no model is asked about."""

Result: TypeAlias = Verdict | Settled
"""One for each item."""


def without_banks(result: Result) -> Verdict | Failure:
    """Return the result of an item that was compared with no bank."""
    if isinstance(result, BankVerdict):
        raise AssertionError("there are no banks")  # noqa: TRY004 — a bug, not a wrong type
    return result
