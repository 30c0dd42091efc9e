"""Which labels are examples of a category, and which calls are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.heads.examples import HeadExamples, read_examples
from clipmod_cli.evaluate.joining import LabelOptions
from clipmod_cli.judge.policy.values import Category, Policy
from tests.heads.kit import SeenStill, store

RNG = np.random.default_rng(4)


def still(number: int, views: int = 1, **more: object) -> SeenStill:
    rows = RNG.standard_normal((views, 8))
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).tolist()
    return SeenStill(f"{number}.png", unit, **more)  # type: ignore[arg-type]


def examples(
    folder: Path,
    labels: Sequence[tuple[int, str]],
    stills: Sequence[SeenStill] | None = None,
    *,
    category: str = "cat",
    policy: Policy | None = None,
    label_map: str | None = None,
    header: str = "source,label",
) -> HeadExamples:
    """Return the examples that these labels of stills make."""
    stored = store(folder / "EV", stills or [still(number) for number in range(len(labels))])
    table = folder / "labels.csv"
    table.write_text("\n".join([header, *(f"{number}.png,{text}" for number, text in labels)]))
    if label_map is not None:
        (folder / "map.toml").write_text(label_map)
    options = LabelOptions(
        names=[str(table)], label_map=None if label_map is None else str(folder / "map.toml")
    )
    return read_examples(stored, category, options, policy)


def labels_of(*counts: tuple[str, int]) -> list[tuple[int, str]]:
    texts = [text for text, count in counts for _ in range(count)]
    return list(enumerate(texts))


def test_every_other_label_is_another_class(tmp_path: Path) -> None:
    made = examples(tmp_path, labels_of(("Cat", 30), ("dog", 12), ("Safe", 10), ("NSFW", 3)))
    assert made.positive.tolist() == [True] * 30 + [False] * 22
    assert made.counts == [(True, "Cat", 30), (False, "dog", 12), (False, "Safe", 10)]
    assert made.open == 3, "what is NSFW may be a cat"
    assert made.words is not None
    assert [category.prompts for category in made.words.categories] == [("dog",), ("cat",)]


def test_labels_of_a_policy_are_its_categories(tmp_path: Path) -> None:
    policy = Policy(
        name="pets",
        categories=(
            Category(name="other", safety="SAFE", prompts=("x",)),
            Category(name="cat", safety="UNSAFE", prompts=("a cat",)),
        ),
    )
    made = examples(tmp_path, labels_of(("cat", 30), ("other", 20)), policy=policy)
    assert made.words is None
    with pytest.raises(UsageError, match=r"labels that are not NSFW, Safe, other or cat: dog \(20\)"):
        examples(tmp_path / "b", labels_of(("cat", 30), ("dog", 20)), policy=policy)
    with pytest.raises(UsageError, match="has no category 'dog': it has other, cat"):
        examples(tmp_path / "c", labels_of(("cat", 30), ("other", 20)), policy=policy, category="dog")


def test_a_map_gives_labels_their_meaning(tmp_path: Path) -> None:
    labels = labels_of(("kitten", 20), ("cat", 10), ("dog", 20), ("unsure", 9))
    made = examples(tmp_path, labels, label_map='kitten = "cat"\nunsure = false\n')
    assert (made.positive.sum(), (~made.positive).sum(), made.open) == (30, 20, 0)


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ((("cat", 29), ("dog", 20)), r"needs 30 labelled inputs that are cat, and there are 29: 1 more"),
        ((("cat", 30), ("dog", 18)), r"needs 20 labelled inputs that are not cat, and there are 18: 2 more"),
        (
            (("dog", 40), ("cow", 9)),
            r"there are 0: 30 more\. Labels found: dog \(40\), cow \(9\); --label-map",
        ),
    ],
)
def test_too_few_labels_are_refused_with_how_many_more(
    tmp_path: Path, counts: Sequence[tuple[str, int]], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        examples(tmp_path, labels_of(*counts))


def test_views_copies_near_duplicates_and_broken_inputs(tmp_path: Path) -> None:
    labels = labels_of(("cat", 32), ("dog", 20))
    stills = [still(number, views=1 + number % 3) for number in range(52)]
    stills[1] = replace(stills[0], name="1.png", sha256=f"{0:064x}")  # the same bytes
    stills[3] = replace(stills[2], name="3.png")  # the same picture in other bytes
    stills[5] = still(5, broken=True)
    stills[7] = still(7, views=200)
    made = examples(tmp_path, labels, stills)
    assert (int(made.positive.sum()), made.broken) == (30, 1)
    assert np.diff(made.starts, append=len(made.rows["clip"])).tolist()[:5] == [1, 3, 3, 2, 1]
    assert made.group[1] == made.group[2]
    assert len(set(made.group.tolist())) == 49
    films = [count for count in np.diff(made.starts) if count > 3]
    assert films == [64]
    assert made.rows["clip"][1:4] == pytest.approx(np.asarray(stills[2].views), abs=1e-3)


def test_the_digest_is_of_inputs_and_labels(tmp_path: Path) -> None:
    labels = labels_of(("cat", 30), ("dog", 20))
    digests = {
        examples(tmp_path / name, order).digest
        for name, order in (("a", labels), ("b", labels[::-1]), ("c", [*labels[:-1], (49, "cow")]))
    }
    assert len(digests) == 1, "their order, and which other class it is, change nothing"
    assert examples(tmp_path / "d", [*labels[1:-1], (0, "dog"), (49, "cat")]).digest not in digests


def test_weights_and_models_without_embeddings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the labels have weights"):
        examples(tmp_path, [(0, "cat,1"), (1, "dog,2")], header="source,label,weight")
    stored = store(tmp_path / "labelled", [still(0)], kind="classifier")
    with pytest.raises(UsageError, match=r"has no embeddings \(clip\): a head needs the evidence of a text-"):
        read_examples(stored, "cat", LabelOptions(names=["x"]), None)
