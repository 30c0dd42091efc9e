"""Further pictures and films of a file are frames behind its own, or the record says that they are unseen."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import MAX_SCORED_FRAMES, DecodeOptions, parse_frames
from clipmod_cli.types import Failure, Frame, Item
from tests.decode.containers import (
    PALETTED,
    TRANSPARENT,
    blue,
    exif_with_thumbnail,
    film,
    jpeg,
    mpo,
    png_with,
    red,
    sound,
)
from tests.decode.heif import Still, rename, write
from tests.decode.pictures import CENTRE, WHOLE, encode, failure, frames, media, results
from tests.decode.samples import MOVING, STILLS, photo
from tests.decode.test_contents import CONTROLS, RED, UNREAD

ERRORS = {
    "a JPEG behind an AVI": "video_error",  # nothing may follow
    "a JPEG behind an ASF": "video_error",
    "a GIF behind a GIF without an end": "decode_error",  # decoders take its bytes for a frame
    "zeros between them, in place of the end": "decode_error",
}


def is_red(frame: Frame) -> bool:
    array = frame.inputs[WHOLE]
    pixel = array[array.shape[0] // 2, array.shape[1] // 2]
    return bool(pixel[0] > 150 > 2 * pixel[2])


def shown(data: bytes, **options: Any) -> list[Frame]:
    return frames(data, coverage=CENTRE, heic=True, **options)


@pytest.mark.parametrize("label", RED)
def test_what_a_person_can_see_is_a_frame(label: str) -> None:
    """Nothing passes in silence: a red frame, a reason, or an error."""
    found = results(RED[label][0], coverage=CENTRE, heic=True)
    end = found[-1]
    if isinstance(end, Failure):
        assert end.code == ERRORS[label]
        return
    first, *further = [one for one in found if isinstance(one, Frame)]
    assert any(is_red(one) for one in found if isinstance(one, Frame))
    assert not is_red(first) or label == "a film beside a still"
    assert media(end).unseen == ()
    assert media(end).truncated == ("no end marker" in label or "without an end" in label)
    numbers = [one.number for one in (first, *further)]
    assert numbers == sorted(set(numbers))
    duration = media(end).duration_s
    times = [one.time_s for one in further if one.number > 0]
    assert duration is not None or not any(times)


@pytest.mark.parametrize("label", UNREAD)
def test_what_is_not_decoded_is_said(label: str) -> None:
    if UNREAD[label]:
        end = results(UNREAD[label], coverage=CENTRE, heic=True)[-1]
        assert isinstance(end, Failure) or media(end).unseen == ("other_content",)


@pytest.mark.parametrize(
    "data", [PALETTED, encode(TRANSPARENT, "WEBP"), encode(TRANSPARENT, "WEBP", lossless=True)]
)
def test_declared_transparency_needs_no_review(data: bytes) -> None:
    assert media(shown(data)[-1]).unseen == ()


@pytest.mark.parametrize("label", CONTROLS)
def test_an_ordinary_file_gives_no_further_frame_and_no_reason(label: str) -> None:
    found = shown(CONTROLS[label])
    assert media(found[-1]).unseen == ()
    if media(found[-1]).kind == "image":
        assert len(found) == 1


@pytest.mark.parametrize(
    "data",
    [
        jpeg(photo(), (0xE1, exif_with_thumbnail(jpeg(photo().resize((48, 32)))))),
        write([Still(photo()), Still(red().convert("L"), b"auxl"), Still(blue().convert("L"), b"auxl")]),
        mpo(jpeg(photo()), jpeg(photo((48, 32))), kinds=(0x030000, 0x010001)),
        MOVING["AVIF"],
    ],
    ids=["thumbnail", "maps", "preview", "sequence"],
)
def test_a_true_role_makes_no_frame(data: bytes) -> None:
    found = shown(data)
    assert media(found[-1]).unseen == ()
    assert len(found) == (4 if data == MOVING["AVIF"] else 1)


def test_all_frames_of_a_moving_preview_are_frames() -> None:
    """Its first one shows what the primary picture shows."""
    moving = encode(blue(), "PNG", save_all=True, append_images=[red()], duration=100)
    for mode in ("auto", "key"):
        found = shown(png_with(blue(), b"prVw", moving), frames=parse_frames(mode))
        assert [is_red(one) for one in found] == [False, False, True]
        assert media(found[0]).unseen == ()


def test_further_frames_of_a_film_come_behind_its_end() -> None:
    found = shown(film("blue", "blue", form="matroska") + jpeg(red()) + b"x" + encode(red(), "PNG"))
    own = [one for one in found if not is_red(one)]
    later = [one for one in found if is_red(one)]
    assert media(found[0]).kind == "video"
    assert len(own) + len(later) == len(found)
    duration = media(found[0]).duration_s
    assert duration is not None
    assert [one.time_s for one in later] == [duration + 1, duration + 2]


def test_a_film_that_calls_itself_a_picture_or_sound_is_a_film(tmp_path: Path) -> None:
    sequence = rename(film().replace(b"vide", b"pict"), b"heic")
    for data in (*(rename(film(), brand) for brand in (b"avif", b"heic", b"M4A ", b"M4B ")), sequence):
        path = tmp_path / "film"
        path.write_bytes(data)
        for item in (Item(source="film", index=0, data=data), Item(source=str(path), index=0)):
            found = decode_item(item, (WHOLE,), DecodeOptions(coverage=CENTRE))
            assert not isinstance(found[-1], Failure), (data[:16], found[-1])
            assert media(found[0]).kind == "video"
            assert all(is_red(one) for one in found if isinstance(one, Frame))


def test_sound_stays_sound() -> None:
    assert failure(rename(sound(), b"M4A ")).code == "unsupported_format"


def test_sound_with_a_film_in_another_index_is_a_film() -> None:
    def tracks(data: bytes) -> bytes:
        return data[int.from_bytes(data[:4], "big") :]

    for data in (film() + tracks(sound()), sound() + tracks(film())):
        end = results(rename(data, b"M4A "), coverage=CENTRE)[-1]
        assert isinstance(end, Frame) or (isinstance(end, Failure) and end.code == "video_error")
        assert media(end).kind == "video"


def test_heic_that_is_not_allowed_is_other_content() -> None:
    (only,) = frames(jpeg(blue()) + write([Still(red())]), coverage=CENTRE)
    assert media(only).unseen == ("other_content",)


def test_a_damaged_part_is_other_content_or_truncated() -> None:
    for cut in (40, 300, 600):
        found = results(jpeg(blue()) + jpeg(red())[:-cut], coverage=CENTRE)
        assert not isinstance(found[-1], Failure)
        assert media(found[-1]).unseen == ("other_content",) or media(found[-1]).truncated, cut


def test_a_part_of_too_many_pixels_is_other_content() -> None:
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    bomb = encode(red(), "PNG").replace(encode(red(), "PNG")[16:29], header)
    (only,) = frames(jpeg(blue()) + bomb, coverage=CENTRE)
    assert media(only).unseen == ("other_content",)


def test_all_pages_of_a_tiff_are_looked_at_up_to_a_limit() -> None:
    page, last = Image.new("RGB", (32, 32), "blue"), Image.new("RGB", (32, 32), "red")
    data = encode(page, "TIFF", save_all=True, append_images=[page] * 254 + [last])
    found = shown(data)
    assert len(found) == MAX_SCORED_FRAMES
    assert media(found[0]).unseen == ()
    more = shown(encode(page, "TIFF", save_all=True, append_images=[page] * 256 + [last]))
    assert len(more) == MAX_SCORED_FRAMES
    assert media(more[0]).unseen == ("unsampled",)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("label", ["JPEG", "JPEG-grey", "JPEG-CMYK"])
def test_a_jpeg_with_a_neat_end_too_early_is_truncated(label: str, exact: bool) -> None:
    data = STILLS[label]
    whole = frames(data, coverage=CENTRE, exact=exact)
    cut = frames(data[: len(data) * 2 // 3] + b"\xff\xd9", coverage=CENTRE, exact=exact)
    assert [media(one[0]).truncated for one in (whole, cut)] == [False, True]
