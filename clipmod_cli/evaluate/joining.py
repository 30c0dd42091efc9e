"""Records and labels → the labelled inputs that `eval` and `tune` work on."""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from clipmod_cli.errors import OutputError, OutputMismatchError, PolicyError, UsageError
from clipmod_cli.evaluate.label_files import read_labels
from clipmod_cli.evaluate.labels import Label, LabelMeanings, read_label_map
from clipmod_cli.evaluate.matching import Matches, match
from clipmod_cli.evaluate.samples import JudgedInput, LabelledSet, judged_of, same_facts
from clipmod_cli.evidence.identity import FILE_NAME as EVIDENCE_FILE
from clipmod_cli.judge.policy.reading import BUILTIN, load_policy, parse_policy, policy_from_classes
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.output.reading.cards import RunCards, read_cards
from clipmod_cli.output.reading.files import PARTS_CARD, check_file, refuse_parts
from clipmod_cli.output.resuming.files import records_path

log = logging.getLogger(__name__)

STDIN: Final = "-"
RECORD_SUFFIXES: Final = (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".parquet", ".part")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions:
    """Where labels are, what they mean and how they are joined with records.

    Attributes:
        names: folders and tables.
        label_map: a TOML file; see `labels.read_label_map`.
        column: of tables.
        root: the folder that relative paths are in.
        allow_unmatched: go on where under 95 % of the labels have a record.
        policy: that of the records, whose categories may be labels; None to find it by its name.
    """

    names: Sequence[str]
    label_map: str | None = None
    column: str = "label"
    root: str | None = None
    allow_unmatched: bool = False
    policy: Policy | None = None


def are_records(names: Sequence[str]) -> bool:
    """Return whether these are outputs of a scan, by their endings; `-` is too.

    Raises:
        UsageError: some are and some are not, or one is a run in parts, or the CSV file of a scan.
    """
    for name in names:
        if Path(name, PARTS_CARD).is_file():
            refuse_parts(name)
        if name.lower().endswith(".csv") and (kept := records_path(Path(name))).is_file():
            raise UsageError(f"{name} is a table for other programs. Its records are in {kept}: name that")
    found = {name == STDIN or name.lower().endswith(RECORD_SUFFIXES) for name in names}
    if len(found) > 1:
        raise UsageError("give records (.jsonl, .parquet) or what to scan, not both")
    return found == {True}


def read(options: LabelOptions, policy: Policy | None) -> list[Label]:
    """Return the labels, as they mean under a policy.

    Raises:
        UsageError: one cannot be read, or means nothing.
    """
    label_map = read_label_map(options.label_map) if options.label_map else None
    return LabelMeanings(policy, label_map).apply(read_labels(options.names, column=options.column))


def evidence_in(names: Sequence[str]) -> Path | None:
    """Return the folder of stored evidence that is named; None if there is none.

    Raises:
        UsageError: other inputs are named beside it.
    """
    found = [name for name in names if name != STDIN and Path(name, EVIDENCE_FILE).is_file()]
    if found and len(names) > 1:
        raise UsageError(f"{found[0]} is stored evidence, which is evaluated alone")
    return Path(found[0]) if found else None


@dataclass(frozen=True, slots=True)
class Joined:
    """Labelled inputs, how they came about, and all labels that there were."""

    labelled: LabelledSet
    matches: Matches[JudgedInput]
    labels: list[Label]


def join(
    name: str,
    judged: Iterable[JudgedInput],
    options: LabelOptions,
    labels: list[Label] | None = None,
    *,
    known: Iterable[Policy] = (),
) -> Joined:
    """Return the inputs that are judged and labelled.

    Args:
        name: of the records, for messages.
        judged: the records, read once.
        options: of the labels.
        labels: they, if they are read already.
        known: policies that may have judged the records, beside the built-in ones.

    Raises:
        UsageError: there are no records, they are of several policies, a label means nothing, or too few
            labels have a record.
    """
    stream = same_facts(judged, name)
    first = next(stream, None)
    if first is None:
        raise UsageError(f"{name} holds no records")
    policy = _policy_of(first, options.policy, known)
    labels = read(options, policy) if labels is None else labels
    matches = match(labels, itertools.chain([first], stream), root=options.root)
    matches.check(allow_unmatched=options.allow_unmatched)
    _leave_out_banks(matches)
    _tell_of_partial(matches)
    labelled = LabelledSet(
        pairs=matches.pairs, policy=policy, threshold=first.facts[2], weighted=matches.weighted
    )
    return Joined(labelled, matches, labels)


