"""Films through the real command, with the tiny models: their records, from first to last."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.command import SHAPE_OPTIONS, Command, by_name
from tests.video.films import moving, scene, write_film

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


LONG = 300
PLANTED = range(153, 173)
"""Two seconds of the thirty, at 15.3 s; key frames come each nine seconds where no cut brings one."""

STEADY = (90, 180, 270)


def test_a_two_second_scene_is_found_where_key_frames_lie_at_its_cuts(
    clipmod: Command, tmp_path: Path
) -> None:
    cuts = (*STEADY, PLANTED.start, PLANTED.stop)
    film = write_film(tmp_path / "cut.mp4", scene(LONG, PLANTED, SQUARE), keys=cuts)
    (record,) = clipmod("scan", film, *SHAPE_OPTIONS, "--json").records
    assert record["final_decision"] == "NSFW"
    (segment,) = record["segments"]
    assert segment["start_s"] == pytest.approx(15.3, abs=0.01)
    assert segment["end_s"] == pytest.approx(17.3, abs=0.01)


@pytest.mark.parametrize("red", [PLANTED, range(155, 157)], ids=["two seconds", "two frames"])
def test_a_scene_without_a_key_frame_is_missed_by_key_alone(
    clipmod: Command, tmp_path: Path, red: range
) -> None:
    film = write_film(tmp_path / "hidden.mp4", scene(LONG, red, SQUARE), keys=STEADY)
    (missed,) = clipmod("scan", film, *SHAPE_OPTIONS, "--json", "--frames", "key").records
    assert (missed["final_decision"], missed["segments"]) == ("Safe", [])
    for frames in ("auto", "dense"):
        (record,) = clipmod("scan", film, *SHAPE_OPTIONS, "--json", "--frames", frames).records
        assert (record["final_decision"], record["frames_sampling"]) == ("NSFW", frames)
        (segment,) = record["segments"]
        assert segment["start_s"] == pytest.approx(red.start / 10, abs=0.01)
        assert segment["end_s"] == pytest.approx(red.stop / 10, abs=0.51)


def test_stop_on_hit_scores_no_frame_after_the_first_hit(clipmod: Command, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", moving(scene(LONG, PLANTED, SQUARE)), keys=STEADY)
    good = write_film(tmp_path / "good.mp4", moving(scene(60, (), SQUARE)), keys=STEADY)
    options = (*SHAPE_OPTIONS, "--json", "--batch-size", "4")
    whole, safe = clipmod("scan", film, good, *options).records
    first, same = clipmod("scan", film, good, *options, "--stop-on-hit").records
    assert (first["final_decision"], same["final_decision"]) == ("NSFW", "Safe")
    assert first["frames_scored"] < whole["frames_scored"]
    assert same["frames_scored"] == safe["frames_scored"]
    (segment,) = first["segments"]
    assert segment["start_s"] == segment["end_s"] == pytest.approx(15.3, abs=0.01)
    assert (first["frames_total"], first["largest_gap_s"]) == (LONG, None)
    assert first["frames_sampling"] == "auto, until a hit"
    assert first["run_key"] != whole["run_key"]
