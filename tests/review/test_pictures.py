"""What leaves the process of a picture: without detail, or encoded again."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clipmod_cli.review.queue.pictures import BLURRED_PX, DETAIL, ReviewPictures
from tests.end_to_end.command import SAMPLES, TINY
from tests.review.judged import file_line, line_of, table_of
from tests.video.films import scene, write_film


@contextmanager
def pictures_of(folder: Path, *lines: bytes, **options: Any) -> Iterator[ReviewPictures]:
    with table_of(folder / "out.jsonl", *lines) as table, ReviewPictures(table, **options) as found:
        yield found


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "JPEG"
    return picture


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(opened(data).convert("RGB"), dtype=np.float32)


def with_segment(line: bytes, peak_s: float) -> bytes:
    """Return the record of a film with a hit, the worst frame of which is at a time."""
    record = json.loads(line)
    assert record["segments"] == []
    facts = {"start_s": peak_s, "end_s": peak_s, "ensemble_category": "x", "peak_unsafe_score": 0.9}
    return json.dumps(record | {"segments": [facts | {"peak_time_s": peak_s}]}).encode() + b"\n"


def test_a_blurred_picture_is_grey_and_has_no_detail(tmp_path: Path) -> None:
    """Two pictures with the same pixels, those of each cell in another order, cannot be told apart."""
    numbers = np.random.default_rng(3)
    side = 640 // DETAIL * DETAIL
    cell = side // DETAIL
    photo = np.asarray(Image.open(SAMPLES / "astronaut.jpg").convert("RGB").resize((side, side)))
    cells = photo.reshape(DETAIL, cell, DETAIL, cell, 3).swapaxes(1, 2).reshape(-1, cell * cell, 3)
    mixed = numbers.permuted(cells, axis=1).reshape(DETAIL, DETAIL, cell, cell, 3).swapaxes(1, 2)
    paths = [tmp_path / "photo.png", tmp_path / "mixed.png"]
    for path, picture in zip(paths, (photo, mixed.reshape(side, side, 3)), strict=True):
        Image.fromarray(picture).save(path)
    with pictures_of(tmp_path, *map(file_line, paths)) as found:
        blurred = [found.blurred(number, 0, colour=False) for number in (0, 1)]
        sharp = [found.sharp(number, 0, colour=False) for number in (0, 1)]
        assert {opened(one).mode for one in (*blurred, *sharp)} == {"L"}
        assert opened(found.blurred(0, 0, colour=True)).mode == "RGB"
    assert max(opened(blurred[0]).size) == BLURRED_PX
    assert np.abs(pixels(blurred[0]) - pixels(blurred[1])).mean() < 2
    assert np.abs(pixels(sharp[0]) - pixels(sharp[1])).mean() > 8


def test_a_sharp_picture_is_never_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "place.jpg"
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    Image.new("RGB", (300, 200), "red").save(path, exif=exif)
    with pictures_of(tmp_path, file_line(path)) as found:
        sent = found.sharp(0, 0, colour=True)
    assert b"taken at home" in path.read_bytes()
    assert b"taken at home" not in sent
    assert not opened(sent).getexif()


def test_of_a_film_the_worst_frame_comes_first(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    write_film(film, scene(120, red=range(70, 74)), gop=10)
    line = with_segment(file_line(film, kind="video", duration_s=12.0), 7.1)
    with pictures_of(tmp_path, line) as found:
        frames = found.get(0).frames
        assert abs(frames[0].time_s - 7.1) < 0.2
        red, blue = frames[0].pixels.mean(axis=(0, 1))[[0, 2]]
        assert red > blue
        assert len(frames) > 4
        assert [one.time_s for one in frames[1:]] == sorted(one.time_s for one in frames[1:])


def test_a_flash_in_an_animation_is_shown_first(tmp_path: Path) -> None:
    path = tmp_path / "flash.gif"
    plain = [Image.new("RGB", (60, 40), (0, 0, 40 + number)) for number in range(40)]
    plain[23] = Image.new("RGB", (60, 40), "white")
    plain[0].save(path, save_all=True, append_images=plain[1:], duration=100)
    line = with_segment(file_line(path, kind="animation", duration_s=4.0), 2.3)
    with pictures_of(tmp_path, line) as found:
        assert found.get(0).frames[0].pixels.mean() > 200


def test_members_of_archives_are_shown(tmp_path: Path) -> None:
    data = (TINY / "pictures" / "red-circle.jpg").read_bytes()
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("deep/red.jpg", data)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("first.jpg", b"\xff\xd8\xff broken")
        archive.writestr("sub/red.jpg", data)
        archive.writestr("in.zip", inner.getvalue())
    facts = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    other = facts | {"sha256": "0" * 64}
    lines = [
        line_of(str(path), member="sub/red.jpg", media=facts),
        line_of(str(path), member="in.zip!/deep/red.jpg", media=other),
        line_of(str(path), member="none.jpg", media={"bytes": 5}),
    ]
    with pictures_of(tmp_path, *lines) as found:
        assert len(found.get(0).frames) == 1
        assert found.get(1).note == "the file has changed since it was judged"  # found, with another hash
        assert found.get(2).note == "it cannot be read from its archive"


def test_what_is_not_there_as_it_was_judged_is_not_shown(tmp_path: Path) -> None:
    kept, changed, edited = (Path(shutil.copy(SAMPLES / "cat.png", tmp_path / f"{n}.png")) for n in "abc")
    Image.new("RGB", (5, 5)).save(tmp_path / "z.png")
    lines = [file_line(one, sha256=f"{number:064x}") for number, one in enumerate((kept, changed, edited))]
    lines[0] = file_line(kept)
    lines.append(line_of(str(tmp_path / "gone.png")))
    lines.append(line_of("https://example.org/x.png"))
    changed.write_bytes(b"x")
    with pictures_of(tmp_path, *lines) as found:
        assert [found.is_missing(number) for number in range(5)] == [False, True, False, True, False]
        assert found.get(0).frames
        assert [bool(found.get(number).frames) for number in range(1, 5)] == [False] * 4
        assert found.get(2).note == "the file has changed since it was judged"
        assert found.get(4).note == "it is not a file of this machine"


def test_a_copy_is_shown_where_the_first_one_is_gone(tmp_path: Path) -> None:
    there = Path(shutil.copy(SAMPLES / "cat.png", tmp_path / "there.png"))
    gone = Path(shutil.copy(there, tmp_path / "gone.png"))
    lines = [file_line(gone), file_line(there)]
    gone.unlink()
    with pictures_of(tmp_path, *lines) as found:
        assert not found.is_missing(0)
        assert found.get(0).frames


def test_downloads_are_shown_from_where_they_were_saved(tmp_path: Path) -> None:
    data = (SAMPLES / "cat.png").read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    saved = tmp_path / "saved" / digest[:2] / f"{digest}.png"
    saved.parent.mkdir(parents=True)
    saved.write_bytes(data)
    line = line_of("https://example.org/x.png", media={"sha256": digest})
    with pictures_of(tmp_path, line, originals=tmp_path / "saved") as found:
        assert len(found.get(0).frames) == 1
