"""Add a picture format: one entry of `FORMATS` makes `clipmod scan` find, decode and judge it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from clipmod_cli.decode import formats
from clipmod_cli.decode.formats import Format
from tests.end_to_end.command import SAMPLES, SHAPE_OPTIONS, Command, read_records

SIGNATURE = b"TOYPIX\r\n"
HEADER_BYTES = len(SIGNATURE) + 4


class ToyImageFile(ImageFile.ImageFile):
    """Signature, width and height in 2 bytes each, RGB rows."""

    format = "TOY"

    def _open(self) -> None:
        assert self.fp is not None
        header = self.fp.read(HEADER_BYTES)
        width, height = (int.from_bytes(header[at : at + 2], "big") for at in (8, 10))
        self._size, self._mode = (width, height), "RGB"
        self.tile = [ImageFile._Tile("raw", (0, 0, width, height), HEADER_BYTES, ("RGB", 0, 1))]


TOY = Format(
    name="TOY",
    sniff=lambda head: head.startswith(SIGNATURE),
    extensions=("toy",),
    mime="image/x-toy",
    open=f"{__name__}:ToyImageFile",
    listed=("toy",),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one picture twice: by its extension, and cut in the midst of its rows."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    with Image.open(SAMPLES / "cat.png") as cat:
        rgb = cat.convert("RGB")
    data = b"".join((SIGNATURE, *(side.to_bytes(2, "big") for side in rgb.size), rgb.tobytes()))
    (folder / "cat.toy").write_bytes(data)
    (folder / "cut.TOY").write_bytes(data[: len(data) // 2])
    return folder


def test_one_entry_adds_a_format(
    clipmod: Command, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("scan", folder, *SHAPE_OPTIONS, "--no-isolate", "--no-db", "--json", "-o", out)
    assert clipmod(*words).code == 0
    assert read_records(out.read_bytes()) == []

    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, TOY))
    run = clipmod(*words)
    assert run.code == 0, run.stderr
    whole, cut = read_records(out.read_bytes())
    assert (whole["status"], whole["format"], whole["truncated"]) == ("ok", "TOY", False)
    (reference,) = read_records(clipmod("scan", SAMPLES / "cat.png", *SHAPE_OPTIONS, "--no-db").stdout)
    for field in ("final_decision", "category_ensemble_probabilities"):
        assert whole[field] == reference[field]
    assert (cut["status"], cut["format"], cut["truncated"]) == ("ok", "TOY", True)

    counted = json.loads(clipmod("scan", folder, "--dry-run", *SHAPE_OPTIONS).stdout)
    assert counted["formats"]["TOY"]["inputs"] == 2
