"""Labels: where they are read, and what they mean under a policy."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import duckdb
import pytest
from PIL import Image

from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.label_files import read_labels
from clipmod_cli.evaluate.labels import LabelMeanings, LabelRow, read_label_map
from clipmod_cli.judge.policy.reading import load_policy

NSFW = load_policy("nsfw")
SHA = "ab" * 32


def picture(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (level, level, level)).save(path)
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def table(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_folder_is_a_class_with_all_that_lies_below(tmp_path: Path) -> None:
    first = picture(tmp_path / "NSFW" / "a.png", 1)
    second = picture(tmp_path / "Safe" / "deep" / "er" / "b.png", 2)
    (tmp_path / "Safe" / "notes.txt").write_text("no input")
    picture(tmp_path / "loose.png", 3)
    assert read_labels([str(tmp_path)]) == [
        LabelRow(text="NSFW", sha256=digest(first), source=str(first)),
        LabelRow(text="Safe", sha256=digest(second), source=str(second)),
    ]


def test_splits_of_a_data_set_are_no_classes(tmp_path: Path) -> None:
    for path in ("train/NSFW/a.png", "train/Safe/b.png", "test/Safe/c.png"):
        picture(tmp_path / path)
    assert [row.text for row in read_labels([str(tmp_path)])] == ["Safe", "NSFW", "Safe"]


def test_members_of_an_archive_have_the_label_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "NSFW").mkdir()
    pixels = io.BytesIO()
    Image.new("RGB", (8, 8)).save(pixels, "PNG")
    with zipfile.ZipFile(tmp_path / "NSFW" / "a.zip", "w") as archive:
        archive.writestr("x/1.png", pixels.getvalue())
    (row,) = read_labels([str(tmp_path)])
    assert (row.text, row.member) == ("NSFW", "x/1.png")
    assert row.sha256 == hashlib.sha256(pixels.getvalue()).hexdigest()


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_tables(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"labels.{ending}"
    values = "(upper(?), NULL, 'explicit', 2.5), (NULL, 'p/a.jpg', 'Safe', 1)"
    rows = f"(VALUES {values}) t(sha256, source, label, weight)"
    how = {
        "csv": "FORMAT csv",
        "tsv": "FORMAT csv, DELIMITER '\t'",
        "jsonl": "FORMAT json",
        "parquet": "FORMAT parquet",
    }
    duckdb.execute(f"COPY (FROM {rows}) TO '{path}' ({how[ending]})", [SHA])
    assert read_labels([str(path)]) == [
        LabelRow(text="explicit", sha256=SHA, weight=2.5),
        LabelRow(text="Safe", source="p/a.jpg", weight=1.0),
    ]


def test_a_probability_is_a_weight_of_one_over_it(tmp_path: Path) -> None:
    name = table(tmp_path / "audit.csv", "source,label,probability\na.jpg,Safe,0.01\nb.jpg,NSFW,1\n")
    assert [row.weight for row in read_labels([name])] == pytest.approx([100, 1])


def test_rows_without_a_label_are_left_out(tmp_path: Path) -> None:
    name = table(tmp_path / "labels.csv", "source,label\na.jpg,\nb.jpg,Safe\n")
    assert [row.source for row in read_labels([name])] == ["b.jpg"]


def test_an_imagefolder_names_files_beside_its_table(tmp_path: Path) -> None:
    known = picture(tmp_path / "train" / "a.png")
    table(tmp_path / "train" / "metadata.jsonl", '{"file_name": "a.png", "rating": "nsfw"}\n')
    table(tmp_path / "metadata.csv", "file_name,rating\ngone.png,Safe\n")
    assert read_labels([str(tmp_path)], column="rating") == [
        LabelRow(text="Safe", source=str(tmp_path / "gone.png")),
        LabelRow(text="nsfw", sha256=digest(known), source=str(known)),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source,label,weight\na,Safe,-1\n", "row 1: weight must be a number over 0, not '-1'"),
        ("source,label,weight\na,Safe,nan\n", "weight must be"),
        (
            "source,label,probability\na,Safe,1\nb,Safe,1.5\n",
            "row 2: probability must be a number over 0 and at",
        ),
        ("source,label,weight\na,Safe,2\nb,Safe,\n", "1 of 2 labels have no weight, the first is b"),
        ("sha256,label\nabc,Safe\n", "64 hexadecimal digits, not 'abc'"),
        ("note,label\nx,Safe\n", "row 1 names no input"),
        ("source,verdict\na,Safe\n", "--label-column"),
        ("who,what\na,Safe\n", "it has who, what"),
    ],
)
def test_a_faulty_table_is_refused(tmp_path: Path, text: str, said: str) -> None:
    name = table(tmp_path / "labels.csv", text)
    with pytest.raises(UsageError, match=said):
        read_labels([name])


def test_what_holds_no_labels_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "loose.png")
    with pytest.raises(UsageError, match="a folder must hold folders"):
        read_labels([str(tmp_path)])
    with pytest.raises(UsageError, match="no such file or folder"):
        read_labels([str(tmp_path / "gone")])
    with pytest.raises(UsageError, match=r"loose\.png has no labels"):
        read_labels([str(tmp_path / "loose.png")])


@pytest.mark.parametrize(
    ("text", "decision", "category"),
    [
        ("NSFW", "NSFW", None),
        ("unsafe", "NSFW", None),
        ("sfw", "Safe", None),
        ("Explicit", "NSFW", "explicit"),
        ("drawing", "Safe", "drawing"),
        ("porn", "NSFW", "explicit"),
        ("other-stuff", "Safe", None),
    ],
)
def test_meanings(text: str, decision: str, category: str | None) -> None:
    meanings = LabelMeanings(NSFW, {"porn": "explicit", "other_stuff": "safe", "unsure": None})
    (label,) = meanings.apply([LabelRow(text="unsure", source="u"), LabelRow(text=text, source="a")])
    assert label.means == (decision, category)


def test_a_category_named_safe_is_a_category() -> None:
    policy = load_policy("female-presence")
    assert LabelMeanings(policy).apply([LabelRow(text="no person", source="a")])[0].category == "no_person"


def test_labels_that_mean_nothing_are_named() -> None:
    rows = [LabelRow(text=text, source="a") for text in ("porn", "hentai", "porn", "neutral")]
    with pytest.raises(UsageError, match=r"porn \(2\), hentai \(1\)\. Map them.*\"porn\" = \"NSFW\""):
        LabelMeanings(NSFW).apply(rows)
    with pytest.raises(UsageError, match=r"neutral \(1\).*--policy names the policy"):
        LabelMeanings(None).apply(rows)


def test_a_label_map(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_text('porn = "explicit"\n0 = "Safe"\nunsure = false\n')
    assert read_label_map(str(path)) == {"porn": "explicit", "0": "Safe", "unsure": None}
    with pytest.raises(UsageError, match="names explicit, which is not NSFW or Safe"):
        LabelMeanings(None, {"porn": "explicit"})


@pytest.mark.parametrize(
    ("text", "said"),
    [("porn = 1", "'porn' must be a category"), ("porn = ", "is not TOML"), (None, "cannot read")],
)
def test_a_faulty_label_map_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "map.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_label_map(str(path))
