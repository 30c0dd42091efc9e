"""Bombs, torn files, garbage and disguises: always one answer, never a crash, never a false success."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from clipmod_cli.decode.formats import sniff
from clipmod_cli.decode.limits import Limits
from clipmod_cli.decode.stills import MAX_JPEG_SCANS
from clipmod_cli.types import Failure, View
from tests.decode.pictures import (
    QUARTERS,
    RED,
    WHOLE,
    assert_corners,
    encode,
    failure,
    frame,
    frames,
    media,
    pixels,
    png,
    png_chunk,
    quarters,
    results,
)
from tests.decode.test_formats import KNOWN


def photo(size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Return a picture that compresses as badly as a photograph and has no two equal rows."""
    noise = np.random.default_rng(7).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    smooth = quarters(size=size).resize(size, Image.Resampling.BICUBIC)
    return Image.blend(smooth, Image.fromarray(noise), 0.4)


def moving(name: str, count: int = 4, **settings: Any) -> bytes:
    shots = [photo().rotate(20 * number) for number in range(count)]
    return encode(shots[0], name, save_all=True, append_images=shots[1:], duration=120, **settings)


STILLS: dict[str, bytes] = {
    "JPEG": encode(photo(), "JPEG", quality=90),
    "JPEG-progressive": encode(photo(), "JPEG", quality=90, progressive=True),
    "JPEG-grey": encode(photo().convert("L"), "JPEG"),
    "JPEG-CMYK": encode(photo().convert("CMYK"), "JPEG"),
    "PNG": encode(photo(), "PNG"),
    "PNG-palette": encode(photo().quantize(64), "PNG"),
    "PNG-alpha": encode(photo().convert("RGBA"), "PNG"),
    "WEBP": encode(photo(), "WEBP"),
    "WEBP-lossless": encode(photo(), "WEBP", lossless=True),
    "GIF": encode(photo(), "GIF", interlace=0),
    "BMP": encode(photo(), "BMP"),
    "TIFF": encode(photo(), "TIFF"),
    "TIFF-lzw": encode(photo(), "TIFF", compression="tiff_lzw"),
    "TIFF-jpeg": encode(photo(), "TIFF", compression="jpeg"),
    "AVIF": encode(photo(), "AVIF"),
}
MOVING: dict[str, bytes] = {
    "GIF": moving("GIF"),
    "PNG": moving("PNG"),
    "WEBP": moving("WEBP"),
    "AVIF": moving("AVIF"),
    "TIFF": moving("TIFF"),
}
RESCUED = {"JPEG", "JPEG-progressive", "JPEG-grey", "JPEG-CMYK", "PNG", "PNG-palette", "PNG-alpha", "WEBP",
           "WEBP-lossless", "GIF", "BMP", "TIFF"}  # fmt: skip
"""What can be decoded in part. The others keep their directory at the end, or decode all or nothing."""

TINY = Limits(max_pixels=1_000_000, max_header_pixels=1_000_000)


# --- too many pixels --------------------------------------------------------------------------------


