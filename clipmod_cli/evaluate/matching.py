"""Joins labels with judged inputs: by content, then by name, then by path. Reads no file."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.labels import Label

LEAST_MATCHED: Final = 95
"""Per cent of the labels that must be matched; with fewer, the numbers are of other inputs than thought."""

MOST_NAMED: Final = 5


class Judged(Protocol):
    """What the join needs of a judged input."""

    @property
    def sha256(self) -> str | None:
        """Of its bytes; None where they could not be read."""

    @property
    def source(self) -> str:
        """As in its record."""

    @property
    def member(self) -> str | None:
        """Its name inside an archive."""


_J = TypeVar("_J", bound=Judged)


@dataclass(frozen=True, slots=True)
class LabelledInput(Generic[_J]):
    """One judged input with its label, and how many inputs it stands for."""

    judged: _J
    label: Label
    weight: float = 1.0


@dataclass(slots=True)
class Matches(Generic[_J]):
    """The outcome of a join.

    Attributes:
        labels: how many there were.
        pairs: the inputs that have a label, each content once, in the order of the records.
        unmatched: labels of which no record was found.
        conflicting: inputs whose labels disagree, with those labels; they are left out.
        matched: labels of which a record was found, and that agree with the others of their input.
        copies: further records of a content that is counted already.
        unlabelled: records without a label.
        by_banks: inputs with a label that banks decided, so that they tell nothing of models; left out.
    """

    labels: int
    pairs: list[LabelledInput[_J]] = field(default_factory=list)
    unmatched: list[Label] = field(default_factory=list)
    conflicting: list[tuple[_J, list[Label]]] = field(default_factory=list)
    matched: int = 0
    copies: int = 0
    unlabelled: int = 0
    by_banks: int = 0

    @property
    def weighted(self) -> bool:
        """Whether labels stand for different numbers of inputs."""
        return any(pair.label.row.weight is not None for pair in self.pairs)

    def check(self, *, allow_unmatched: bool = False) -> None:
        """Raise UsageError if too few labels were matched for the numbers to mean anything."""
        if not self.pairs:
            raise UsageError(f"none of the {self.labels} labels belongs to a record. {self._how()}")
        if 100 * self.matched < LEAST_MATCHED * self.labels and not allow_unmatched:
            raise UsageError(
                f"only {self.matched} of {self.labels} labels ({self.matched / self.labels:.1%}) belong to a "
                f"record and agree, under {LEAST_MATCHED} %: the numbers would leave out the others. "
                f"{self._how()}, or --allow-unmatched"
            )

    def _how(self) -> str:
        names = [label.row.name for label in self.unmatched[:MOST_NAMED]]
        first = f"Not matched, for example: {', '.join(names)}. " if names else ""
        return f"{first}Labels are matched by sha256, then source, then path: try --root FOLDER"


def match(labels: Iterable[Label], judged: Iterable[_J], *, root: str | None = None) -> Matches[_J]:
    """Return which judged inputs have which labels.

    A label with a hash belongs to that content alone, under any name; without one, or where an input has no
    hash since its bytes could not be read, it belongs to the input of its name.

    Args:
        labels: one or more for an input; those of one input must agree.
        judged: the records, read once.
        root: the folder that relative paths of labels and records are in; None is the working directory.
    """
    index = _LabelIndex(list(labels), root)
    found: Matches[_J] = Matches(labels=len(index.labels))
    seen: dict[tuple[str | None, ...], _Unit[_J]] = {}
    for one in judged:
        numbers = index.find(one)
        key = (one.sha256,) if one.sha256 else (one.source, one.member)
        if key in seen:
            found.copies += 1
            seen[key].numbers |= dict.fromkeys(numbers)
        elif numbers:
            seen[key] = _Unit(one, dict.fromkeys(numbers))
        else:
            found.unlabelled += 1
    _settle(found, seen.values(), index.labels)
    return found


@dataclass(slots=True)
class _Unit(Generic[_J]):
    """A content, and the numbers of its labels, the most certain first."""

    judged: _J
    numbers: dict[int, None]


def _settle(found: Matches[_J], units: Iterable[_Unit[_J]], labels: list[Label]) -> None:
    used, disputed = set[int](), set[int]()
    for unit in units:
        own = [labels[number] for number in unit.numbers]
        if len({label.means for label in own}) > 1:
            found.conflicting.append((unit.judged, own))
            disputed.update(unit.numbers)
            continue
        found.pairs.append(LabelledInput(unit.judged, own[0], _weight(own)))
        used.update(unit.numbers)
    found.matched = len(used - disputed)
    found.unmatched = [label for number, label in enumerate(labels) if number not in used | disputed]


def _weight(labels: Iterable[Label]) -> float:
    """Return how many inputs the labels of one content stand for together.

    Its copies stand for inputs of their own. An input that was drawn twice counts once, by the draw that was
    the more certain to reach it.
    """
    least: dict[tuple[str | None, str | None], float] = {}
    for label in labels:
        row = label.row
        if row.weight is not None:
            name = (row.source, row.member)
            least[name] = min(row.weight, least.get(name, row.weight))
    return sum(least.values()) if least else 1.0


class _LabelIndex:
    """Finds the labels of a judged input."""

    def __init__(self, labels: list[Label], root: str | None) -> None:
        self.labels = labels
        self._root = root
        self._hashes: dict[str, list[int]] = defaultdict(list)
        self._names: dict[tuple[str, str | None], list[int]] = defaultdict(list)
        self._paths: dict[tuple[str, str | None], list[int]] = defaultdict(list)
        for number, label in enumerate(labels):
            row = label.row
            if row.sha256:
                self._hashes[row.sha256].append(number)
            if row.source:
                self._names[row.source, row.member].append(number)
                for path in self._places(row.source):
                    self._paths[path, row.member].append(number)

    def find(self, one: Judged) -> list[int]:
        """Return the numbers of its labels, those of the same content first."""
        by_hash = self._hashes.get(one.sha256, []) if one.sha256 else []
        named = [n for n in self._named(one) if not (one.sha256 and self.labels[n].row.sha256)]
        return list(dict.fromkeys([*by_hash, *named]))

    def _named(self, one: Judged) -> Iterator[int]:
        # the label of an archive holds for all its members
        for member in dict.fromkeys((one.member, None)):
            if numbers := self._names.get((one.source, member)):
                yield from numbers
                return
        for path in self._places(one.source):
            for member in dict.fromkeys((one.member, None)):
                if numbers := self._paths.get((path, member)):
                    yield from numbers
                    return

    def _places(self, name: str) -> Iterator[str]:
        """Yield the absolute paths that a name may stand for; none for a URL."""
        if "://" not in name:
            for base in dict.fromkeys((self._root or ".", ".")):
                yield os.path.abspath(os.path.join(base, name))  # noqa: PTH100, PTH118 — links stay
