"""What a file holds beside its own picture or film decides too, through the real command."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.decode.containers import (
    archive,
    blue,
    exif_with_thumbnail,
    film,
    jpeg,
    matroska_with_attachment,
    mpo,
    red,
    tiff_with_sub_ifd,
)
from tests.decode.heif import rename
from tests.decode.pictures import encode
from tests.end_to_end.command import SHAPE_OPTIONS, Command, by_name

FLAGGED: dict[str, bytes] = {
    "motion.jpg": jpeg(blue()) + b"\0junk" + film(),
    "second.mpo.jpg": mpo(jpeg(blue()), jpeg(red()), kinds=(0x030000, 0x010002)),
    "thumbnail.jpg": jpeg(blue(), (0xE1, exif_with_thumbnail(jpeg(red())))),
    "behind.png": encode(blue(), "PNG") + encode(red(), "WEBP"),
    "page.tif": tiff_with_sub_ifd(blue(), red()),
    "attached.mkv": matroska_with_attachment("a.ttf", "font/ttf", encode(red(), "PNG")),
    "film.avif": rename(film(), b"avif"),
    "film.mp4": film("blue", "blue") + jpeg(red()),
}
UNREAD: dict[str, bytes] = {
    "zip.jpg": jpeg(blue()) + archive(),
    "unknown.png": encode(blue(), "PNG") + bytes(range(1, 256)) * 20,
}
CUT = {"cut.jpg": jpeg(blue(400))[:5000] + b"\xff\xd9"}
PLAIN: dict[str, bytes] = {
    "thumbnail-of-itself.jpg": jpeg(blue(400), (0xE1, exif_with_thumbnail(jpeg(blue(160))))),
    "gain-map.jpg": jpeg(blue()) + jpeg(red().convert("L"), (0xE1, b'x hdrgm:Version="1.0"')),
    "zeros.png": encode(blue(), "PNG") + bytes(10_000),
    "opaque.png": encode(blue().convert("RGBA"), "PNG"),
    "pages.tif": encode(blue(), "TIFF", save_all=True, append_images=[Image.new("RGB", (96, 96), "white")]),
}


def test_all_of_a_file_decides(clipmod: Command, tmp_path: Path) -> None:
    for name, data in {**FLAGGED, **UNREAD, **CUT, **PLAIN}.items():
        (tmp_path / name).write_bytes(data)
    records = by_name(clipmod("scan", tmp_path, *SHAPE_OPTIONS).records)
    flagged = {name for name, record in records.items() if record["final_decision"] == "NSFW"}
    assert flagged == set(FLAGGED)
    reasons = {name: records[name]["review_reasons"] for name in (*UNREAD, *CUT, *PLAIN)}
    assert reasons == {
        **{key: ["other_content"] for key in UNREAD},
        **{key: ["truncated"] for key in CUT},
        **{key: [] for key in PLAIN},
    }
    assert (records["motion.jpg"]["kind"], records["motion.jpg"]["frames_scored"]) == ("image", 3)
    assert records["thumbnail-of-itself.jpg"]["frames_scored"] is None
