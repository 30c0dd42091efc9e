"""Films through the real command, with the tiny models: their records, from first to last."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.command import SHAPE_OPTIONS, Command, by_name
from tests.video.films import scene, write_film

SQUARE = (96, 96)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    red = scene(50, range(20, 30), SQUARE)
    write_film(folder / "hit.mp4", red, keys=(20, 30))
    write_film(folder / "clean.webm", scene(30, (), SQUARE))
    data = write_film(folder / "cut_after_hit.mkv", red, keys=(20, 30)).read_bytes()
    (folder / "cut_after_hit.mkv").write_bytes(data[:-60])
    data = write_film(folder / "cut.mkv", scene(30, (), SQUARE)).read_bytes()
    (folder / "cut.mkv").write_bytes(data[:-60])
    return folder


def test_films_are_judged(clipmod: Command, films: Path) -> None:
    run = clipmod("scan", films, *SHAPE_OPTIONS, "--json", "--frames-detail")
    assert run.code == 3, run.stderr
    records = by_name(run.records)
    hit = records["hit.mp4"]
    assert (hit["kind"], hit["final_decision"], hit["format"]) == ("video", "NSFW", "MP4")
    assert (hit["duration_s"], hit["frames_scored"]) == (5.0, len(hit["frames"]))
    (segment,) = hit["segments"]
    assert (segment["start_s"], segment["end_s"]) == (2.0, 3.0)
    assert segment["ensemble_category"] == "red_circle"
    assert {0.0, 2.0, 3.0, 4.9} <= {frame["time_s"] for frame in hit["frames"]}
    assert records["clean.webm"]["final_decision"] == "Safe"
    assert records["clean.webm"]["segments"] == []
    cut = records["cut_after_hit.mkv"]
    assert (cut["final_decision"], cut["truncated"], cut["needs_review"]) == ("NSFW", True, True)
    assert records["cut.mkv"]["final_decision"] is None
    assert records["cut.mkv"]["error"]["code"] == "video_error"
