"""Files that take as much time and memory as they can, and what may become of each.

Used by a test with small ones and by `benchmarks.bombs` with the largest that are allowed.
"""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from tests.archives.making import make_zip, tar_entry
from tests.archives.quines import gzip_quine, zip_quine
from tests.archives.test_bombs import BOMBS as SWELLING
from tests.archives.test_bombs import nest
from tests.decode.test_bombs import BOMBS as CLAIMING
from tests.decode.test_bombs import webp_claiming

Fate = Literal["judged", "refused", "torn"]
"""`torn` ends in an error or in needs_review; of what is `judged`, every record has a decision."""

FRAMES = 200_000
MEMBER_SIDE = 4_000
"""Of a bitmap in an archive: 48 MB, just under what a member may have."""


@dataclass(frozen=True)
class Bomb:
    """One kind of file.

    Attributes:
        slow: takes as long as an input may, so one of its kind is enough.
    """

    name: str
    make: Callable[[], bytes]
    fate: Fate
    slow: bool = False


def bombs(side: int, *, members: int, slow: bool) -> Iterator[Bomb]:
    """Yield all kinds, with pictures of `side` x `side` pixels and archives of so many large members."""
    for label, data in {**CLAIMING, "WEBP-38": webp_claiming(7_200, 7_100)[:38]}.items():
        yield Bomb(f"claim-{label}", partial(bytes, data), "refused")
    for label, (picture, settings) in _pictures(side).items():
        yield Bomb(label, partial(_draw, picture, label, settings), "judged")
    yield Bomb("torn.png", lambda: _torn(_encode(_noisy(side), "torn.png", {"compress_level": 1})), "torn")
    yield Bomb(
        "torn.webp",
        lambda: _torn(_encode(_noisy(side), "torn.webp", {"lossless": True, "method": 0})),
        "torn",
    )
    yield Bomb("frames.gif", lambda: gif_of(FRAMES, 1), "refused")
    yield Bomb("moving.webp", lambda: _moving("WEBP", side), "judged")
    yield Bomb("moving.png", lambda: _moving("PNG", side), "judged")
    if slow:
        yield Bomb("canvas.gif", lambda: gif_of(FRAMES, side), "refused", slow=True)
    for label, make in SWELLING.items():
        yield Bomb(f"swelling-{label.replace(' ', '-')}.zip", make, "refused")
    yield Bomb("nest.zip", lambda: nest(5, 3), "refused")
    yield Bomb("quine.zip", zip_quine, "refused")
    yield Bomb("quine.gz", gzip_quine, "refused")
    yield Bomb(
        "many.zip",
        lambda: make_zip([(f"{n}.webp", webp_claiming(16_384, 16_384)) for n in range(200)]),
        "refused",
    )
    yield Bomb("large.tar", lambda: tar_of_bitmaps(members), "judged")


def _pictures(side: int) -> Mapping[str, tuple[Callable[[], Image.Image], Mapping[str, Any]]]:
    """Return, by file name, what makes a picture and how it is encoded."""

    def of(mode: str, colour: Any) -> Callable[[], Image.Image]:
        return lambda: Image.new(mode, (side, side), colour)

    red, clear = of("RGB", (200, 30, 30)), of("RGBA", (200, 30, 30, 128))
    lossless = {"lossless": True, "method": 0, "quality": 0}
    deflated = {"compression": "tiff_deflate"}
    return {
        "rgb.png": (red, {}),
        "rgba.png": (clear, {}),
        "deep.png": (of("I;16", 3_000), {}),
        "rgb.webp": (red, lossless),
        "rgba.webp": (clear, lossless),
        "red.avif": (red, {"speed": 10, "quality": 10}),
        "cmyk.tif": (of("CMYK", (9, 200, 200, 0)), deflated),
        "float.tif": (of("F", 0.5), deflated),
        "red.gif": (lambda: red().quantize(4), {}),
        "grey.bmp": (of("L", 80), {}),
        "progressive.jpg": (red, {"progressive": True, "quality": 10}),
        # a JPEG counts after its scaling, so it may be as large as a header may say
        "large.jpg": (lambda: Image.new("L", (2 * side, 2 * side), 99), {"quality": 5}),
    }


