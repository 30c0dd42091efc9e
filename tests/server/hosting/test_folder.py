"""The folders of hosted pictures and predictions: quotas, expiry, what a crash left, other processes."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.output.history.rows import HostedRow
from clipmod_cli.server.hosting.folder import STALE_S
from clipmod_cli.server.hosting.pictures import HostedPictures
from clipmod_cli.server.hosting.predictions import Predictions, stem_of
from clipmod_cli.server.hosting.quota import AnswerPins, QuotaLedger
from tests.server.ensemble.pictures import RED_CIRCLE, grown

HOUR_S = 3600.0


def hosting_in(
    folder: Path, *, expiry_s: float = HOUR_S, quota: int = 1_000_000, files: int = 100
) -> HostedPictures:
    hosting = HostedPictures(folder / "hosted", expiry_s, QuotaLedger(quota, files))
    hosting.open()
    return hosting


def predictions_in(folder: Path, *, quota: int = 1_000_000, files: int = 100) -> Predictions:
    predictions = Predictions(folder / "predictions", HOUR_S, QuotaLedger(quota, files))
    predictions.open()
    return predictions


def answered() -> AnswerPins:
    """Return the pins of an answer that is already sent."""
    pins = AnswerPins()
    pins.release()
    return pins


def offer(hosting: HostedPictures, data: bytes = RED_CIRCLE, pins: AnswerPins | None = None) -> Any:
    """Host a picture; return its row, or why it is not hosted."""
    sha256 = hashlib.sha256(data).hexdigest()
    return hosting.keep(data, name="../a.jpg", format_name="JPEG", sha256=sha256, pins=pins or answered())


def keep(hosting: HostedPictures, pins: AnswerPins | None = None) -> HostedRow:
    hosted = offer(hosting, pins=pins)
    assert isinstance(hosted, HostedRow), hosted
    return hosted


def read(hosting: HostedPictures, one: HostedRow) -> bytes | None:
    found = hosting.open_file(one.image_id)
    if found is None:
        return None
    with found[1] as file:
        return file.read()


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    hosting = hosting_in(tmp_path)
    keep(hosting)
    files = list(hosting.folder.iterdir())
    assert len(files) == 2
    assert all(path.stat().st_mode & 0o077 == 0 for path in [*files, hosting.folder])


def test_a_picture_is_gone_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosting = hosting_in(tmp_path)
    one, other = keep(hosting), keep(hosting)
    later = time.time() + HOUR_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert read(hosting, one) is None  # nobody has swept yet
    hosting.sweep()
    assert len(hosting.ledger) == 0
    assert read(hosting, other) is None
    assert list(hosting.folder.iterdir()) == []


@pytest.mark.parametrize("limits", [{"quota": 3 * len(RED_CIRCLE)}, {"files": 3}], ids=["bytes", "number"])
def test_the_oldest_make_room(tmp_path: Path, limits: dict[str, int]) -> None:
    hosting = hosting_in(tmp_path, **limits)
    kept = [keep(hosting) for _ in range(5)]
    assert [read(hosting, one) is not None for one in kept] == [False, False, True, True, True]
    assert len(list(hosting.folder.iterdir())) == 2 * 3


def test_what_is_larger_than_the_quota_evicts_nothing(tmp_path: Path) -> None:
    hosting = hosting_in(tmp_path, quota=len(RED_CIRCLE))
    one = keep(hosting)
    larger = grown("red-circle.jpg", 10 * len(RED_CIRCLE))
    assert offer(hosting, larger) == "quota"
    assert read(hosting, one) == RED_CIRCLE


def test_what_an_unsent_answer_names_is_not_evicted(tmp_path: Path) -> None:
    hosting = hosting_in(tmp_path, files=2)
    pins = AnswerPins()
    kept = [keep(hosting, pins) for _ in range(2)]
    assert offer(hosting) == "quota"
    hosting.sweep()
    assert all(read(hosting, one) for one in kept)
    pins.release()
    new = keep(hosting)
    assert [read(hosting, one) is not None for one in (*kept, new)] == [False, True, True]


def test_a_restart_finds_what_is_there(tmp_path: Path) -> None:
    one = keep(hosting_in(tmp_path))
    again = hosting_in(tmp_path)
    assert (len(again.ledger), again.ledger.size) == (1, len(RED_CIRCLE))
    assert read(again, one) == RED_CIRCLE
    assert hosting_in(tmp_path, quota=1).open_file(one.image_id) is None


def test_halves_that_a_crash_left_are_removed_once_they_are_old(tmp_path: Path) -> None:
    hosting = hosting_in(tmp_path)
    whole, no_picture, no_sidecar, torn = (keep(hosting) for _ in range(4))
    (hosting.folder / no_picture.image_id).unlink()
    (hosting.folder / f"{no_sidecar.image_id}.json").unlink()
    (hosting.folder / f"{torn.image_id}.json").write_text("{", encoding="utf-8")
    (hosting.folder / f".{'0' * 32}.12345678.part").write_bytes(b"half")
    (hosting.folder / "notes.txt").write_text("not ours", encoding="utf-8")
    again = hosting_in(tmp_path)
    assert [one for one in (whole, no_picture, no_sidecar, torn) if read(again, one)] == [whole]
    assert len(list(hosting.folder.iterdir())) == 2 + 1 + 1 + 2 + 1 + 1, "another process may be writing them"
    for path in hosting.folder.iterdir():
        os.utime(path, (0, time.time() - STALE_S - 1))
    again.sweep()
    assert {path.stem for path in hosting.folder.iterdir()} == {whole.image_id, "notes"}


def test_a_file_that_somebody_else_removed_is_gone(tmp_path: Path) -> None:
    hosting = hosting_in(tmp_path)
    one = keep(hosting)
    (hosting.folder / one.image_id).unlink()
    assert read(hosting, one) is None
    hosting.sweep()
    assert len(hosting.ledger) == 0


def test_a_disk_that_takes_no_more_costs_only_the_link(tmp_path: Path) -> None:
    hosting = hosting_in(tmp_path)
    hosting.folder.rmdir()
    assert offer(hosting) == "storage"
    assert len(hosting.ledger) == 0


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    one, two = hosting_in(tmp_path, files=3), hosting_in(tmp_path, files=3)
    first = keep(one)
    assert read(two, first) == RED_CIRCLE, "without waiting for a sweep"
    assert two.delete(first.image_id)
    assert read(one, first) is None
    assert not one.delete(first.image_id)
    both = [keep(hosting) for hosting in (one, two) * 3]
    one.sweep()
    two.sweep()
    assert [read(two, each) is not None for each in both] == [False] * 3 + [True] * 3
    assert len(one.ledger) == 3
    one.sweep()
    assert [read(one, each) is not None for each in both] == [False] * 3 + [True] * 3


def test_a_picture_that_one_service_deletes_is_counted_by_no_other(tmp_path: Path) -> None:
    one, two = hosting_in(tmp_path), hosting_in(tmp_path)
    first, _ = keep(one), keep(one)
    assert (one.count(), two.count()) == (2, 2)
    assert two.delete(first.image_id)
    assert (one.count(), two.count()) == (1, 1)
    assert not one.delete(first.image_id)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.jpg", "a"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\y.jpg", "y"),
        ("...", "image"),
        ("", "image"),
        ("ä ö.png", "image"),
        ("x" * 300 + ".png", "x" * 60),
    ],
)
def test_a_prediction_is_named_after_its_picture(name: str, stem: str) -> None:
    assert stem_of(name) == stem


def test_old_predictions_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = predictions_in(tmp_path)
    folder = predictions.folder
    assert predictions.write_answer(predictions.name_for("a.jpg"), b"{}", answered())
    (folder / "notes.txt").write_text("not ours", encoding="utf-8")
    predictions.sweep()
    assert len(list(folder.iterdir())) == 2
    later = time.time() + HOUR_S + 60
    monkeypatch.setattr(time, "time", lambda: later)
    predictions.sweep()
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("limits", [{"quota": 30}, {"files": 3}], ids=["bytes", "number"])
def test_the_oldest_predictions_make_room(tmp_path: Path, limits: dict[str, int]) -> None:
    predictions = predictions_in(tmp_path, **limits)
    names = [predictions.name_for(f"{number}.jpg") for number in range(5)]
    assert all(predictions.write_answer(name, bytes(10), answered()) for name in names)
    assert {f"predictions/{path.name}" for path in predictions.folder.iterdir()} == set(names[2:])
    assert predictions.ledger.size == 30


def test_predictions_of_an_earlier_process_count(tmp_path: Path) -> None:
    earlier = predictions_in(tmp_path)
    for number in range(5):
        name = earlier.name_for(f"{number}.jpg")
        assert earlier.write_answer(name, b"{}", answered())
        os.utime(tmp_path / name, (number + 1, time.time() - 60 + number))
    predictions_in(tmp_path, files=2)
    assert {path.name[0] for path in earlier.folder.iterdir()} == {"3", "4"}
