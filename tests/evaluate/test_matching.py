"""The join of labels with judged inputs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.labels import Label, LabelRow
from clipmod_cli.evaluate.matching import Matches, match
from clipmod_cli.types import Decision

A, B = "aa" * 32, "bb" * 32


@dataclass(frozen=True)
class One:
    source: str
    sha256: str | None = None
    member: str | None = None


def label(
    decision: Decision = "NSFW",
    *,
    source: str | None = None,
    sha256: str | None = None,
    member: str | None = None,
    weight: float | None = None,
    category: str | None = None,
) -> Label:
    row = LabelRow(text=decision, source=source, sha256=sha256, member=member, weight=weight)
    return Label(row=row, decision=decision, category=category)


def matched_of(found: Matches[One]) -> list[tuple[str, str]]:
    return [(pair.judged.source, pair.label.decision) for pair in found.pairs]


def test_content_comes_before_names() -> None:
    labels = [label("Safe", source="a.jpg", sha256=B), label("NSFW", source="old name.jpg", sha256=A)]
    found = match(labels, [One("a.jpg", A)])
    assert matched_of(found) == [("a.jpg", "NSFW")]
    assert found.unmatched == [labels[0]]


def test_a_changed_file_has_lost_its_label() -> None:
    found = match([label(source="a.jpg", sha256=A)], [One("a.jpg", B)])
    assert (found.pairs, found.matched, found.unlabelled) == ([], 0, 1)


def test_an_input_whose_bytes_could_not_be_read_is_found_by_name() -> None:
    assert match([label(source="a.jpg", sha256=A)], [One("a.jpg")]).matched == 1


@pytest.mark.parametrize(
    ("named", "judged", "root"),
    [
        ("a.jpg", "./a.jpg", None),
        ("p/a.jpg", "/data/p/a.jpg", "/data"),
        ("/data/p/a.jpg", "p/a.jpg", "/data"),
        ("p/../a.jpg", "/data/a.jpg", "/data/"),
        ("https://example.org/a.jpg", "https://example.org/a.jpg", None),
    ],
)
def test_names_and_paths(named: str, judged: str, root: str | None) -> None:
    assert match([label(source=named)], [One(judged, A)], root=root).matched == 1


@pytest.mark.parametrize(
    ("named", "judged", "root"),
    [
        ("p/a.jpg", "/data/p/a.jpg", None),
        ("a.jpg", "/data/p/a.jpg", "/data"),
        ("https://example.org/a.jpg", "https://example.org//a.jpg", None),
    ],
)
def test_other_paths_are_other_inputs(named: str, judged: str, root: str | None) -> None:
    assert match([label(source=named)], [One(judged, A)], root=root).matched == 0


def test_a_member_has_its_own_label_or_that_of_its_archive() -> None:
    labels = [label("Safe", source="a.zip"), label("NSFW", source="a.zip", member="2.jpg")]
    found = match(labels, [One("a.zip", A, "1.jpg"), One("a.zip", B, "2.jpg")])
    assert [pair.label.decision for pair in found.pairs] == ["Safe", "NSFW"]
    assert match([labels[1]], [One("a.zip", A, "1.jpg")]).matched == 0


def test_a_content_counts_once() -> None:
    labels = [label(source="a.jpg", sha256=A), label(source="copy.jpg", sha256=A)]
    found = match(labels, [One("a.jpg", A), One("copy.jpg", A), One("third.jpg", A)])
    assert (len(found.pairs), found.matched, found.copies) == (1, 2, 2)
    assert found.pairs[0].weight == 1


def test_an_input_that_was_labelled_twice_counts_once() -> None:
    """A picture that was flagged, and labelled for that, and then drawn for an audit too."""
    twice = [label(source="a.jpg", weight=1), label(source="a.jpg", weight=100)]
    assert [pair.weight for pair in match(twice, [One("a.jpg")]).pairs] == [1]
    named = [label(source="a.jpg", sha256=A, weight=100), label(source="a.jpg", sha256=A, weight=100)]
    assert [pair.weight for pair in match(named, [One("a.jpg", sha256=A)]).pairs] == [100]


def test_weights_of_copies_add_up() -> None:
    labels = [label(sha256=A, weight=100), label(source="copy.jpg", weight=10)]
    found = match(labels, [One("a.jpg", A), One("copy.jpg", A)])
    assert [pair.weight for pair in found.pairs] == [110]
    assert found.weighted


def test_labels_that_disagree_are_left_out() -> None:
    labels = [label("NSFW", sha256=A), label("Safe", source="b.jpg"), label("Safe", sha256=B)]
    found = match(labels, [One("a.jpg", A), One("b.jpg", A), One("c.jpg", B)])
    assert matched_of(found) == [("c.jpg", "Safe")]
    assert [(one.source, own) for one, own in found.conflicting] == [("a.jpg", labels[:2])]
    assert (found.matched, found.unmatched) == (1, [])
    with pytest.raises(UsageError, match="only 1 of 3 labels"):
        found.check()


def test_categories_that_disagree_conflict_too() -> None:
    labels = [label(sha256=A, category="nudity"), label(sha256=A, category="explicit")]
    assert match(labels, [One("a.jpg", A)]).conflicting


@pytest.mark.parametrize(("matched", "enough"), [(94, False), (95, True)])
def test_95_per_cent_must_be_matched(matched: int, enough: bool) -> None:
    labels = [label(source=f"{n}.jpg") for n in range(100)]
    found = match(labels, [One(f"{n}.jpg") for n in range(matched)])
    found.check(allow_unmatched=True)
    if enough:
        found.check()
    else:
        with pytest.raises(
            UsageError, match=r"only 94 of 100 labels \(94\.0%\).*94\.jpg, 95\.jpg.*--root FOLDER"
        ):
            found.check()


def test_no_match_at_all_is_refused_in_any_case() -> None:
    found = match([label(source="a.jpg")], [One("b.jpg")])
    with pytest.raises(UsageError, match="none of the 1 labels"):
        found.check(allow_unmatched=True)
