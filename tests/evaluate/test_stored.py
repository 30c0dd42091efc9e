"""Labels and stored evidence: the same inputs, scores and groups as by way of records, in flat memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.joining import LabelOptions, join
from clipmod_cli.evaluate.samples import JudgedInput, judged_of
from clipmod_cli.evaluate.stored import COMPARED_AT_ONCE, join_evidence, near_duplicates, sums_of_all
from clipmod_cli.evaluate.tuning.thresholds import sum_scores
from clipmod_cli.evidence.folder import EvidenceFolder, open_folder, stored_inputs, write_superseded
from clipmod_cli.evidence.rescore import rescore
from clipmod_cli.evidence.rows import ItemEvidence
from clipmod_cli.judge.criteria import Criteria, WeightedReader
from clipmod_cli.judge.policy.values import Category, Policy
from clipmod_cli.records import RunFacts, to_record
from clipmod_cli.types import Box, Detections, Embedding, Evidence, Item, LabelScores, Media, View
from tests.stored_evidence.test_scores import MEMBERS, NAMES, UNSAFE, all_criteria, inputs, readers, write

CRITERIA = Criteria(
    policy=Policy(
        name="four",
        categories=tuple(
            Category(name=name, safety="UNSAFE" if unsafe else "SAFE", prompts=(name,))
            for name, unsafe in zip(NAMES, UNSAFE, strict=True)
        ),
    ),
    threshold=0.5,
    judges=[
        WeightedReader(name=member.name, weight=member.weight, reader=reader)
        for member, reader in zip(MEMBERS, readers("softmax"), strict=True)
    ],
)


def judged(stored: EvidenceFolder, by: Criteria) -> list[JudgedInput]:
    facts = RunFacts(
        policy=by.policy.name, policy_hash=by.policy.hash, threshold=by.threshold, run_key="", run_id=""
    )
    results = rescore(stored, by, max_gap_s=10.0)
    return [judged_of(to_record(one, facts).model_dump(mode="json", by_alias=True)) for one in results]


@settings(max_examples=20)
@given(st.lists(inputs(), min_size=1, max_size=12), all_criteria())
def test_sums_are_those_of_the_records(
    tmp_path_factory: pytest.TempPathFactory, found: list[ItemEvidence], by: Criteria
) -> None:
    stored = write(tmp_path_factory.mktemp("ev"), found)
    by = replace(by, threshold=0.0)  # an input with a failure has its other frames' score
    (scores,) = sums_of_all(stored, by)
    expected = np.array(list(sum_scores(judged(stored, by), by.policy)))
    failed = np.isneginf(expected)
    assert np.isneginf(scores).tolist() == failed.tolist()
    # no threshold is over 1: from there on all is flagged
    assert np.minimum(scores, 1.0)[~failed] == pytest.approx(np.minimum(expected, 1.0)[~failed], abs=1e-6)


def still() -> ItemEvidence:
    """Return a still of which one view was seen."""
    item, media = Item(source="", index=0), Media(started=0.0, kind="image", coverage=1.0)
    seen = Evidence(
        item=item,
        media=media,
        number=0,
        time_s=0.0,
        last=True,
        view=View(box=Box(0, 0, 8, 8)),
        seen={
            "clip": Embedding(vector=np.eye(8, dtype=np.float32)[0]),
            "classes": LabelScores(scores={"a": 0.5, "b": 0.5, "c": 0.0}),
            "boxes": Detections(found=()),
        },
        forward_ms={},
    )
    return ItemEvidence(item=item, media=media, views=[seen])


def labelled_stills(folder: Path, found: list[ItemEvidence]) -> tuple[EvidenceFolder, Path]:
    """Store stills with hashes of their own, and label every second."""
    for number, one in enumerate(found):
        one.item = replace(one.item, source=f"{number}.png")
        assert one.media is not None
        one.media.sha256 = f"{number:064x}"
    labels = folder / "labels.csv"
    rows = [f"{n:064x},{'NSFW' if n % 4 else 'Safe'}" for n in range(0, len(found), 2)]
    labels.write_text("\n".join(["sha256,label", *rows]), encoding="utf-8")
    return write(folder / "EV", found), labels


@settings(max_examples=10)
@given(st.lists(inputs(), min_size=3, max_size=10), all_criteria())
def test_labelled_inputs_are_those_of_the_records(
    tmp_path_factory: pytest.TempPathFactory, found: list[ItemEvidence], by: Criteria
) -> None:
    stored, labels = labelled_stills(tmp_path_factory.mktemp("ev"), found)
    options = LabelOptions(names=[str(labels)], policy=by.policy)
    labelled, matches = join_evidence(stored, by, options)
    joined = join("records", judged(stored, by), options)
    assert [pair.judged for pair in labelled.pairs] == [
        replace(pair.judged, latency_ms=ours.judged.latency_ms)
        for pair, ours in zip(joined.labelled.pairs, labelled.pairs, strict=True)
    ]
    assert [pair.label for pair in labelled.pairs] == [pair.label for pair in joined.labelled.pairs]
    assert (labelled.threshold, labelled.policy) == (by.threshold, by.policy)
    assert (matches.matched, matches.unlabelled) == (joined.matches.matched, joined.matches.unlabelled)


def test_rows_that_count_no_more_have_no_label(tmp_path: Path) -> None:
    stored, labels = labelled_stills(tmp_path, [still() for _ in range(6)])
    write_superseded(stored.path, {"part-000000.parquet": frozenset({2})})
    again = open_folder(stored.path)
    assert [one.source for one in stored_inputs(again)] == ["0.png", "1.png", "3.png", "4.png", "5.png"]
    options = LabelOptions(names=[str(labels)])
    with pytest.raises(UsageError, match="only 2 of 3 labels"):
        join_evidence(again, CRITERIA, options)


def test_equal_embeddings_are_one_group_whatever_the_hash(tmp_path: Path) -> None:
    stored, labels = labelled_stills(tmp_path, [still() for _ in range(6)])
    labelled, _ = join_evidence(stored, CRITERIA, LabelOptions(names=[str(labels)]))
    assert labelled.largest_group == " (the largest group has 3)"
    assert len({labelled.part_of(pair.judged, 1_000, "any") for pair in labelled.pairs}) == 1


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_embedding_without_a_direction_is_near_to_none(tmp_path: Path, value: float) -> None:
    found = [still() for _ in range(4)]
    odd = found[2].views[0]
    found[2].views[0] = replace(
        odd, seen={**odd.seen, "clip": Embedding(vector=np.full(8, value, np.float32))}
    )
    stored, labels = labelled_stills(tmp_path, found)
    labelled, _ = join_evidence(stored, CRITERIA, LabelOptions(names=[str(labels)]))
    assert list(labelled.groups) == [found[0].media.sha256]  # type: ignore[union-attr]


def test_near_duplicates_of_near_duplicates_are_one_group_and_others_are_not() -> None:
    def turned(degrees: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        angle = np.radians(degrees)
        return np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)

    # a cosine of 0.97 is 14.07 degrees
    vectors = {"a": turned(0), "d": turned(28), "b": turned(14), "far": turned(60), "c": turned(42.5)}
    groups = near_duplicates({**vectors, "other": np.array([1, 0, 0], dtype=np.float32)})
    assert groups == {"a": "a", "b": "a", "d": "a", "c": "c", "far": "far", "other": "other"}


def test_groups_reach_over_blocks() -> None:
    rng = np.random.default_rng(2)
    count = 2 * COMPARED_AT_ONCE + 100
    apart = rng.standard_normal((count, 64)).astype(np.float32)
    apart[count - 1] = apart[0] + 0.01
    apart /= np.linalg.norm(apart, axis=1, keepdims=True)
    names = [f"{number:05}" for number in range(count)]
    groups = near_duplicates(dict(zip(names, apart, strict=True)))
    assert {name: group for name, group in groups.items() if name != group} == {names[-1]: names[0]}
