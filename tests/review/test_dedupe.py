"""`clipmod dedupe`: what is called a copy of what, and what never is."""

from __future__ import annotations

import csv
import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipmod_cli.output.reading.withheld import change_withheld
from tests.decode.photographs import PHOTOGRAPHS, photograph
from tests.end_to_end.command import SHAPE_OPTIONS, TINY, Command, read_records
from tests.end_to_end.conftest import clipmod, folder, out

__all__ = ["clipmod", "folder", "out"]

SCAN = (*SHAPE_OPTIONS, "--no-isolate", "--no-db")
Row = dict[str, Any]


def draw(path: Path, colour: str, size: int = 32) -> Path:
    Image.new("RGB", (size, size), colour).save(path)
    return path


def copy(path: Path, name: str) -> Path:
    made = path.with_name(name)
    shutil.copy2(path, made)
    return made


def rows_of(path: Path) -> list[Row]:
    return list(csv.DictReader(StringIO(path.read_text(encoding="utf-8"))))


def clusters_of(rows: Sequence[Row]) -> list[tuple[str, set[str]]]:
    """Return the name of each representative, and those of its copies."""
    found: dict[str, tuple[str, set[str]]] = {}
    for row in rows:
        name = row["member"] or Path(row["source"]).name
        if row["representative"] == "true":
            assert row["cluster"] not in found
            found[row["cluster"]] = (name, set())
        else:
            found[row["cluster"]][1].add(name)
    return list(found.values())


def scan(clipmod: Command, *sources: Path, out: Path, options: Sequence[str | Path] = SCAN) -> None:
    run = clipmod("scan", *sources, "-o", out, *options)
    assert run.code in {0, 1, 3}, run.stderr


def test_the_same_bytes_are_copies(clipmod: Command, folder: Path, out: Path) -> None:
    red = draw(folder / "red.png", "red")
    copy(red, "red again.png")
    draw(folder / "green.png", "green")
    scan(clipmod, folder, out=out)
    table = out.with_name("clusters.csv")
    run = clipmod("dedupe", out, "--by", "sha256", "-o", table)
    assert (run.code, run.stdout) == (0, b"")
    assert "1 cluster: 1 copy" in run.stderr
    rows = rows_of(table)
    assert clusters_of(rows) == [("red again.png", {"red.png"})]
    assert {row["distance"] for row in rows} == {"0"}
    assert {(row["width"], row["height"], row["bytes"]) for row in rows} == {
        ("32", "32", str(red.stat().st_size))
    }
    listed = clipmod("dedupe", out, "--by", "sha256")
    assert listed.stdout == f"{red}\n".encode()
    assert sorted(path.name for path in folder.iterdir()) == ["green.png", "red again.png", "red.png"]


def test_all_lists_every_input_once(clipmod: Command, folder: Path, out: Path) -> None:
    """Also errors and films; a picture without a copy is a cluster of its own."""
    red = draw(folder / "red.png", "red")
    copy(red, "copy.png")
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    copy(folder / "bad.jpg", "bad too.jpg")
    Image.new("RGB", (32, 32), "blue").save(
        folder / "film.gif", save_all=True, append_images=[Image.new("RGB", (32, 32), "red")]
    )
    scan(clipmod, folder, out=out)
    table = out.with_name("clusters.jsonl")
    assert clipmod("dedupe", out, "--by", "sha256", "-o", table, "--all").code == 0
    rows = [json.loads(line) for line in table.read_bytes().splitlines()]
    records = read_records(out.read_bytes())
    assert sorted(row["source"] for row in rows) == sorted(record["source"] for record in records)
    assert len({row["cluster"] for row in rows}) == len({record["sha256"] for record in records}) == 3
    assert sum(row["representative"] for row in rows) == 3


def test_what_is_gone_or_changed_represents_nothing(clipmod: Command, folder: Path, out: Path) -> None:
    """Else the last copy could be deleted for one that does not exist."""
    for colour in ("red", "blue", "lime"):
        for number in range(2):
            draw(folder / f"{colour}{number}.png", colour)
    scan(clipmod, folder, out=out)
    (folder / "red0.png").unlink()
    draw(folder / "blue0.png", "black")
    run = clipmod("dedupe", out, "--by", "sha256")
    assert run.stdout == f"{folder / 'lime1.png'}\n".encode()
    assert "1 left out: the file is gone" in run.stderr
    assert "1 left out: the file has changed" in run.stderr


