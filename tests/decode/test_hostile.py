"""Garbage, disguises and damage: always one answer, never a crash, never a word on stderr."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from contextlib import AbstractContextManager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipmod_cli.decode.formats import sniff
from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.stills import opening
from clipmod_cli.install import install_command
from clipmod_cli.types import Failure, Geometry
from tests.decode.pictures import (
    CENTRE,
    QUARTERS,
    WHOLE,
    as_item,
    assert_corners,
    encode,
    failure,
    frame,
    frames,
    media,
    pixels,
    png,
    quarters,
    results,
)
from tests.decode.samples import MOVING, STILLS, TINY
from tests.decode.test_formats import KNOWN


@pytest.mark.parametrize(
    "label", [label for label in KNOWN if label.split("-")[0] in {"JPEG", "PNG", "GIF", "AVIF"}]
)
def test_garbage_with_a_magic_number_is_a_decode_error(label: str) -> None:
    head = KNOWN[label][:24]
    assert failure(head + bytes(range(256)) * 8).code == "decode_error"


@pytest.mark.parametrize("label", ["ZIP", "TAR", "ZSTD"])
def test_archives_are_named_and_not_decoded(label: str) -> None:
    end = failure(KNOWN[label])
    assert end.code == "unsupported_format"
    assert label in end.message
    assert "not an image" in end.message
    assert media(end).format == label


@pytest.mark.parametrize("label", ["MP4", "MATROSKA", "MPEG-TS"])
def test_the_beginning_of_a_video_is_a_broken_video(label: str) -> None:
    end = failure(KNOWN[label])
    assert end.code == "video_error"
    assert (media(end).kind, media(end).format) == ("video", label)


@pytest.mark.parametrize("name", ["PPM", "TGA", "PDF", "EPS", "ICO", "JPEG2000", "PCX", "SGI", "DDS", "QOI"])
def test_what_pillow_could_open_but_nobody_asked_for_is_unsupported(name: str) -> None:
    end = failure(encode(quarters(size=(64, 64)), name))
    assert end.code == "unsupported_format"
    assert media(end).format is None


def test_a_name_means_nothing() -> None:
    assert_corners(pixels(encode(quarters(), "PNG")), list(QUARTERS))
    assert failure(b"<html><body>a picture, says its name</body></html>").code == "unsupported_format"


def test_the_second_picture_of_a_phones_jpeg_is_a_further_frame() -> None:
    # MPO: some viewers show the first only, others both.
    shots = [quarters(), Image.new("RGB", (48, 32))]
    buffer = io.BytesIO()
    shots[0].save(buffer, "MPO", save_all=True, append_images=shots[1:])
    first, second = frames(buffer.getvalue())
    assert (media(first).format, media(first).kind) == ("JPEG", "image")
    assert_corners(first.inputs[WHOLE], list(QUARTERS), 12)
    assert (second.number, second.time_s) == (1, 0.0)
    assert not second.inputs[WHOLE].any()


def test_text_bombs_in_a_png_do_no_harm() -> None:
    bomb = b"Comment\0\0" + zlib.compress(bytes(80_000_000), 9)
    data = png(4, 4, 8, 0, bytes(range(16)), (b"zTXt", bomb))
    end = results(data)[-1]
    assert isinstance(end, Failure) or media(end).truncated


def test_a_decoder_neither_prints_nor_warns_in_a_strict_interpreter() -> None:
    program = """
import sys
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.item import decode_item
from clipmod_cli.types import Geometry, Item
view = Geometry(fit="whole", size=(0, 0))
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


BUGS = [(RuntimeError("a bug"), "internal_error"), (MemoryError(), "out_of_memory")]


@pytest.mark.parametrize(("bug", "code"), BUGS)
def test_a_bug_or_a_lack_of_memory_costs_one_item(bug: Exception, code: str) -> None:
    def gate(_pixels: int) -> AbstractContextManager[None]:
        raise bug

    item = as_item(STILLS["PNG"])
    (end,) = decode_item(item, [WHOLE], DecodeOptions(coverage=CENTRE), gate=gate)
    assert isinstance(end, Failure)
    assert (end.code, end.retryable) == (code, True)
    assert media(end).sha256 is not None


def test_without_the_heic_extra_heic_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_plugin", lambda _: None)
    end = failure(KNOWN["HEIF"], heic=True)
    assert end.code == "unsupported_format"
    assert install_command("heic") in end.message


def test_a_heic_picture_is_read_where_it_is_allowed() -> None:
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    heif.from_pillow(quarters(size=(96, 64))).save(buffer, quality=95)
    result = frame(buffer.getvalue(), heic=True)
    assert_corners(result.inputs[WHOLE], list(QUARTERS), 16)
    assert (media(result).format, media(result).width) == ("HEIF", 96)
    refused = failure(buffer.getvalue())
    assert refused.code == "unsupported_format"
    assert "not accepted here" in refused.message
    assert failure(buffer.getvalue()[:600], heic=True).code == "decode_error"


SEEDS = [*STILLS.values(), *MOVING.values()]
MAGIC = [data[:16] for data in KNOWN.values()]
RELAXED = settings(max_examples=120)


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
    end = results(bytes(damaged[:stop]), [WHOLE, Geometry(fit="squash", size=(8, 8))], limits=TINY)[-1]
    if isinstance(end, Failure):
        assert end.code != "internal_error", end.message


def test_the_seeds_are_what_they_say() -> None:
    for label, data in STILLS.items():
        known = sniff(data)
        assert known is not None
        assert known.name == label.partition("-")[0]
        assert media(frame(data)).kind == "image"
    for label, data in MOVING.items():
        known = sniff(data)
        assert known is not None
        assert known.name == label
        assert {media(shot).kind for shot in frames(data)} == {"animation"}
