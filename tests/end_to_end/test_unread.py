"""Media that is not read, and runs in which nothing is judged, through the real command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.archives.making import make_tar, make_zip
from tests.end_to_end.command import SAMPLES, Command

PICTURE = (SAMPLES / "coffee.webp").read_bytes()
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
JXL = b"\xff\x0a\xfa\x1f" + bytes(60)
SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c" + bytes(60)
HOW = ("--models", "nudenet", "--no-db", "--workers", "1")


def fill(folder: Path, **files: bytes) -> Path:
    """Write files, in whose names a dot is written as two underscores."""
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


def test_media_that_is_not_read_gets_a_record(clipmod: Command, tmp_path: Path) -> None:
    folder = fill(
        tmp_path / "in",
        a__svg=SVG,
        b=JXL,
        c__7z=SEVEN_ZIP,
        d__webp=PICTURE,
        e__pdf=b"%PDF-1.7",
        f__txt=b"words",
        g__zip=make_zip(
            [("a.webp", PICTURE), (".hidden.svg", SVG), ("b.txt", b"words"), ("c.tga", b"\0\0\2")]
        ),
        h__tar=make_tar([("in.zip", make_zip([("b.jxl", JXL)])), ("c.pdf", b"%PDF-1.7")]),
        i__tga=b"\0\0\2" + bytes(60),
    )
    output = tmp_path / "out.jsonl"
    run = clipmod("scan", folder, "-o", output, *HOW)
    assert run.code == 3
    written = output.read_bytes()
    records = [json.loads(line) for line in written.splitlines()]
    assert [
        (Path(one["source"]).name, one["member"], one["error"] and one["error"]["code"]) for one in records
    ] == [
        ("a.svg", None, "unsupported_format"),
        ("b", None, "unsupported_format"),
        ("c.7z", None, "unsupported_format"),
        ("d.webp", None, None),
        ("g.zip", "a.webp", None),
        ("g.zip", ".hidden.svg", "unsupported_format"),
        ("g.zip", "c.tga", "unsupported_format"),
        ("h.tar", "in.zip!/b.jxl", "unsupported_format"),
        ("i.tga", None, "unsupported_format"),
    ]
    assert "SVG" in records[0]["error"]["message"]
    assert "document 2" in run.stderr
    assert records[0]["bytes"] == len(SVG)
    assert records[0]["mtime_ns"] == (folder / "a.svg").stat().st_mtime_ns
    again = clipmod("scan", folder, "-o", output, *HOW)
    assert (again.code, output.read_bytes()) == (3, written)
    (folder / "a.svg").write_bytes(SVG + b"\n")
    assert clipmod("scan", folder, "-o", output, *HOW).code == 3
    assert len(output.read_bytes().splitlines()) == len(records)

    run = clipmod("scan", folder, "--unread", "skip", *HOW)
    assert run.code == 0
    assert [one["source"].rpartition("/")[2] for one in run.records] == ["d.webp", "g.zip"]
    assert "unread format 7" in run.stderr


def test_a_named_file_is_an_input_in_any_case(clipmod: Command, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", a__svg=SVG, b__pdf=b"%PDF-1.7", c__webp=PICTURE)
    run = clipmod("scan", *(folder / name for name in ("a.svg", "b.pdf", "c.webp")), "--unread", "skip", *HOW)
    assert run.code == 3
    assert [one["error"] and one["error"]["code"] for one in run.records] == [
        "unsupported_format",
        "unsupported_format",
        None,
    ]


FOLDER = {"a__webp": PICTURE, "b__txt": b"words"}


@pytest.mark.parametrize(
    ("files", "options", "code"),
    [
        ({}, (), 0),
        ({"a__txt": b"words", "b__pdf": b"%PDF-1.7", "c": bytes(99)}, (), 0),
        ({"a__zip": make_zip([("a.txt", b"words")])}, (), 0),
        ({"a__svg": SVG}, (), 6),
        ({"a__svg": SVG}, ("--unread", "skip"), 6),
        ({"a": JXL}, ("--unread", "skip"), 6),
        ({"a__zip": make_zip([("a.svg", SVG)])}, ("--unread", "skip"), 6),
        (FOLDER, (), 0),
        (FOLDER, ("--exclude", "*.webp"), 6),
        (FOLDER, ("--include", "*.txt"), 6),
        (FOLDER, ("--exclude", "*.txt"), 0),
        ({"__hidden__webp": PICTURE}, (), 6),
        ({"__hidden__txt": b"words"}, (), 0),
        ({"a__zip": make_zip([("a.webp", PICTURE), ("b.txt", b"")])}, ("--exclude", "*.webp"), 6),
    ],
)  # fmt: skip
def test_the_exit_code_of_a_run_that_judged_nothing(
    clipmod: Command, tmp_path: Path, files: dict[str, bytes], options: Sequence[str], code: int
) -> None:
    run = clipmod("scan", fill(tmp_path / "in", **files), *options, *HOW)
    assert run.code == code
    if not run.records:
        assert ("nothing was judged" if code else "warning: no inputs") in run.stderr


def test_media_below_a_skipped_folder_counts_too(clipmod: Command, tmp_path: Path) -> None:
    fill(tmp_path / "in")
    fill(tmp_path / "in" / "deep")
    fill(tmp_path / "in" / "deep" / "er", a__webp=PICTURE)
    for options in (("--exclude", "deep/"), ("--max-depth", "1")):
        assert clipmod("scan", tmp_path / "in", *options, *HOW).code == 6
    (tmp_path / "in" / "deep" / "er" / "a.webp").unlink()
    assert clipmod("scan", tmp_path / "in", "--max-depth", "1", *HOW).code == 0


def test_a_resumed_output_counts_as_a_whole(clipmod: Command, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    folder = fill(tmp_path / "in", a__webp=PICTURE)
    assert clipmod("scan", folder, "-o", output, *HOW).code == 0
    assert clipmod("scan", folder, "-o", output, "--exclude", "*", *HOW).code == 0
    fill(folder, b__svg=SVG)
    assert clipmod("scan", folder, "-o", output, *HOW).code == 3