def test_one_file_under_two_names_is_no_copy(
    clipmod: Command, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a link, by a linked folder, by another path in another output, and by a hard link."""
    red = draw(folder / "red.png", "red")
    (folder / "linked.png").symlink_to(red)
    os.link(red, folder / "hard.png")
    (folder.parent / "also").symlink_to(folder)
    scan(clipmod, folder, folder.parent / "also", out=out, options=(*SCAN, "--follow"))
    monkeypatch.chdir(folder)
    other = out.with_name("other.jsonl")
    scan(clipmod, Path("red.png"), out=other)
    run = clipmod("dedupe", out, other, "--by", "sha256")
    assert (run.code, run.stdout) == (0, b"")
    assert "left out: another record names the same file" in run.stderr
    assert "0 clusters" in run.stderr


def test_copies_in_archives_and_urls_are_told_and_not_listed(
    clipmod: Command, folder: Path, out: Path
) -> None:
    """Their files hold more, or are not here; and no file is listed of which only such copies are left."""
    red = draw(folder / "red.png", "red")
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write(red, "inside.png")
        archive.write(red, "twice.png")
    scan(clipmod, folder, out=out)
    (record,) = [one for one in read_records(out.read_bytes()) if one["member"] is None]
    with out.open("a") as file:
        for number in range(2):
            far = record | {"source": f"https://example.org/{number}.png", "index": 10 + number}
            file.write(json.dumps(far) + "\n")
    table = out.with_name("clusters.csv")
    assert clipmod("dedupe", out, "--by", "sha256", "-o", table).code == 0
    assert clusters_of(rows_of(table)) == [("red.png", {"inside.png", "twice.png", "0.png", "1.png"})]
    assert clipmod("dedupe", out, "--by", "sha256").stdout == b""
    red.unlink()
    assert clipmod("dedupe", out, "--by", "sha256").stdout == b""


def test_names_of_any_bytes(clipmod: Command, folder: Path, out: Path) -> None:
    red = draw(folder / "a.png", "red")
    odd, sly = os.fsencode(folder) + b"/caf\xe9.png", folder / "b\nc.png"
    shutil.copy2(red, os.fsdecode(odd))
    shutil.copy2(red, sly)
    scan(clipmod, folder, out=out)
    table = out.with_name("clusters.csv")
    assert clipmod("dedupe", out, "--by", "sha256", "-o", table).code == 0
    assert sum(bool(row["source_b64"]) for row in rows_of(table)) == 1
    run = clipmod("dedupe", out, "--by", "sha256")
    assert (run.code, run.stdout) == (2, odd + b"\n")
    assert "-0" in run.stderr
    run = clipmod("dedupe", out, "--by", "sha256", "-0")
    assert (run.code, run.stdout) == (0, os.fsencode(sly) + b"\0" + odd + b"\0")


def test_what_is_withheld_is_not_named(clipmod: Command, folder: Path, out: Path) -> None:
    for name in ("hidden.png", "hidden too.png"):
        draw(folder / name, "red")
    scan(clipmod, folder, out=out, options=(*SCAN, "--evidence", out.with_name("EV")))
    change_withheld(out, add=read_records(out.read_bytes())[:1])
    for words in (["--by", "sha256"], ["--by", "embedding", "--evidence", out.with_name("EV")]):
        run = clipmod("dedupe", out, *words)
        assert (run.code, run.stdout) == (0, b"")
        assert "hidden" not in run.stderr
        assert "2 are withheld" in run.stderr


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs as PNG, and copies of each: the same bytes, other formats, qualities and sizes."""
    made = tmp_path_factory.mktemp("photographs")
    for name in (*PHOTOGRAPHS, "camera.png", "coins.png", "ihc.png", "motorcycle_left.png"):
        stem, picture = Path(name).stem, photograph(name)
        picture.save(made / f"{stem}.png")
        shutil.copy2(made / f"{stem}.png", made / f"{stem}-same.png")
        picture.save(made / f"{stem}-q90.jpg", quality=90)
        picture.save(made / f"{stem}-q40.jpg", quality=40)
        picture.save(made / f"{stem}-.webp", quality=70)
        picture.save(made / f"{stem}-.bmp")
        for share in (0.75, 0.5):
            smaller = picture.resize((round(picture.width * share), round(picture.height * share)))
            smaller.save(made / f"{stem}-{share}.jpg", quality=85)
    return made


def stem_of(name: str) -> str:
    return name.partition("-")[0].partition(".")[0]


def check_clusters(rows: Sequence[Row], stems: set[str]) -> None:
    """Check that the copies of each of these photographs are one cluster, and nothing else is."""
    found = {
        stem_of(representative): (representative, copies) for representative, copies in clusters_of(rows)
    }
    assert found.keys() == stems
    for stem, (representative, copies) in found.items():
        assert representative == f"{stem}-.bmp"  # of the largest by pixels that with the most bytes
        assert {stem_of(name) for name in copies} == {stem}
        assert len(copies) == 7


def test_pdq_groups_the_copies_of_a_photograph(clipmod: Command, photographs: Path, out: Path) -> None:
    scan(clipmod, photographs, out=out)
    table = out.with_name("clusters.csv")
    run = clipmod("dedupe", out, "--by", "pdq:31", "-o", table)
    assert run.code == 0, run.stderr
    assert "cannot compare" not in run.stderr
    rows = rows_of(table)
    check_clusters(rows, {stem_of(path.name) for path in photographs.iterdir()})
    assert len(rows) == len(list(photographs.iterdir()))
    assert max(int(row["distance"]) for row in rows) in range(1, 32)
    assert clipmod("dedupe", out, "--by", "pdq:0", "-o", table, "--overwrite").code == 0
    assert {row["distance"] for row in rows_of(table)} == {"0"}
    assert len(rows_of(table)) < len(rows)


def test_embeddings_group_the_copies_of_a_photograph(
    clipmod: Command, photographs: Path, folder: Path, out: Path
) -> None:
    """The tiny models tell these four apart, by views of a whole and by squares."""
    for path in photographs.iterdir():
        if stem_of(path.name) in {Path(name).stem for name in PHOTOGRAPHS}:
            shutil.copy2(path, folder)
    tiny = [f"open_clip:local-dir:{TINY / 'models' / name}" for name in ("tiny-l", "tiny-h")]
    options = ("--policy", TINY / "shapes.toml", "--models", ",".join(tiny), "--no-isolate", "--no-db")
    scan(clipmod, folder, out=out, options=(*options, "--evidence", out.with_name("EV")))
    table = out.with_name("clusters.csv")
    run = clipmod("dedupe", out, "--by", "embedding:0.995", "--evidence", out.with_name("EV"), "-o", table)
    assert run.code == 0, run.stderr
    rows = rows_of(table)
    check_clusters(rows, {Path(name).stem for name in PHOTOGRAPHS})
    assert all(0.995 <= float(row["similarity"]) <= 1 for row in rows)


def test_pdq_reads_archives_and_turns_pictures_upright(clipmod: Command, folder: Path, out: Path) -> None:
    """A member with the same bytes as a file is not read; a copy that EXIF turns is one."""
    picture = photograph("coffee.png")
    picture.save(folder / "coffee.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", quality=90, exif=exif)
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for number, quality in enumerate((85, 30)):
            file = BytesIO()
            picture.save(file, "JPEG", quality=quality)
            archive.writestr(f"{number}.jpg", file.getvalue())
        archive.write(folder / "coffee.png", "same.png")
        archive.writestr("other.png", (draw(folder.parent / "x.png", "red")).read_bytes())
    scan(clipmod, folder, out=out)
    table = out.with_name("clusters.csv")
    run = clipmod("dedupe", out, "--by", "pdq", "-o", table)
    assert clusters_of(rows_of(table)) == [("coffee.png", {"0.jpg", "1.jpg", "same.png", "turned.jpg"})]
    assert "1 compared by their bytes alone; 1 has too little structure" in run.stderr


def test_pictures_of_one_colour_are_never_near_copies(clipmod: Command, folder: Path, out: Path) -> None:
    for number in range(3):
        draw(folder / f"{number}.png", f"#f0000{number}")
    copy(folder / "0.png", "same.png")
    scan(clipmod, folder, out=out)
    table = out.with_name("clusters.csv")
    assert clipmod("dedupe", out, "--by", "pdq", "-o", table).code == 0
    assert clusters_of(rows_of(table)) == [("0.png", {"same.png"})]


def test_what_pdq_cannot_read_is_named(clipmod: Command, folder: Path, out: Path) -> None:
    """A URL, a member that is not there, and a file that was given its old size and time again."""
    photograph("coffee.png").save(folder / "coffee.png")
    draw(folder / "far.png", "red")
    with zipfile.ZipFile(folder / "c.zip", "w") as archive:
        archive.write(draw(folder.parent / "x.png", "blue"), "in.png")
    scan(clipmod, folder, out=out)
    named = {one["member"] or Path(one["source"]).name: one for one in read_records(out.read_bytes())}
    named["coffee.png"]["sha256"] = "0" * 64
    named["far.png"]["source"] = "https://example.org/far.png"
    named["in.png"]["member"] = "gone.png"
    out.write_text("".join(json.dumps(one) + "\n" for one in named.values()))
    run = clipmod("dedupe", out, "--by", "pdq")
    assert (run.code, run.stdout) == (0, b"")
    assert f"cannot compare {folder / 'coffee.png'}: it has changed" in run.stderr
    assert "cannot compare https://example.org/far.png: it is not on this machine" in run.stderr
    assert f"cannot compare gone.png in {folder / 'c.zip'}: it cannot be read" in run.stderr
    assert "3 compared by their bytes alone" in run.stderr


@pytest.mark.parametrize("by", ["pdq", "embedding:0.99"])
def test_compact_records_do_not_tell_sizes_and_kinds(
    clipmod: Command, folder: Path, out: Path, by: str
) -> None:
    """The largest is by pixels all the same, and films are compared by their bytes."""
    picture = photograph("coffee.png")
    picture.save(folder / "large.jpg", quality=60)
    smaller = picture.resize((picture.width // 2, picture.height // 2))
    smaller.save(folder / "small.bmp")
    assert (folder / "small.bmp").stat().st_size > (folder / "large.jpg").stat().st_size
    for name in ("film.gif", "film.webp"):
        smaller.save(folder / name, save_all=True, append_images=[picture.resize(smaller.size).rotate(90)])
    scan(clipmod, folder, out=out, options=(*SCAN, "--record", "compact", "--evidence", out.with_name("EV")))
    table = out.with_name("clusters.csv")
    words = ["--evidence", str(out.with_name("EV"))] if by.startswith("embedding") else []
    run = clipmod("dedupe", out, "--by", by, *words, "-o", table)
    assert clusters_of(rows_of(table)) == [("large.jpg", {"small.bmp"})]
    assert "2 compared by their bytes alone" in run.stderr
    assert "cannot compare" not in run.stderr


def test_films_and_errors_are_compared_by_their_bytes_alone(
    clipmod: Command, folder: Path, out: Path
) -> None:
    draw(folder / "red.png", "red")
    draw(folder / "red.bmp", "red", 64)
    shades = [Image.new("RGB", (32, 32), colour) for colour in ("red", "#fd0000", "#fb0000")]
    shades[0].save(folder / "film.gif", save_all=True, append_images=shades[1:])
    shades[0].save(folder / "film.webp", save_all=True, append_images=shades[1:], lossless=True)
    copy(folder / "film.gif", "film copy.gif")
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    scan(clipmod, folder, out=out, options=(*SCAN, "--evidence", out.with_name("EV")))
    table = out.with_name("clusters.csv")
    run = clipmod("dedupe", out, "--by", "embedding:0.9", "--evidence", out.with_name("EV"), "-o", table)
    assert "3 compared by their bytes alone" in run.stderr
    assert sorted(clusters_of(rows_of(table))) == [
        ("film copy.gif", {"film.gif"}),
        ("red.bmp", {"red.png"}),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "md5"], "--by must be sha256"),
        (["--by", "pdq:91"], "needs a whole number of bits from 0 to 90"),
        (["--by", "pdq:x"], "needs a whole number of bits"),
        (["--by", "sha256:3"], "--by must be sha256"),
        (["--by", "embedding:1.5", "--evidence", "EV"], "needs a cosine above 0 and up to 1"),
        (["--by", "embedding:x", "--evidence", "EV"], "needs a cosine"),
        (["--by", "embedding"], "needs --evidence EV"),
        (["--by", "sha256", "--evidence", "EV"], "--evidence has no effect"),
        (["--by", "embedding", "--evidence", "EV"], "EV holds no evidence"),
        (["--by", "sha256", "-o", "x.txt"], "-o must end in one of"),
    ],
)
def test_wrong_calls(
    clipmod: Command, out: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(out.parent)
    out.write_bytes(b"")
    run = clipmod("dedupe", out, *words)
    assert run.code == 2
    assert message in run.stderr


def test_evidence_without_embeddings_is_refused(clipmod: Command, folder: Path, out: Path) -> None:
    draw(folder / "red.png", "red")
    options = ("--models", "open_nsfw", "--no-isolate", "--no-db", "--evidence", out.with_name("EV"))
    scan(clipmod, folder, out=out, options=options)
    run = clipmod("dedupe", out, "--by", "embedding", "--evidence", out.with_name("EV"))
    assert run.code == 2
    assert "holds no embeddings: none of its models (open_nsfw)" in run.stderr
