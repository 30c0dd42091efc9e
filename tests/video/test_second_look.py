"""Where a hit begins and ends is looked at again, once, and changes nothing else."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from clipmod_cli import Options, load_ensemble, load_policy
from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.judge.judging import Recheck, judge_with_rechecks
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.pipeline import run
from clipmod_cli.results import Result, Settled
from clipmod_cli.types import Evidence, Failure, Frame, Item, Verdict
from tests.decode.pictures import CENTRE
from tests.end_to_end.command import SHAPE_OPTIONS, SHAPES, TINY_L, Command, by_name
from tests.evidence import criteria_of, evidence, item_of, lost, media_of, saw_unsafe
from tests.tiny.shapes import draw_clear
from tests.video.films import KINDS, WHOLE, is_red, moving, scene, write_film

SQUARE = (96, 96)
HIT = range(33, 57)
"""It begins between two key frames, at 3.3 s, and ends between two, at 5.7 s."""

KEYS = (20, 40, 60)

EXACT_S = 0.51
"""An eighth of four seconds: the key frame at 2 s looks like the first frame, so it is not scored."""


def look_closely(film: Path, *spans: tuple[float, float]) -> list[Frame]:
    item = Item(source=str(film), index=0)
    found = decode_item(item, [WHOLE], DecodeOptions(spans=spans, coverage=CENTRE))
    assert not isinstance(found[-1], Failure), found[-1].message
    return [one for one in found if isinstance(one, Frame)]


@pytest.mark.parametrize("extension", sorted(KINDS))
def test_only_the_spans_are_looked_at(tmp_path: Path, extension: str) -> None:
    film = write_film(tmp_path / f"film.{extension}", moving(scene(80, HIT)), keys=KEYS)
    frames = look_closely(film, (2.0, 4.0), (5.0, 6.0))
    times = [frame.time_s for frame in frames]
    assert all(2 < time_s < 4 or 5 < time_s < 6 for time_s in times)
    assert len([time_s for time_s in times if time_s < 4]) <= 8
    assert max(b - a for a, b in pairwise([2.0, *[t for t in times if t < 4], 4.0])) <= 0.41
    assert [frame.number for frame in frames] == [round(time_s * 10) for time_s in times]
    for frame in frames:
        assert is_red(frame) == (round(frame.time_s * 10) in HIT)


def test_a_hits_edges_are_found_between_key_frames(clipmod: Command, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    write_film(folder / "a.mp4", scene(80, HIT, SQUARE), keys=KEYS)
    draw_clear("blue", "square", SQUARE).save(folder / "b.png")
    write_film(folder / "c.webm", scene(80, HIT, SQUARE), keys=KEYS)
    draw_clear("red", "circle", SQUARE).save(folder / "d.png")
    run = clipmod("scan", folder, *SHAPE_OPTIONS, "--json", "--frames-detail")
    assert run.code == 0, run.stderr
    assert [Path(record["source"]).name for record in run.records] == ["a.mp4", "b.png", "c.webm", "d.png"]
    for name in ("a.mp4", "c.webm"):
        record = by_name(run.records)[name]
        (segment,) = record["segments"]
        assert segment["start_s"] == pytest.approx(3.3, abs=EXACT_S)
        assert segment["end_s"] == pytest.approx(5.7, abs=EXACT_S)
        shown = [frame["time_s"] for frame in record["frames"]]
        assert shown == sorted(set(shown))
        assert record["frames_scored"] == len(shown)
        assert record["final_decision"] == "NSFW"


def test_a_film_in_an_archive_is_looked_at_again_too(clipmod: Command, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", scene(80, HIT, SQUARE), keys=KEYS)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.write(film, "film.mp4")
    (tmp_path / "films.zip").write_bytes(buffer.getvalue())
    (record,) = clipmod("scan", tmp_path / "films.zip", *SHAPE_OPTIONS, "--json").records
    assert record["segments"][0]["start_s"] == pytest.approx(3.3, abs=EXACT_S)


def downloads(tmp_path: Path, count: int) -> list[Item]:
    """Return films as they come from URLs: in files of their own, which nobody else removes."""
    film = write_film(tmp_path / "film.mp4", scene(80, HIT, SQUARE), keys=KEYS).read_bytes()
    folder = tmp_path / "downloads"
    folder.mkdir()
    paths = [folder / str(index) for index in range(count)]
    for path in paths:
        path.write_bytes(film)
    return [
        Item(source=f"https://example.com/{path.name}", index=index, spilled=str(path))
        for index, path in enumerate(paths)
    ]


def judged_downloads(items: list[Item], *, isolate: bool) -> Iterator[Result]:
    policy = load_policy(str(SHAPES))
    ensemble = load_ensemble(TINY_L, policy)
    criteria = prepare(ensemble, policy, threshold=0.5)
    return run(iter(items), ensemble, criteria, Options(isolate=isolate, workers=1))


@pytest.mark.parametrize("isolate", [False, True])
def test_a_downloaded_film_is_looked_at_again_and_then_removed(tmp_path: Path, *, isolate: bool) -> None:
    items = downloads(tmp_path, 2)
    for item, verdict in zip(items, judged_downloads(items, isolate=isolate), strict=True):
        assert isinstance(verdict, Verdict)
        assert verdict.segments[0].start_s == pytest.approx(3.3, abs=EXACT_S)
        assert not Path(str(item.spilled)).exists()


def test_what_was_downloaded_and_never_judged_is_removed_too(tmp_path: Path) -> None:
    results = judged_downloads(downloads(tmp_path, 5), isolate=False)
    next(results)
    results.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 30
    while left := list((tmp_path / "downloads").iterdir()):
        # what was not yet pulled is still its source's, which `watch` takes it from as it comes
        if {path.name for path in left} <= {"3", "4"} or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert {path.name for path in left} <= {"3", "4"}


def looks(item: Item, scores: dict[float, float], *, kind: str = "video") -> list[Evidence | Settled]:
    media = media_of(kind=kind, duration_s=10.0)
    return [
        evidence(saw_unsafe(score), item=item, media=media, time_s=time_s, last=time_s == max(scores))
        for time_s, score in scores.items()
    ]


def judged(
    streams: list[list[Evidence | Settled]], closer: list[Evidence | Settled]
) -> list[Verdict | Settled | Recheck]:
    """Return all that is yielded; each wish is answered with `closer`."""
    answers: list[Evidence | Settled] = []

    def stream() -> Iterator[Evidence | Settled]:
        for seen in (one for each in streams for one in each):
            yield seen
            while answers:
                yield answers.pop(0)

    found: list[Verdict | Settled | Recheck] = []
    for one in judge_with_rechecks(stream(), criteria_of()):
        found.append(one)
        if isinstance(one, Recheck):
            answers.extend(closer)
    return found


FIRST = {0.0: 0.1, 4.0: 0.9, 8.0: 0.1, 9.0: 0.1}


def test_a_second_look_is_asked_for_once_and_its_verdict_follows() -> None:
    film, picture = item_of(0), item_of(1)
    closer = looks(film, {2.0: 0.2, 3.0: 0.8, 6.0: 0.95, 7.0: 0.3})
    wish, verdict, other = judged([looks(film, FIRST), looks(picture, {0.0: 0.2}, kind="image")], closer)
    assert isinstance(wish, Recheck)
    assert (wish.item, wish.spans) == (film, ((0.0, 4.0), (4.0, 8.0)))
    assert isinstance(verdict, Verdict)
    assert [(one.start_s, one.end_s, one.peak_time_s) for one in verdict.segments] == [(3.0, 7.0, 6.0)]
    assert [one.time_s for one in verdict.frames] == [0, 2, 3, 4, 6, 7, 8, 9]
    assert isinstance(other, Verdict)
    assert (other.item, other.decision) == (picture, "Safe")


def test_a_second_look_that_fails_leaves_the_first() -> None:
    film = item_of()
    _, verdict = judged([looks(film, FIRST)], [lost(film)])
    assert isinstance(verdict, Verdict)
    assert verdict.decision == "NSFW"
    assert not verdict.media.truncated
    assert [(one.start_s, one.end_s) for one in verdict.segments] == [(4.0, 8.0)]


@pytest.mark.parametrize(
    ("scores", "kind"),
    [
        ({0.0: 0.1, 5.0: 0.2}, "video"),
        ({0.0: 0.9, 5.0: 0.8}, "video"),
        ({0.0: 0.1, 0.4: 0.9}, "video"),
        ({0.0: 0.1, 5.0: 0.9}, "animation"),
    ],
)
def test_nothing_is_asked_for_where_nothing_is_unclear(scores: dict[float, float], kind: str) -> None:
    (verdict,) = judged([looks(item_of(), scores, kind=kind)], [])
    assert isinstance(verdict, Verdict)


def test_a_lost_film_without_a_hit_is_not_looked_at_again() -> None:
    film = item_of()
    stream = [*looks(film, {0.0: 0.1, 5.0: 0.2})[:-1], lost(film, code="video_error")]
    (failure,) = judged([stream], [])
    assert isinstance(failure, Failure)