def jpeg_claiming(width: int, height: int) -> bytes:
    data = bytearray(encode(quarters(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_claiming(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    chunk = b"VP8L" + (18).to_bytes(4, "little") + b"\x2f" + bits.to_bytes(4, "little") + bytes(13)
    return b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk


def gif_claiming(width: int, height: int) -> bytes:
    data = encode(quarters(), "GIF")
    return data[:6] + struct.pack("<HH", width, height) + data[10:]


def gif_growing() -> bytes:
    """A small first frame, and a second one that wants a canvas of 65,535 x 65,535."""
    data = bytearray(moving("GIF", 2))
    at = data.rindex(b"," + struct.pack("<HHHH", 0, 0, 96, 64))
    data[at + 5 : at + 9] = b"\xff" * 4
    return bytes(data)


def tiff_claiming(width: int, height: int) -> bytes:
    entries = [
        (256, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
        (279, 10),
    ]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)


def avif_claiming(width: int, height: int) -> bytes:
    claim = b"ispe" + bytes(4) + struct.pack(">II", width, height)
    return re.sub(rb"ispe.{12}", lambda _: claim, encode(quarters(), "AVIF"), flags=re.DOTALL)


BOMBS: dict[str, bytes] = {
    "PNG": png(20_000, 20_000, 8, 0, b""),
    "JPEG": jpeg_claiming(29_000, 29_000),
    "WEBP": webp_claiming(16_384, 16_384),
    "GIF": gif_claiming(29_000, 29_000),
    "GIF-growing": gif_growing(),
    "BMP": b"BM"
    + bytes(12)
    + struct.pack("<IiiHHIIiiII", 40, 29_000, 29_000, 1, 24, 0, 0, 0, 0, 0, 0)
    + bytes(8),
    "TIFF": tiff_claiming(29_000, 29_000),
    "AVIF": avif_claiming(16_000, 16_000),
    "PNG-side": png(30_001, 1, 8, 0, bytes(30_001)),
    "TIFF-side": tiff_claiming(1, 2_000_000_000),
}


@pytest.mark.parametrize("label", BOMBS)
def test_a_header_that_claims_too_much_is_refused_before_decoding(label: str) -> None:
    assert len(BOMBS[label]) < 100_000
    end = failure(BOMBS[label])
    assert end.code == "too_many_pixels"
    assert media(end).format == label.partition("-")[0]
    assert media(end).sha256 is not None


def test_a_jpeg_counts_after_its_scaling() -> None:
    data = encode(Image.new("RGB", (1600, 1200), RED), "JPEG")
    limits = Limits(max_pixels=400_000)
    small = View(fit="shortest", size=(64, 64), crop=(64, 64))
    result = frame(data, [small], limits=limits)
    assert_corners(result.views[small], [RED] * 4, 3)
    assert (media(result).width, media(result).height) == (1600, 1200)
    assert failure(data, [small], limits=limits, exact=True).code == "too_many_pixels"
    assert failure(data, [WHOLE], limits=limits).code == "too_many_pixels"


def test_a_picture_larger_than_pillow_allows_passes_when_the_limits_do() -> None:
    # Pillow by itself stops at 179 megapixels; a phone's 200 must pass.
    data = encode(Image.new("L", (16_000, 12_000), 255), "JPEG", quality=1)
    view = View(fit="squash", size=(16, 16))
    assert_corners(frame(data, [view]).views[view], [(255,) * 3] * 4, 3)


def test_a_view_that_would_be_huge_is_refused() -> None:
    strip = encode(Image.new("L", (20_000, 1)), "PNG")
    assert failure(strip, [View(fit="shortest", size=(224, 224))]).code == "too_many_pixels"
    cropped = View(fit="shortest", size=(224, 224), crop=(224, 224))
    for exact in (False, True):
        assert frame(strip, [cropped], exact=exact).views[cropped].shape == (224, 224, 3)


def test_a_progressive_jpeg_of_endless_scans_is_refused() -> None:
    data = encode(photo(), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    scan = data[start:-2]
    assert failure(data[:-2] + scan * MAX_JPEG_SCANS + data[-2:]).code == "decode_error"
    assert frames(data + scan * MAX_JPEG_SCANS), "what lies behind the end is none of its scans"


# --- torn files -------------------------------------------------------------------------------------

CUTS = [*range(0, 100, 7), 96, 97, 98, 99]


@pytest.mark.parametrize("label", STILLS)
def test_a_torn_still_is_truncated_or_an_error_but_never_whole(label: str) -> None:
    data = STILLS[label]
    original = pixels(data).astype(int)
    for percent in CUTS:
        end = results(data[: len(data) * percent // 100])[-1]
        if isinstance(end, Failure):
            assert end.code in {"decode_error", "empty_file", "unsupported_format"}
        elif not media(end).truncated:
            assert np.array_equal(end.views[WHOLE], original), f"rows are missing at {percent} %"


@pytest.mark.parametrize("label", sorted(RESCUED))
def test_what_a_torn_still_has_is_shown(label: str) -> None:
    data = STILLS[label]
    original = pixels(data).astype(int)
    result = frame(data[: len(data) * 70 // 100])
    assert media(result).truncated
    assert (media(result).width, media(result).height) == (96, 64)
    first, last = (0, 24) if label != "BMP" else (40, 64)  # a bitmap begins at the bottom
    difference = np.abs(result.views[WHOLE].astype(int) - original)[first:last].mean()
    assert difference < (40 if label == "JPEG-progressive" else 3)


def test_a_torn_picture_is_turned_like_a_whole_one() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("JPEG", "PNG", "TIFF"):
        data = encode(photo(), name, exif=exif)
        result = frame(data[: len(data) * 80 // 100])
        assert media(result).truncated
        assert result.views[WHOLE].shape == (96, 64, 3)
        assert (media(result).width, media(result).height) == (64, 96)
        assert np.abs(result.views[WHOLE].astype(int) - pixels(data)).mean() < 30


HEADERS = {"JPEG": (b"\xff\xda", 14), "PNG": (b"IDAT", 6), "GIF": (b",\0\0\0\0", 14), "BMP": (b"BM", 54)}
"""What the data begin behind, and how far behind its first byte."""


@pytest.mark.parametrize("label", HEADERS)
def test_filler_alone_is_no_picture(label: str) -> None:
    mark, length = HEADERS[label]
    end = failure(STILLS[label][: STILLS[label].index(mark) + length])
    assert end.code == "decode_error"
    assert not media(end).truncated


def test_a_jpeg_without_its_end_is_truncated() -> None:
    data = STILLS["JPEG"]
    result = frame(data[:-2])
    assert media(result).truncated
    assert np.array_equal(result.views[WHOLE], pixels(data))


@pytest.mark.parametrize("label", STILLS)
def test_garbage_behind_a_picture_is_fine(label: str) -> None:
    result = frame(STILLS[label] + bytes(1000) + b"garbage")
    assert not media(result).truncated
    assert np.array_equal(result.views[WHOLE], pixels(STILLS[label]))


def test_a_png_with_a_wrong_checksum_is_shown_for_review() -> None:
    comment = png_chunk(b"tEXt", b"Comment\0hello")
    data = STILLS["PNG"][:33] + comment[:-1] + b"x" + STILLS["PNG"][33:]
    result = frame(data)
    assert media(result).truncated
    assert np.array_equal(result.views[WHOLE], pixels(STILLS["PNG"]))


def test_tolerance_for_one_picture_is_not_tolerance_for_all() -> None:
    from PIL import ImageFile

    torn = STILLS["PNG"][: len(STILLS["PNG"]) // 2]
    for _ in range(3):
        assert media(frame(torn)).truncated
        assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("label", MOVING)
def test_a_torn_animation_is_never_a_shorter_one(label: str) -> None:
    data = MOVING[label]
    whole = {shot.number: shot.views[WHOLE] for shot in frames(data)}
    assert len(whole) == 4
    for percent in CUTS:
        found = results(data[: len(data) * percent // 100])
        shots = [result for result in found if not isinstance(result, Failure)]
        if not isinstance(found[-1], Failure):
            assert media(found[-1]).truncated or len(shots) == 4, f"cut at {percent} % it passes for whole"
        for shot in shots[1:]:
            assert np.array_equal(shot.views[WHOLE], whole[shot.number])


# --- garbage and disguises --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "label", [label for label in KNOWN if label.split("-")[0] in {"JPEG", "PNG", "GIF", "AVIF"}]
)
def test_garbage_with_a_magic_number_is_a_decode_error(label: str) -> None:
    head = KNOWN[label][:24]
    assert failure(head + bytes(range(256)) * 8).code == "decode_error"


@pytest.mark.parametrize("label", ["MP4", "MATROSKA", "ZIP", "TAR", "RAR", "MPEG-TS"])
def test_videos_and_archives_are_named_and_not_decoded(label: str) -> None:
    end = failure(KNOWN[label])
    assert end.code == "unsupported_format"
    assert label in end.message
    assert "pictures and animations only" in end.message
    assert media(end).format == label


@pytest.mark.parametrize("name", ["PPM", "TGA", "PDF", "EPS", "ICO", "JPEG2000", "PCX", "SGI", "DDS", "QOI"])
def test_what_pillow_could_open_but_nobody_asked_for_is_unsupported(name: str) -> None:
    end = failure(encode(quarters(size=(64, 64)), name))
    assert end.code == "unsupported_format"
    assert media(end).format is None


def test_a_name_means_nothing() -> None:
    assert_corners(pixels(encode(quarters(), "PNG")), list(QUARTERS))
    assert failure(b"<html><body>a picture, says its name</body></html>").code == "unsupported_format"


def test_the_second_picture_of_a_phones_jpeg_is_left_alone() -> None:
    # MPO: viewers show the first; what follows is a depth map or a preview.
    shots = [quarters(), Image.new("RGB", (48, 32))]
    buffer = io.BytesIO()
    shots[0].save(buffer, "MPO", save_all=True, append_images=shots[1:])
    result = frame(buffer.getvalue())
    assert (media(result).format, media(result).kind) == ("JPEG", "image")
    assert_corners(result.views[WHOLE], list(QUARTERS), 12)


def test_text_bombs_in_a_png_do_no_harm() -> None:
    bomb = b"Comment\0\0" + zlib.compress(bytes(80_000_000), 9)
    data = png(4, 4, 8, 0, bytes(range(16)), (b"zTXt", bomb))
    end = results(data)[-1]
    assert isinstance(end, Failure) or media(end).truncated


def test_a_decoder_neither_prints_nor_warns_in_a_strict_interpreter() -> None:
    program = """
import sys
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.picture import decode_item
from clipmod_cli.types import Item, View
view = View(fit="whole", size=(0, 0))
for number in range(int(sys.argv[1])):
    data = sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(4), "big"))
    print(type(decode_item(Item(source="x", index=number, data=data), [view], DecodeOptions())[-1]).__name__)
"""
    oddities = [*(data[: len(data) * 9 // 10] for data in [*STILLS.values(), *MOVING.values()])]
    stdin = b"".join(len(data).to_bytes(4, "big") + data for data in oddities)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(len(oddities))], input=stdin, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert set(done.stdout.split()) <= {b"Frame", b"Failure"}
    assert len(done.stdout.split()) == len(oddities)


SEEDS = [*STILLS.values(), *MOVING.values()]
MAGIC = [data[:16] for data in KNOWN.values()]
RELAXED = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@RELAXED
@given(head=st.sampled_from([b"", *MAGIC]), body=st.binary(max_size=300))
def test_any_bytes_have_exactly_one_ending(head: bytes, body: bytes) -> None:
    end = results(head + body, limits=TINY)[-1]
    if isinstance(end, Failure):
        assert end.code != "internal_error"


@RELAXED
@given(data=st.data())
def test_any_damaged_picture_has_exactly_one_ending(data: st.DataObject) -> None:
    seed = data.draw(st.sampled_from(SEEDS))
    damaged = bytearray(seed)
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(seed) - 1), st.integers(0, 255)), max_size=12)
    ):
        damaged[at] = value
    stop = data.draw(st.integers(len(seed) // 2, len(seed)))
    end = results(bytes(damaged[:stop]), [WHOLE, View(fit="squash", size=(8, 8))], limits=TINY)[-1]
    if isinstance(end, Failure):
        assert end.code != "internal_error", end.message


def test_the_seeds_are_what_they_say() -> None:
    for label, data in STILLS.items():
        assert sniff(data) == label.partition("-")[0]
        assert media(frame(data)).kind == "image"
    for label, data in MOVING.items():
        assert sniff(data) == label
        assert {media(shot).kind for shot in frames(data)} == {"animation"}
