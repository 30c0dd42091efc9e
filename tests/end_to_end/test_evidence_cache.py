"""A second run over the same pictures shows the models nothing, whatever the policy, and says the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.end_to_end.command import SHAPE_OPTIONS, SHAPES, TINY, TINY_ENSEMBLE, TINY_L, Command, Record

MOVES = {"run_id", "total_time_ms", "decode_time_ms", "inference_time_ms", "per_model_predictions"}


@pytest.fixture
def pictures(folder: Path) -> Path:
    for name in ("red-circle.jpg", "blue-square.png"):
        shutil.copy(TINY / "pictures" / name, folder / name)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    return folder


def without_times(records: list[Record]) -> list[Record]:
    return [{name: value for name, value in one.items() if name not in MOVES} for one in records]


def scores(records: list[Record]) -> list[Record]:
    return [
        {name: {**one, "inference_time_ms": None} for name, one in predictions.items()}
        for predictions in (record["per_model_predictions"] or {} for record in records)
    ]


def times(records: list[Record]) -> list[float]:
    return [
        one["inference_time_ms"]
        for record in records
        for one in (record["per_model_predictions"] or {}).values()
    ]


def test_the_second_run_gives_the_same_and_asks_no_model(clipmod: Command, pictures: Path) -> None:
    first, second = (clipmod("scan", pictures, *SHAPE_OPTIONS) for _ in range(2))
    assert without_times(second.records) == without_times(first.records)
    assert scores(second.records) == scores(first.records)
    assert all(time > 0.0 for time in times(first.records))
    assert times(second.records) == [0.0, 0.0]
    judged = [one for one in first.records if one["status"] == "ok"]
    assert all(one["inference_time_ms"] >= max(times([one])) for one in judged)
    assert all(0.0 < one["decode_time_ms"] <= one["total_time_ms"] for one in judged)
    assert [one["inference_time_ms"] for one in second.records if one["status"] == "ok"] == [0.0, 0.0]
    assert "cached 2" in " ".join(second.stderr.split())
    assert [one["status"] for one in second.records].count("error") == 1


def test_the_same_bytes_elsewhere_and_another_policy_are_known(
    clipmod: Command, pictures: Path, tmp_path: Path
) -> None:
    clipmod("scan", pictures, *SHAPE_OPTIONS)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(pictures, elsewhere)
    own = tmp_path / "own.toml"
    own.write_text(SHAPES.read_text().replace('name = "shapes"', 'name = "own"'))
    moved = clipmod("scan", elsewhere, "--policy", own, "--threshold", "0.01", "--models", TINY_L)
    assert times(moved.records) == [0.0, 0.0]
    assert {one["policy"] for one in moved.records} == {"own"}


def test_a_member_that_joins_is_asked_and_the_other_not(clipmod: Command, pictures: Path) -> None:
    middle = ("--coverage", "centre")  # one view, whatever the geometry of the member that joins
    clipmod("scan", pictures, *SHAPE_OPTIONS, *middle)
    run = clipmod("scan", pictures, "--policy", SHAPES, "--models", TINY_ENSEMBLE, *middle)
    for record in run.records:
        if record["status"] == "ok":
            asked = {
                name: one["inference_time_ms"] > 0.0 for name, one in record["per_model_predictions"].items()
            }
            assert asked == {"tiny-l": False, "tiny-h": True, "tiny-g": True}


def test_no_cache_asks_anew_and_keeps_nothing(clipmod: Command, pictures: Path) -> None:
    for _ in range(2):
        run = clipmod("scan", pictures, *SHAPE_OPTIONS, "--no-cache")
        assert all(time > 0.0 for time in times(run.records))
    assert not list(clipmod.home.rglob("evidence*.sqlite"))


def test_a_broken_cache_changes_no_outcome(clipmod: Command, pictures: Path) -> None:
    first = clipmod("scan", pictures, *SHAPE_OPTIONS)
    (path,) = clipmod.home.rglob("evidence*.sqlite")
    path.write_bytes(b"\0" * 10_000)
    second = clipmod("scan", pictures, *SHAPE_OPTIONS)
    assert "replaced by an empty cache" in second.stderr
    for now, before in zip(second.records, first.records, strict=True):
        assert (now["status"], now["final_decision"]) == (before["status"], before["final_decision"])
        # equal to the bit only where the models are shown the same batches
        assert now["unsafe_score"] == pytest.approx(before["unsafe_score"], abs=1e-6)
    assert all(time > 0.0 for time in times(second.records))


def test_what_is_to_be_forgotten_is_not_known_any_more(clipmod: Command, pictures: Path) -> None:
    clipmod("scan", pictures, *SHAPE_OPTIONS)
    clipmod("stats", "forget", "--source", str(pictures / "red-circle.jpg"), "--yes")
    assert all(time > 0.0 for time in times(clipmod("scan", pictures, *SHAPE_OPTIONS).records))
