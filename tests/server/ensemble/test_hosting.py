"""Pictures under addresses that nobody can guess: what they carry, when they go, what is left of a crash."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from clipmod_cli.output.history.rows import HostedRow
from clipmod_cli.server.hosting import HostedPictures, Predictions, stem_of
from clipmod_cli.settings.reading import Resolved
from tests.server.ensemble.pictures import RED_CIRCLE, TEXT, TRIANGLE

HOUR_S = 3600.0


def hosting_in(folder: Path, *, expiry_s: float = HOUR_S, quota: int = 1_000_000) -> HostedPictures:
    hosting = HostedPictures(folder / "hosted", expiry_s, quota)
    hosting.open()
    return hosting


def keep(hosting: HostedPictures, data: bytes = RED_CIRCLE) -> HostedRow:
    hosted = hosting.keep(data, name="../a.jpg", format_name="JPEG", sha256=hashlib.sha256(data).hexdigest())
    assert hosted is not None
    return hosted


def read(hosting: HostedPictures, one: HostedRow) -> bytes | None:
    found = hosting.open_file(one.image_id)
    if found is None:
        return None
    with found[1] as file:
        return file.read()


def test_a_judged_picture_is_given_back_as_it_was_sent(client: TestClient) -> None:
    told = client.post("/predict/single", files={"file": ("a.webp", TRIANGLE)}).json()
    assert told["image_url"] == f"http://127.0.0.1:8000/image/{told['image_id']}"
    assert re.fullmatch(r"[0-9a-f]{32}", told["image_id"])
    answer = client.get(told["image_url"])
    assert (answer.status_code, answer.content) == (200, TRIANGLE)
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert "private" in answer.headers["cache-control"]
    again = client.get(told["image_url"], headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_what_was_not_judged_is_not_kept(client: TestClient, resolved: Resolved) -> None:
    folder = Path(str(resolved.settings.data_dir)) / "hosted"
    before = set(folder.iterdir())
    client.post("/predict/single", files={"file": ("a.jpg", TEXT)})
    client.post("/predict/streaming", files=[("files", ("a.jpg", TEXT))])
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize("image_id", ["0" * 32, "..%2f..%2fetc%2fpasswd", "%00", "x" * 5000, "a.json"])
def test_an_unknown_id_is_404(client: TestClient, image_id: str) -> None:
    answer = client.get(f"/image/{image_id}")
    assert answer.status_code == 404
    assert answer.json()["detail"]


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
    assert len(hosting) == 0
    assert read(hosting, other) is None
    assert list(hosting.folder.iterdir()) == []


def test_the_oldest_make_room(tmp_path: Path) -> None:
    hosting = hosting_in(tmp_path, quota=3 * len(RED_CIRCLE))
    kept = [keep(hosting) for _ in range(5)]
    assert [read(hosting, one) is not None for one in kept] == [False, False, True, True, True]
    assert hosting.keep(bytes(3 * len(RED_CIRCLE) + 1), name="x", format_name="JPEG", sha256="0") is None


def test_a_restart_finds_what_is_there(tmp_path: Path) -> None:
    one = keep(hosting_in(tmp_path))
    again = hosting_in(tmp_path)
    assert read(again, one) == RED_CIRCLE
    assert hosting_in(tmp_path, quota=1).open_file(one.image_id) is None


def test_halves_that_a_crash_left_are_removed(tmp_path: Path) -> None:
    hosting = hosting_in(tmp_path)
    whole, no_picture, no_sidecar, torn = (keep(hosting) for _ in range(4))
    (hosting.folder / no_picture.image_id).unlink()
    (hosting.folder / f"{no_sidecar.image_id}.json").unlink()
    (hosting.folder / f"{torn.image_id}.json").write_text("{", encoding="utf-8")
    (hosting.folder / ".x.12345678.part").write_bytes(b"half")
    again = hosting_in(tmp_path)
    assert [one for one in (whole, no_picture, no_sidecar, torn) if read(again, one)] == [whole]
    hosting_in(tmp_path)  # what was orphaned by the first is gone with the second
    assert {path.stem for path in hosting.folder.iterdir()} == {whole.image_id}


def test_a_file_that_somebody_else_removed_is_gone(tmp_path: Path) -> None:
    hosting = hosting_in(tmp_path)
    one = keep(hosting)
    (hosting.folder / one.image_id).unlink()
    assert read(hosting, one) is None
    assert len(hosting) == 0


def test_a_disk_that_takes_no_more_costs_only_the_link(tmp_path: Path) -> None:
    hosting = hosting_in(tmp_path)
    hosting.folder.rmdir()
    assert hosting.keep(RED_CIRCLE, name="x", format_name="JPEG", sha256="0") is None


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
    predictions = Predictions(tmp_path, HOUR_S)
    assert predictions.write(predictions.name_for("a.jpg"), b"{}")
    (tmp_path / "notes.txt").write_text("not ours", encoding="utf-8")
    predictions.sweep()
    assert len(list(tmp_path.iterdir())) == 2
    later = time.time() + HOUR_S + 60
    monkeypatch.setattr(time, "time", lambda: later)
    predictions.sweep()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
