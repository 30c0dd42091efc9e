"""`clipmod report`: what is in the file, and what can no longer be seen."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from clipmod_cli.output.reading.records import open_records
from clipmod_cli.records import to_line, to_record
from clipmod_cli.results import Result
from clipmod_cli.review.sheet import Finding, read_sheet
from clipmod_cli.review.thumbnails import DETAIL, Thumbnail, thumbnails_of
from clipmod_cli.review.words import REASONS, clock, hits_of
from clipmod_cli.types import ReviewReason
from tests.end_to_end.command import SHAPE_OPTIONS, TINY, Command
from tests.results import RUN, plain_failure, plain_verdict
from tests.video.films import scene, write_film

PICTURES = TINY / "pictures"
HOSTILE = '<img src=x onerror="alert(1)">&amp;\'.jpg'


class Tags(HTMLParser):
    """All tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def pictures(self) -> list[np.ndarray[Any, Any]]:
        """Return the grey pictures in the page's bytes."""
        found = [attrs["src"] or "" for tag, attrs in self.tags if tag == "img"]
        return [grey_of(uri) for uri in found]


def grey_of(uri: str) -> np.ndarray[Any, Any]:
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == "L"
        return np.asarray(picture, dtype=np.int16)


def record_of(path: Path, index: int = 0, **media: Any) -> bytes:
    """Return the record of a file as it is now, flagged."""
    verdict = plain_verdict(index, source=str(path))
    info = path.stat()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = {"bytes": info.st_size, "mtime_ns": info.st_mtime_ns, "sha256": sha256, **media}
    return to_line(to_record(replace(verdict, media=replace(verdict.media, **facts)), RUN))


def thumbnails(tmp_path: Path, *lines: bytes) -> list[tuple[Finding, Thumbnail]]:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"".join(lines))
    with open_records([str(path)]) as reader:
        sheet = read_sheet(reader, limit=100)
    return list(thumbnails_of(sheet.findings))


def report(clipmod: Command, tmp_path: Path, *words: str | Path) -> tuple[Tags, str]:
    """Return the page that the command writes, and what it says."""
    page = tmp_path / "sheet.html"
    run = clipmod("report", *words, "-o", page, "--overwrite")
    assert (run.code, run.stdout) == (0, b""), run.stderr
    return Tags(page.read_text(encoding="utf-8")), run.stderr


