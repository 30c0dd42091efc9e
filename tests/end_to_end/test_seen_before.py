"""The same bytes under several names: one look, and a whole record for each."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from tests.end_to_end.command import SHAPE_OPTIONS, TINY, Command

CIRCLE = TINY / "pictures" / "red-circle.jpg"
OWN = {
    "source",
    "member",
    "index",
    "mtime_ns",
    "total_time_ms",
    "decode_time_ms",
    "inference_time_ms",
    "per_model_predictions",
}


def test_each_name_gets_its_record_and_models_one_look(clipmod: Command, folder: Path) -> None:
    for name in ("a.jpg", "b.png", "c", "deep/d.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(CIRCLE, folder / name)
    with zipfile.ZipFile(folder / "e.zip", "w") as archive:
        archive.write(CIRCLE, "inside.jpg")
    shutil.copy(TINY / "pictures" / "blue-square.png", folder / "other.png")
    run = clipmod("scan", folder, *SHAPE_OPTIONS)
    *equal, other = run.records
    assert len(equal) == 5
    assert {one["final_decision"] for one in equal} == {"NSFW"}
    assert other["final_decision"] == "Safe"
    for one in equal:
        told = {name: value for name, value in one.items() if name not in OWN}
        assert told == {name: value for name, value in equal[0].items() if name not in OWN}
        assert one["total_time_ms"] > 0.0
    times = [one["per_model_predictions"]["tiny-l"]["inference_time_ms"] for one in run.records]
    assert [time > 0.0 for time in times] == [True, False, False, False, False, True]
    assert "cached 4" in " ".join(run.stderr.split())


def test_equal_broken_files_are_each_tried(clipmod: Command, folder: Path) -> None:
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    shutil.copy(CIRCLE, folder / "c.jpg")
    run = clipmod("scan", folder, *SHAPE_OPTIONS)
    assert [one["status"] for one in run.records] == ["error", "error", "ok"]
    assert "cached" not in run.stderr