def _tell_of_partial(matches: Matches[JudgedInput]) -> None:
    """Warn where not all models, or not all frames, gave the scores: decisions are what they are."""
    count = sum(pair.judged.partial for pair in matches.pairs)
    if count:
        log.warning(
            "%d of %d labelled inputs were not judged by all models, or not to their end (--early-exit, "
            "--stop-on-hit). Decisions count as they are; AUROC, calibration and the figures by model are of "
            "scores that mean different things",
            count, len(matches.pairs),
        )  # fmt: skip


def _leave_out_banks(matches: Matches[JudgedInput]) -> None:
    """Leave out the inputs that banks decided, and count them.

    Raises:
        UsageError: no others are left.
    """
    left = [pair for pair in matches.pairs if not pair.judged.by_bank]
    matches.by_banks = len(matches.pairs) - len(left)
    if left and matches.by_banks:
        log.warning("banks decided %d inputs that have a label; they are left out", matches.by_banks)
    if not left:
        raise UsageError(
            f"banks decided all {matches.by_banks} inputs that have a label, so the records tell nothing of "
            "the models: scan without --bank"
        )
    matches.pairs = left


def _policy_of(one: JudgedInput, given: Policy | None, known: Iterable[Policy]) -> Policy | None:
    """Return the policy that judged an input: the one given, else a known or built-in one of its hash."""
    name, digest, _ = one.facts
    if given is not None:
        if digest is not None and given.hash != digest:
            raise UsageError(
                f"the records were judged by the policy {name} {digest}, not by {given.name} {given.hash}"
            )
        return given
    builtin = [load_policy(name)] if name in BUILTIN else []
    return next((policy for policy in (*known, *builtin) if policy.hash == digest), None)


def policies_of_cards(names: Iterable[str]) -> Iterator[Policy]:
    """Yield the policies that the run cards of outputs tell."""
    for name in names:
        policy = _policy_facts(name)
        try:
            if policy.get("classes"):
                yield policy_from_classes(policy["classes"], policy["unsafe"])
            elif policy.get("text"):
                yield parse_policy(policy["text"], f"the run card of {name}", policy.get("folder"))
        except PolicyError as e:  # written by a version with other rules
            log.warning("the policy in the run card of %s cannot be read: %s", name, e)


def _policy_facts(name: str) -> dict[str, Any]:
    """Return what the run card of an output tells of the policy; empty without one."""
    return next((card.facts.get("policy") or {} for card in cards_of([name]).by_name.values()), {})


def cards_of(names: Sequence[str]) -> RunCards:
    """Return the run cards of outputs, as far as they have readable ones."""
    try:
        return read_cards(names)
    except (OutputError, OutputMismatchError) as e:
        log.warning("%s", e)
        return RunCards()


@contextmanager
def open_judged(names: Iterable[str]) -> Iterator[Iterator[JudgedInput]]:
    """Give the inputs of records, in order; `-` is stdin, and files may be compressed.

    Raises:
        UsageError: a file cannot be read, or a line is not a record.
        OutputError: a temporary copy cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="clipmod-") as folder:
        yield (one for name in names for one in _read_judged(name, Path(folder)))


def _read_judged(name: str, folder: Path) -> Iterator[JudgedInput]:
    from pydantic_core import from_json

    checked = check_file(name, folder)
    policy = _policy_facts(name)
    facts = (policy.get("name"), policy.get("hash"), policy.get("threshold"))
    if checked.note:
        log.warning("%s: %s", name, checked.note)
    with checked.path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                one = judged_of(from_json(line))
                # a compact record leaves this to the card
                yield one if any(one.facts) else replace(one, facts=facts)
            except (ValueError, KeyError, TypeError) as e:
                raise UsageError(f"{name} line {number} is not a clipmod record: {e}") from e
