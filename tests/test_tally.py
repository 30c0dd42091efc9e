"""Counts over a whole output, and the exit code that follows: 6 before 1 before 3."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.records import Record, to_line, to_record
from clipmod_cli.runs.tally import Tally, kinds_of
from clipmod_cli.settings.definition import FailOn, Wanted
from clipmod_cli.types import Decision
from tests.results import RUN, plain_animation, plain_failure, plain_verdict

KINDS: tuple[Wanted, ...] = get_args(Wanted)


def record_of(kind: str) -> Record:
    """Return a record: `safe`, `nsfw`, `error`, `undecided`, or one of them with `+review`."""
    word, _, review = kind.partition("+")
    if word == "error":
        return to_record(plain_failure(), RUN)
    decisions: dict[str, Decision | None] = {"safe": "Safe", "nsfw": "NSFW", "undecided": None}
    verdict = replace(
        plain_verdict(), decision=decisions[word], review_reasons=("low_agreement",) if review else ()
    )
    return to_record(verdict, RUN)


def tally_of(*kinds: str, kept: Sequence[str] = ()) -> Tally:
    """Return the counts of an output that held `kept` before this run added `kinds`."""
    tally = Tally()
    for kind in kept:
        tally.add_done(json.loads(to_line(record_of(kind))))
    for kind in kinds:
        tally.add(record_of(kind))
    return tally


@pytest.mark.parametrize(
    ("kinds", "fail_on", "code"),
    [
        ((), (), 0),
        ((), ("nsfw", "review", "error"), 0),
        (("safe", "nsfw", "safe+review", "undecided"), (), 0),
        (("safe", "nsfw"), ("nsfw",), 1),
        (("safe",), ("nsfw",), 0),
        (("safe", "nsfw"), ("review",), 0),
        (("safe+review",), ("review",), 1),
        (("nsfw+review",), ("review",), 1),
        (("safe", "nsfw"), ("review", "nsfw"), 1),
        (("safe", "error"), (), 3),
        (("safe", "error"), ("nsfw",), 3),
        (("safe", "error"), ("error",), 1),
        (("nsfw", "error"), ("nsfw",), 1),
        (("error", "error"), (), 6),
        (("error",), ("error",), 6),
        (("error",), ("nsfw", "review", "error"), 6),
    ],
)
def test_exit_codes_by_table(kinds: tuple[str, ...], fail_on: tuple[FailOn, ...], code: int) -> None:
    """The same for what this run judged, for what stood there before, and for any mixture."""
    for order in set(permutations(kinds)):
        for split in range(len(order) + 1):
            assert tally_of(*order[split:], kept=order[:split]).exit_code(fail_on) == code


@pytest.mark.parametrize(
    ("kind", "kinds"),
    [
        ("safe", {"safe"}),
        ("nsfw", {"nsfw"}),
        ("safe+review", {"safe", "review"}),
        ("nsfw+review", {"nsfw", "review"}),
        ("undecided", set()),
        ("undecided+review", {"review"}),
        ("error", {"error"}),
    ],
)
def test_what_only_and_fail_on_call_a_record(kind: str, kinds: set[Wanted]) -> None:
    record = record_of(kind)
    assert kinds_of(record.final_decision, record.status, needs_review=bool(record.needs_review)) == kinds
    assert Tally().add(record) == kinds


def test_counts_are_of_the_whole_output() -> None:
    tally = tally_of("nsfw", "safe+review", "error", kept=["safe", "nsfw+review", "error"])
    assert tally.counts() == {"inputs": 6, "nsfw": 2, "safe": 2, "review": 2, "error": 2}
    assert (tally.total, tally.ok, tally.judged) == (6, 4, 3)
    assert tally.codes == {"decode_error": 2}
    assert tally.categories == {"female_present": 4}


def test_each_input_has_one_outcome_and_its_reasons_are_counted() -> None:
    tally = tally_of("nsfw", "safe+review", "undecided", kept=["safe", "nsfw+review", "error", "safe+review"])
    assert tally.outcomes == {"nsfw": 2, "safe": 1, "review": 2, "undecided": 1, "error": 1}
    assert tally.outcomes.total() == tally.total
    assert tally.reasons == {"low_agreement": 3}


def test_pictures_and_bytes_are_of_this_run() -> None:
    tally = tally_of("safe", "error", kept=["safe", "safe"])
    tally.add(to_record(plain_animation(), RUN))
    assert tally.pictures == 1 + 3, "a still, and three frames of an animation"
    assert tally.bytes == 2 * 79155, "the failure's size is not known"


kinds = st.sampled_from(
    ["safe", "nsfw", "safe+review", "nsfw+review", "undecided", "undecided+review", "error"]
)


@given(
    kept=st.lists(kinds, max_size=6),
    added=st.lists(kinds, max_size=6),
    fail_on=st.sets(st.sampled_from(("nsfw", "review", "error"))),  # new-nsfw tells them apart
)
def test_law_a_kept_record_counts_as_one_of_this_run(
    kept: list[str], added: list[str], fail_on: set[FailOn]
) -> None:
    resumed, fresh = tally_of(*added, kept=kept), tally_of(*kept, *added)
    assert resumed.counts() == fresh.counts()
    assert (resumed.categories, resumed.codes) == (fresh.categories, fresh.codes)
    assert resumed.exit_code(fail_on) == fresh.exit_code(fail_on)
    assert resumed.total == resumed.ok + sum(resumed.codes.values()) == len(kept) + len(added)


def test_a_kept_record_is_counted_as_it_was_written() -> None:
    line = to_line(record_of("nsfw+review"))
    kept, read = Tally(), Tally()
    kept.add_done(dict[str, Any](json.loads(line)))
    read.add(Record.model_validate_json(line))
    assert kept.counts() == read.counts()


def test_it_counts_scored_skipped_and_cached_pictures() -> None:
    verdict = plain_verdict()
    skipping = replace(verdict.deciding, skipped=("ViT-g-14",), bounds=(0.69, 0.94))
    known = {
        name: replace(model, forward_ms=0.0) for name, model in verdict.deciding.by_model.items()
    }  # fmt: skip
    tally = Tally()
    for deciding in (verdict.deciding, skipping, skipping, replace(skipping, by_model=known)):
        told = replace(verdict, deciding=deciding, skipped=deciding.skipped, bounds=deciding.bounds)
        tally.add(to_record(told, RUN))
    assert tally.scored_by == {"ViT-L-14": 3, "ViT-H-14": 3}
    assert tally.skipped_by == {"ViT-g-14": 2}
    assert (tally.cached, tally.pictures) == (1, 4)


def test_all_scored_frames_of_an_animation_were_shown() -> None:
    tally = Tally()
    tally.add(to_record(plain_animation(), RUN))
    assert set(tally.scored_by.values()) == {tally.pictures} == {3}