def test_a_scan_is_shown_from_end_to_end(clipmod: Command, tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out.jsonl"
    shutil.copytree(PICTURES, folder)
    shutil.copy(folder / "red-circle.jpg", folder / HOSTILE)
    (folder / "rtl-\u202egpj.exe").write_bytes((folder / "red-circle.jpg").read_bytes())
    write_film(folder / "film.mp4", scene(60, red=range(30, 40)), gop=10)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    clipmod("scan", folder, *SHAPE_OPTIONS, "-o", out)
    counts = [json.loads(line)["final_decision"] for line in out.read_bytes().splitlines()]
    page, said = report(clipmod, tmp_path, out)
    assert f"of {len(counts)} inputs listed" in said
    assert f"{counts.count('NSFW')}NSFW" in page.text
    assert f"{counts.count('Safe')}Safe" in page.text
    assert HOSTILE in page.text
    assert "rtl-\\u202egpj.exe" in page.text
    assert "\u202e" not in page.text
    assert "Policyshapes" in page.text
    assert "Modelstiny-l" in page.text
    assert "decode error" in page.text
    assert re.search(r"Hit at 0:0\d of 0:0\d|Hit 0:0\d to 0:0\d of 0:0\d", page.text)
    assert len(page.pictures()) >= counts.count("NSFW")


def test_the_page_can_do_nothing(clipmod: Command, tmp_path: Path) -> None:
    picture = tmp_path / HOSTILE
    shutil.copy(PICTURES / "red-circle.jpg", picture)
    lines = [record_of(picture), to_line(to_record(plain_failure(1), RUN))]
    (tmp_path / f"{HOSTILE}.jsonl").write_bytes(b"".join(lines))
    page, _ = report(clipmod, tmp_path, tmp_path / f"{HOSTILE}.jsonl")
    names = {tag for tag, _ in page.tags}
    assert not names & {
        "script",
        "iframe",
        "object",
        "embed",
        "link",
        "base",
        "video",
        "audio",
        "foreignobject",
    }
    for tag, attributes in page.tags:
        assert not [
            name for name in attributes if name.startswith("on") or name in {"style", "action", "srcset"}
        ]
        assert (attributes.get("src") or "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,"), tag
        assert (attributes.get("href") or "#").startswith("#"), tag
    (policy,) = [
        a["content"] or "" for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")


def noise(tmp_path: Path, name: str, pixels: np.ndarray[Any, Any]) -> Path:
    path = tmp_path / f"{name}.png"
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_no_detail_of_a_picture_is_in_the_file(tmp_path: Path) -> None:
    """Two pictures that differ in details alone give the same thumbnail: what is equal tells nothing."""
    ramp = np.linspace(90, 160, 480)[:, None] + np.linspace(-20, 20, 480)[None, :]
    place = np.indices((480, 480)) // 6
    board = np.where(place.sum(axis=0) % 2, 50.0, -50.0)
    plain = noise(tmp_path, "plain", np.repeat(ramp[..., None], 3, axis=2))
    detailed = noise(tmp_path, "detailed", np.repeat((ramp + board)[..., None], 3, axis=2))
    (_, one), (_, other) = thumbnails(tmp_path, record_of(plain), record_of(detailed, 1))
    assert np.abs(grey_of(one.uri) - grey_of(other.uri)).max() <= 8  # of 100 levels between the squares


def enlargement(side: int, cells: int) -> np.ndarray[Any, Any]:
    """Return the matrix `(side, cells)` by which so many pixels are enlarged along one side."""
    rows = [Image.fromarray(row[None].astype(np.float32)) for row in np.eye(cells)]
    return np.stack([np.asarray(row.resize((side, 1), Image.Resampling.BICUBIC))[0] for row in rows], axis=1)


@pytest.mark.parametrize("cell", [1, 5, 10, 40])
def test_a_thumbnail_is_made_of_so_few_numbers(tmp_path: Path, cell: int) -> None:
    """All of it follows from `DETAIL` x `DETAIL` numbers; nothing can bring back what they do not tell."""
    cells = np.random.default_rng(cell).integers(0, 256, (400 // cell, 400 // cell, 1))
    path = noise(tmp_path, "noise", cells.repeat(cell, 0).repeat(cell, 1).repeat(3, 2))
    ((_, thumbnail),) = thumbnails(tmp_path, record_of(path))
    grey = grey_of(thumbnail.uri).astype(np.float64)
    matrix = enlargement(grey.shape[0], DETAIL)
    inverse = np.linalg.pinv(matrix)
    explained = matrix @ (inverse @ grey @ inverse.T) @ matrix.T
    assert (grey - explained).std() < 4  # of 256: what JPEG and rounding do
    if cell == 40:
        assert grey.std() > 30  # and it does show large things


def test_colours_are_gone(tmp_path: Path) -> None:
    red = noise(tmp_path, "red", np.full((64, 64, 3), (200, 0, 0)))
    ((_, thumbnail),) = thumbnails(tmp_path, record_of(red))
    assert int(grey_of(thumbnail.uri).std()) == 0


def test_a_film_is_shown_where_it_is_worst(clipmod: Command, tmp_path: Path) -> None:
    dark = [Image.new("RGB", (96, 64), (10, 10, 10))] * 40
    film = write_film(tmp_path / "film.mp4", [*dark[:20], *scene(8, red=range(8)), *dark[20:]], gop=10)
    clipmod("scan", film, *SHAPE_OPTIONS, "-o", tmp_path / "out.jsonl")
    ((finding, thumbnail),) = thumbnails(tmp_path, (tmp_path / "out.jsonl").read_bytes())
    assert finding.kind == "video"
    assert finding.outcome == "nsfw"
    assert grey_of(thumbnail.uri).max() > 90  # not one of the dark frames


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda path: path.unlink(), "the file is gone"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "the file has changed since"),
        (lambda path: path.write_bytes(bytes(reversed(path.read_bytes()))), "the file has changed since"),
    ],
    ids=["gone", "longer", "other bytes of the same length"],
)
def test_a_file_that_is_not_what_was_judged_is_not_shown(tmp_path: Path, change: Any, note: str) -> None:
    path = tmp_path / "one.bmp"
    shutil.copy(PICTURES / "yellow-star.bmp", path)
    line = record_of(path)
    change(path)
    ((_, thumbnail),) = thumbnails(tmp_path, line)
    assert (thumbnail.uri, thumbnail.note) == ("", note)


def as_member(result: Result) -> Result:
    return replace(result, item=replace(result.item, member="in/side.jpg"))


@pytest.mark.parametrize(
    ("line", "note"),
    [
        (
            to_line(to_record(plain_verdict(source="https://example.org/a.jpg"), RUN)),
            "not a file of this machine",
        ),
        (to_line(to_record(plain_verdict(source="s3://bucket/a.jpg"), RUN)), "not a file of this machine"),
        (to_line(to_record(as_member(plain_verdict(source="a.zip")), RUN)), "inside an archive"),
        (to_line(to_record(plain_failure(), RUN)), "could not be read"),
        (to_line(to_record(plain_verdict(source="a\0b"), RUN)), "the file is gone"),
    ],
)
def test_what_is_no_file_here_says_so(tmp_path: Path, line: bytes, note: str) -> None:
    ((_, thumbnail),) = thumbnails(tmp_path, line)
    assert (thumbnail.uri, thumbnail.note) == ("", note)


def test_the_worst_come_first_and_the_rest_is_counted(clipmod: Command, tmp_path: Path) -> None:
    verdicts = [plain_verdict(number, unsafe=0.5 + number / 100) for number in range(9)]
    unsure = replace(plain_verdict(20, unsafe=0.45), review_reasons=("review_margin",))
    results: list[Result] = [plain_verdict(30, unsafe=0.1), plain_failure(31), unsure, *verdicts]
    (tmp_path / "out.jsonl").write_bytes(b"".join(to_line(to_record(one, RUN)) for one in results))
    page, said = report(clipmod, tmp_path, tmp_path / "out.jsonl", "--no-pictures")
    shown = [int(number) for number in re.findall(r"photos/(\d+)\.jpg", page.text)]
    assert shown == [8, 7, 6, 5, 4, 3, 2, 1, 0, 20, 31]
    assert page.pictures() == []
    assert "The score is near the threshold." in page.text
    page, said = report(clipmod, tmp_path, tmp_path / "out.jsonl", "--limit", "4")
    assert "7 more are counted and not listed" in said
    assert "5 more are not shown" in page.text
    assert "4 listed files are gone" in said
    page, _ = report(clipmod, tmp_path, tmp_path / "out.jsonl", "--all", "--no-pictures")
    assert "photos/30.jpg" in page.text


def test_compact_records_are_shown_too(clipmod: Command, tmp_path: Path) -> None:
    fields = json.loads(to_line(to_record(plain_verdict(source="a.jpg"), RUN)))
    kept = ("source", "status", "final_decision", "needs_review", "review_reasons", "unsafe_score", "sha256")
    compact = {"schema": "clipmod/1-compact", **{name: fields[name] for name in kept}}
    (tmp_path / "out.jsonl").write_text(json.dumps(compact) + "\n", encoding="utf-8")
    page, _ = report(clipmod, tmp_path, tmp_path / "out.jsonl")
    assert "a.jpg" in page.text
    assert "0.92" in page.text


def test_an_empty_output_is_a_page_too(clipmod: Command, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").touch()
    page, _ = report(clipmod, tmp_path, tmp_path / "out.jsonl")
    assert "0 inputs" in page.text


@pytest.mark.parametrize("name", ["out.jsonl", "sheet.pdf", "no/sheet.html", "there.html"])
def test_nothing_is_overwritten(clipmod: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / "out.jsonl").write_bytes(to_line(to_record(plain_verdict(), RUN)))
    (tmp_path / "there.html").write_text("mine", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert clipmod("report", tmp_path / "out.jsonl", "-o", tmp_path / name).code == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_every_reason_has_words() -> None:
    assert set(REASONS) == set(get_args(ReviewReason))


@pytest.mark.parametrize(("seconds", "told"), [(0, "0:00"), (61.9, "1:01"), (3723.0, "1:02:03")])
def test_times_read_as_on_a_player(seconds: float, told: str) -> None:
    assert clock(seconds) == told


def test_only_a_few_hits_are_listed(tmp_path: Path) -> None:
    still = plain_verdict()
    fields = json.loads(to_line(to_record(still, RUN)))
    spans = [(1, 4), (10, 10), (30, 31), (50, 52), (70, 71)]
    names = ("start_s", "end_s", "ensemble_category", "peak_unsafe_score", "peak_time_s")
    segments = [dict(zip(names, (a, b, "x", 0.5 + a / 1000, a), strict=True)) for a, b in spans]
    line = json.dumps({**fields, "kind": "video", "segments": segments, "duration_s": 90.0}) + "\n"
    ((finding, _),) = thumbnails(tmp_path, line.encode())
    assert hits_of(finding) == "Hits 0:01 to 0:04, at 0:10, 0:30 to 0:31 and 2 more of 1:30, worst at 1:10"