def _draw(picture: Callable[[], Image.Image], name: str, settings: Mapping[str, Any]) -> bytes:
    return _encode(picture(), name, settings)


def _encode(picture: Image.Image, name: str, settings: Mapping[str, Any]) -> bytes:
    kinds = {"jpg": "JPEG", "tif": "TIFF"}
    ending = name.rpartition(".")[2]
    buffer = io.BytesIO()
    picture.save(buffer, kinds.get(ending, ending.upper()), **settings)
    return buffer.getvalue()


def _noisy(side: int) -> Image.Image:
    """Return a picture whose rows all take bytes, so that a cut falls into the midst of it."""
    small = np.random.default_rng(0).integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.NEAREST)


def _torn(data: bytes) -> bytes:
    return data[: len(data) * 6 // 10]


def _moving(kind: str, side: int) -> bytes:
    shots = [Image.new("RGB", (side // 2, side // 2), (200, shade, 30)) for shade in range(0, 60, 5)]
    buffer = io.BytesIO()
    settings = {"lossless": True, "method": 0} if kind == "WEBP" else {}
    shots[0].save(buffer, kind, save_all=True, append_images=shots[1:], duration=100, **settings)
    return buffer.getvalue()


def gif_of(frames: int, side: int) -> bytes:
    """Return a GIF of so many frames of one pixel on a canvas of `side` x `side`."""
    size = side.to_bytes(2, "little") * 2
    head = b"GIF89a" + size + b"\x80\0\0" + bytes(3) + b"\xff" * 3
    frame = b"!\xf9\x04\0\x05\0\0\0" + b"," + bytes(4) + b"\1\0\1\0" + b"\0" + b"\2\2D\1\0"
    return head + frame * frames + b";"


def tar_of_bitmaps(members: int) -> bytes:
    """Return a tar of pictures as large as a member may be, each of its own colour."""
    header = b"BM" + (54 + MEMBER_SIDE**2 * 3).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    header += (40).to_bytes(4, "little") + MEMBER_SIDE.to_bytes(4, "little") * 2 + b"\1\0\x18\0" + bytes(24)
    entries = (
        tar_entry(b"%d.bmp" % n, data=header + bytes([n, 30, 200]) * MEMBER_SIDE**2) for n in range(members)
    )
    return b"".join(entries) + bytes(1024)


def write(kinds: Sequence[Bomb], folder: Path, copies: int) -> dict[str, Bomb]:
    """Write so many of each, the copies as links; returns them by path."""
    written: dict[str, Bomb] = {}
    for bomb in kinds:
        first = folder / f"0-{bomb.name}"
        first.write_bytes(bomb.make())
        paths = [first, *(folder / f"{n}-{bomb.name}" for n in range(1, 1 if bomb.slow else copies))]
        for path in paths[1:]:
            os.link(first, path)
        written |= {str(path): bomb for path in paths}
    return written


def find_wrong(lines: Sequence[bytes], written: Mapping[str, Bomb]) -> list[str]:
    """Return what is wrong with the records of these files, in words."""
    records = [json.loads(line) for line in lines]
    seen = Counter((record["source"], record["member"]) for record in records)
    wrong = [f"{count} records of {place}" for place, count in seen.items() if count > 1]
    wrong += [f"no record of {path}" for path in written.keys() - {source for source, _ in seen}]
    for record in records:
        fate, safe = written[record["source"]].fate, record["final_decision"] == "Safe"
        told = f"{record['source']} {record['member']}: {record['status']} {record['error']}"
        if safe and (fate == "refused" or (fate == "torn" and not record["needs_review"])):
            wrong.append(f"never fail open: {told}")
        if fate == "judged" and record["status"] != "ok":
            wrong.append(f"not judged: {told}")
    return wrong
