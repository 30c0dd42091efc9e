"""Banks of PDQ: near copies of a still are denied, and nothing else is; none is ever allowed by it."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipmod_cli.banks.bank import Bank, Banks, BankSpec
from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import DecodeLimits, DecodeOptions
from clipmod_cli.decode.stage import Decoders, decode_with
from clipmod_cli.decode.stills.pdq import pdq_of
from clipmod_cli.decode.workers.pool import WorkerPool
from clipmod_cli.errors import BankError
from clipmod_cli.pipeline import Options, infer
from clipmod_cli.results import BankVerdict
from clipmod_cli.types import Frame, Item
from tests.banks.making import sha, write_bank
from tests.colour_models import RedClassifier
from tests.decode.containers import film
from tests.decode.photographs import PHOTOGRAPHS, TOWER, photograph
from tests.end_to_end.command import SHAPE_OPTIONS, Command, by_name, read_records
from tests.end_to_end.conftest import clipmod, folder, out
from tests.on_device import ensemble_of

__all__ = ["clipmod", "folder", "out"]

SCAN = (*SHAPE_OPTIONS, "--no-isolate", "--no-db")


def digits(picture: Image.Image) -> str:
    return pdq_of(np.asarray(picture.convert("RGB"))).bits.hex()


COFFEE = digits(photograph("coffee.png"))


def jpeg(picture: Image.Image, quality: int = 80, **options: Any) -> bytes:
    file = BytesIO()
    picture.save(file, "JPEG", quality=quality, **options)
    return file.getvalue()


def half(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width // 2, picture.height // 2))


def near(folder: Path, *lines: str, distance: int = 31) -> Bank:
    return Bank.read(BankSpec(kind="deny", path=write_bank(folder / "near", *lines), distance=distance))


def flipped(digits: str, bits: int) -> str:
    return f"{int(digits, 16) ^ ((1 << bits) - 1):064x}"


def test_a_bank_finds_what_differs_in_few_bits(tmp_path: Path) -> None:
    lines = [
        flipped(COFFEE, 200),
        flipped(COFFEE, 31),
        f"pdq:{flipped(COFFEE, 20)} coffee",
        f"md5:{'0' * 32}",
    ]
    bank = near(tmp_path, *lines)
    assert bank.find_near(bytes.fromhex(COFFEE)) is not None
    assert bank.find_near(bytes.fromhex(flipped(COFFEE, 90))) is None
    assert dict(bank.not_compared) == {"MD5": 1}
    assert bank.facts["hashes"] == 3
    strict = near(tmp_path, flipped(COFFEE, 31), distance=30)
    assert strict.find_near(bytes.fromhex(COFFEE)) is None


def test_the_exchange_format_and_its_labels(tmp_path: Path) -> None:
    rows = [
        "indicator,type,tags,status",
        f"{digits(photograph('rocket.jpg'))},HASH_PDQ,spam,MALICIOUS",
        f"{COFFEE},HASH_PDQ,gore,MALICIOUS",
        f"{sha(b'a')},HASH_SHA256,x,MALICIOUS",
        f"{flipped(COFFEE, 3)},HASH_PDQ,fine,NON_MALICIOUS",
    ]
    bank = near(tmp_path, *rows)
    found = bank.find_near(bytes.fromhex(flipped(COFFEE, 3)))
    assert found is not None
    assert (found.bank, found.type) == ("near", "gore")
    assert bank.find(bytes.fromhex(sha(b"a"))) is not None
    assert dict(bank.not_compared) == {"NON_MALICIOUS": 1}


@pytest.mark.parametrize("line", ["", f"md5:{'0' * 32}"])
def test_a_bank_without_a_hash_to_compare_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(BankError, match="it holds no PDQ or SHA-256"):
        near(tmp_path, line)


@pytest.mark.parametrize("isolate", [False, True])
def test_the_hash_is_that_of_the_whole_picture_and_views_stay_as_they_are(isolate: bool) -> None:
    """Also of a JPEG that is decoded at a part of its size, and as it is displayed."""
    large = photograph("rocket.jpg", (2400, 1600))
    exif = Image.Exif()
    exif[0x0112] = 6
    moves = BytesIO()
    small = large.resize((90, 60))
    small.save(moves, "GIF", save_all=True, append_images=[small.rotate(90)])
    data = [
        jpeg(large),
        jpeg(large.transpose(Image.Transpose.ROTATE_90), exif=exif),
        moves.getvalue(),
        jpeg(Image.new("RGB", (300, 200), "red")),
        film(),
    ]
    items = [Item(source=f"{number}", index=number, data=one) for number, one in enumerate(data)]
    with Decoders(2, pool=WorkerPool() if isolate else None) as decoders:
        plain = list(decode_with(decoders, items, [TOWER], DecodeOptions()))
        found = list(decode_with(decoders, items, [TOWER], DecodeOptions(pdq=True)))
    for before, after in zip(plain, found, strict=True):
        assert isinstance(before, Frame)
        assert isinstance(after, Frame)
        assert before.view == after.view
        assert (before.inputs[TOWER] == after.inputs[TOWER]).all()
        assert before.media.pdq is None
    hashes = {one.item.index: one.media.pdq or "" for one in found if one.media is not None}
    expected = int(digits(Image.open(BytesIO(data[0]))), 16)
    assert int(hashes[0], 16) == expected
    assert (int(hashes[1], 16) ^ expected).bit_count() <= 16
    assert [hashes[index] for index in (2, 3, 4)] == ["", "", ""]


def test_a_picture_that_is_too_large_at_full_size_has_no_hash() -> None:
    large = jpeg(photograph("rocket.jpg", (2400, 1600)))
    options = DecodeOptions(pdq=True, limits=DecodeLimits(max_pixels=2_000_000))
    one = decode_item(Item(source="x", index=0, data=large), [TOWER], options)[-1]
    assert isinstance(one, Frame)
    assert one.media.pdq == ""


def test_no_evidence_is_given_of_near_copies(tmp_path: Path) -> None:
    """The interfaces of the service that only classify ask for it."""
    pictures = [half(photograph("coffee.png")), photograph("chelsea.png")]
    items = [Item(source="x", index=number, data=jpeg(one)) for number, one in enumerate(pictures)]
    banks = Banks([near(tmp_path, COFFEE)])
    found = list(infer(items, ensemble_of(RedClassifier()), Options(), banks=banks))
    assert [isinstance(one, BankVerdict) for one in found if one.item.index == 0] == [True]
    assert {isinstance(one, BankVerdict) for one in found if one.item.index == 1} == {False}


@pytest.fixture
def photographs(folder: Path) -> Path:
    for name in PHOTOGRAPHS:
        picture = photograph(name)
        picture.save(folder / f"{Path(name).stem}.png")
        (folder / f"{Path(name).stem}-copy.jpg").write_bytes(jpeg(half(picture), 50))
    return folder


def denied_in(path: Path) -> set[str]:
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    return {Path(one["source"]).name for one in records if one["decided_by"] == "deny"}


def test_near_copies_are_denied_in_a_scan(clipmod: Command, photographs: Path, out: Path) -> None:
    bank = write_bank(out.with_name("near.txt"), COFFEE)
    run = clipmod("scan", photographs, "-o", out, *SCAN, "--bank", f"deny:{bank}:31")
    assert run.code == 0, run.stderr
    assert denied_in(out) == {"coffee.png", "coffee-copy.jpg"}
    records = by_name(read_records(out.read_bytes()))
    for name in denied_in(out):
        assert records[name]["final_decision"] == "NSFW"
        assert records[name]["unsafe_score"] is None
        assert records[name]["matches"] == [{"bank": "near.txt", "type": None, "note": None}]
    assert records["chelsea.png"]["pdq"] == digits(photograph("chelsea.png"))


def test_what_is_allowed_by_its_bytes_is_not_denied_as_a_near_copy(
    clipmod: Command, photographs: Path, out: Path
) -> None:
    bank = write_bank(out.with_name("near.txt"), COFFEE)
    allow = write_bank(out.with_name("allow.txt"), sha((photographs / "coffee.png").read_bytes()))
    words = ["--bank", f"deny:{bank}:31", "--bank", f"allow:{allow}"]
    clipmod("scan", photographs, "-o", out, *SCAN, *words)
    records = by_name(read_records(out.read_bytes()))
    assert (records["coffee.png"]["final_decision"], records["coffee.png"]["decided_by"]) == ("Safe", "allow")
    assert denied_in(out) == {"coffee-copy.jpg"}


@pytest.mark.parametrize("form", ["full", "compact"])
def test_old_records_are_decided_anew(clipmod: Command, photographs: Path, out: Path, form: str) -> None:
    """Those without a hash are read once more; from then on a changed bank needs no picture."""
    first, second = (photograph(name).resize((60, 40)) for name in ("coffee.png", "rocket.jpg"))
    first.save(photographs / "moves.gif", save_all=True, append_images=[second])
    words = ["scan", str(photographs), "-o", str(out), *SCAN, "--record", form]
    clipmod(*words)
    bank = write_bank(out.with_name("near.txt"), COFFEE)
    words += ["--bank", f"deny:{bank}:31"]
    assert "9 to retry" in clipmod(*words).stderr
    assert denied_in(out) == {"coffee.png", "coffee-copy.jpg"}
    assert "0 to retry" in clipmod(*words).stderr
    write_bank(bank, digits(photograph("rocket.jpg")))
    run = clipmod(*words)
    assert "2 decided again by banks" in run.stderr
    assert "2 to retry" in run.stderr  # those that no bank denies any more
    assert denied_in(out) == {"rocket.png", "rocket-copy.jpg"}
    assert len(out.read_bytes().splitlines()) == 9


def test_evidence_is_whole_and_rescored_by_the_bank(clipmod: Command, photographs: Path, out: Path) -> None:
    bank, stored, new = out.with_name("near.txt"), out.with_name("EV"), out.with_name("new.jsonl")
    write_bank(bank, COFFEE)
    clipmod("scan", photographs, "-o", out, *SCAN, "--bank", f"deny:{bank}:31", "--evidence", stored)
    run = clipmod("rescore", stored, *SHAPE_OPTIONS[:2], "-o", new, "--bank", f"deny:{bank}:31")
    assert run.code in {0, 3}, run.stderr
    assert denied_in(out) == denied_in(new) == {"coffee.png", "coffee-copy.jpg"}
