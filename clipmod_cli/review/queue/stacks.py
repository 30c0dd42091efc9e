"""Stacks of near copies: contents that one decision is on, where a person saw them beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from clipmod_cli.evidence.folder import open_folder
from clipmod_cli.output.reading.records import open_records
from clipmod_cli.review.dedupe.grouping import Grouped, group_by_embedding, group_by_pdq
from clipmod_cli.review.dedupe.items import DedupeItems
from clipmod_cli.review.dedupe.method import DedupeMethod


@dataclass(frozen=True, slots=True)
class NearStacks:
    """Stacks by the numbers of their contents, the representative of each first. Iterable."""

    _members: Mapping[int, Sequence[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, hashes: Sequence[Sequence[str]], numbers: Mapping[str, int]) -> Self:
        """Return the stacks of these hashes.

        Args:
            hashes: those of each stack, the representative's first.
            numbers: of the contents, by hash; others are left out.
        """
        found = ([numbers[one] for one in stack if one in numbers] for stack in hashes)
        return cls({number: stack for stack in found if len(stack) > 1 for number in stack})

    def __iter__(self) -> Iterator[Sequence[int]]:
        """Return the stacks, each once."""
        return (stack for number, stack in self._members.items() if stack[0] == number)

    def members(self, number: int) -> Sequence[int]:
        """Return the stack that a content is in; none for a content without near copies."""
        return self._members.get(number, ())

    def others(self, number: int) -> list[int]:
        """Return the near copies of a content."""
        return [one for one in self.members(number) if one != number]


@dataclass(frozen=True, slots=True)
class FoundStacks:
    """The hashes of near copies, a stack each, and how many contents could not be compared."""

    hashes: Sequence[Sequence[str]]
    not_compared: int


def find_stacks(records: Sequence[str], method: DedupeMethod, evidence: Path | None) -> FoundStacks:
    """Return the near copies among the contents of some outputs, as `clipmod dedupe` groups them.

    Args:
        records: paths of the outputs, none of them stdin, which can be read once only.
        method: `pdq` or `embedding`.
        evidence: stored evidence, for `embedding`.

    Raises:
        UsageError: a record cannot be read.
        EvidenceError: the evidence has no embeddings, or is damaged.
        OutputError: no temporary file can be written.
    """
    with open_records(records) as reader:
        items = DedupeItems(reader)
        items.build()
        grouped = _group(items, method, evidence)
        return FoundStacks(list(grouped.clusters.contents()), grouped.by_bytes_only)


def _group(items: DedupeItems, method: DedupeMethod, evidence: Path | None) -> Grouped:
    if evidence is not None:
        return group_by_embedding(items, open_folder(evidence), method.limit)
    return group_by_pdq(items, int(method.limit))
