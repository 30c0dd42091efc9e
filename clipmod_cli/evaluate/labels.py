"""What people say of inputs: labels, and what their texts mean under a policy."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clipmod_cli.errors import UsageError
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.types import Decision

DECISIONS: Final[Mapping[str, Decision]] = {
    "nsfw": "NSFW",
    "unsafe": "NSFW",
    "safe": "Safe",
    "sfw": "Safe",
}
"""Labels that are no category, in lower case."""

MOST_NAMED: Final = 10
"""Of the labels that an error names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRow:
    """One label as it was read.

    Attributes:
        text: the label itself, as a folder or a cell names it.
        sha256: of the input's bytes, lower-case hexadecimal.
        source: the input's path or URL.
        member: its name inside an archive.
        weight: how many inputs it stands for; None if all labels count the same.
        undrawn_unsure: of decisions on a sorted queue, none of which was drawn: how many of them are unsure,
            and so no labels. None for any other label.
    """

    text: str
    sha256: str | None = None
    source: str | None = None
    member: str | None = None
    weight: float | None = None
    undrawn_unsure: int | None = None

    @property
    def name(self) -> str:
        """The input's name for people."""
        named = self.source or f"sha256 {self.sha256}"
        return f"{self.member} in {named}" if self.member else named


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a person says of one input, under a policy.

    Attributes:
        row: where it was read.
        decision: what the input should be.
        category: its category of the policy; None where only the decision is known.
    """

    row: LabelRow
    decision: Decision
    category: str | None = None

    @property
    def means(self) -> tuple[Decision, str | None]:
        """What two labels of the same input must agree on."""
        return self.decision, self.category


class LabelMeanings:
    """What the texts of labels mean: a category of the policy, NSFW or Safe, or nothing at all.

    Without regard to capitals; spaces, hyphens and underscores are the same.
    """

    def __init__(self, policy: Policy | None, label_map: Mapping[str, str | None] | None = None) -> None:
        """Prepare the meanings.

        Args:
            policy: whose categories are labels; None for NSFW and Safe only.
            label_map: by text, the category, NSFW or Safe that it stands for; None leaves its inputs out.

        Raises:
            UsageError: the map names what is neither a category nor NSFW or Safe.
        """
        self._policy = policy
        self._known: dict[str, tuple[Decision, str | None] | None] = {
            text: (decision, None) for text, decision in DECISIONS.items()
        }
        for category in policy.categories if policy else ():
            decision: Decision = "NSFW" if category.safety == "UNSAFE" else "Safe"
            for text in (category.label, category.name):
                self._known[folded(text)] = (decision, category.name)
        targets = dict(self._known)
        unknown = [
            target for target in (label_map or {}).values() if target and folded(target) not in targets
        ]
        if unknown:
            raise UsageError(f"the label map names {_listed(unknown)}, which is not {self._choices()}")
        for text, target in (label_map or {}).items():
            self._known[folded(text)] = targets[folded(target)] if target else None

    def apply(self, rows: Iterable[LabelRow]) -> list[Label]:
        """Return the labels of all rows but those that the map leaves out.

        Raises:
            UsageError: a text means nothing; all such texts are named.
        """
        labels, unknown = [], Counter[str]()
        for row in rows:
            key = folded(row.text)
            if key not in self._known:
                unknown[row.text] += 1
            elif (meaning := self._known[key]) is not None:
                labels.append(Label(row=row, decision=meaning[0], category=meaning[1]))
        if unknown:
            named = [f"{text} ({count})" for text, count in unknown.most_common()]
            hint = "" if self._policy else "; --policy names the policy whose categories may be labels too"
            raise UsageError(
                f"labels that are not {self._choices()}: {_listed(named)}. "
                f'Map them with --label-map FILE, a TOML of lines such as  "{next(iter(unknown))}" = "NSFW"  '
                f"(false leaves a label's inputs out){hint}"
            )
        return labels

    def _choices(self) -> str:
        names = [category.name for category in self._policy.categories] if self._policy else []
        return ", ".join(["NSFW", "Safe", *names][:-1]) + f" or {['NSFW', 'Safe', *names][-1]}"


def read_label_map(path: str) -> dict[str, str | None]:
    """Return what a label map says: by text, what it stands for, None where it is left out.

    Raises:
        UsageError: the file cannot be read, or a value is neither a text nor false.
    """
    try:
        table = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(f"cannot read the label map {path}: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UsageError(f"the label map {path} is not TOML: {e}") from e
    for text, target in table.items():
        if target is not False and not (isinstance(target, str) and target):
            raise UsageError(
                f"{path}: {text!r} must be a category, NSFW or Safe in quotes, or false, not {target!r}"
            )
    return {text: target or None for text, target in table.items()}


def folded(text: str) -> str:
    """Return a text as labels are compared: without regard to capitals, hyphens and underscores."""
    return " ".join(text.replace("_", " ").replace("-", " ").split()).casefold()


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
