"""`clipmod scan` on real input, through the real command."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.end_to_end.command import (
    SAMPLES,
    SHAPE_OPTIONS,
    SHAPES,
    TINY,
    TINY_ENSEMBLE,
    TINY_G,
    TINY_H,
    TINY_L,
    Command,
    by_name,
)
from tests.tiny.shapes import draw


def test_the_samples_get_the_right_verdicts(clipmod: Command) -> None:
    run = clipmod("scan", SAMPLES, "--models", "nudenet", "--policy", "female-presence")
    assert run.code == 0
    records = by_name(run.records)
    pictures = {path.name for path in SAMPLES.iterdir() if path.suffix != ".md"}
    assert set(records) == pictures
    astronaut, cat = records["astronaut.jpg"], records["cat.png"]
    assert (astronaut["final_decision"], astronaut["ensemble_category"]) == ("NSFW", "female_present")
    assert (cat["final_decision"], cat["ensemble_category"]) == ("Safe", "no_person")
    assert records["photographer.jpg"]["ensemble_category"] == "male_only"
    assert records["rocket-rotated.jpg"]["width"] == 640
    assert [r["index"] for r in run.records] == list(range(len(pictures)))
    assert [r["source"] for r in run.records] == sorted(r["source"] for r in run.records)


def test_under_nsfw_the_same_samples_come_out_otherwise(clipmod: Command) -> None:
    records = by_name(clipmod("scan", SAMPLES, "--models", "nudenet").records)
    assert {record["policy"] for record in records.values()} == {"nsfw"}  # the default
    assert records["astronaut.jpg"]["final_decision"] == "Safe"
    # the known false alarm of the detector, documented in sample_images/ATTRIBUTION.md
    chart = records["color-chart.png"]
    assert chart["final_decision"] == "NSFW"
    assert chart["per_model_predictions"]["nudenet"]["detections"][0]["label"] == "BUTTOCKS_EXPOSED"


def test_an_animation_is_judged_by_its_worst_frame(clipmod: Command) -> None:
    words = ("--models", "nudenet", "--policy", "female-presence", "--frames-detail")
    (record,) = clipmod("scan", SAMPLES / "astronaut-pan.gif", *words).records
    assert record["kind"] == "animation"
    assert record["final_decision"] == "NSFW"
    scores = [frame["unsafe_score"] for frame in record["frames"]]
    assert scores[0] == 0
    assert record["unsafe_score"] == max(scores)
    (segment,) = record["segments"]
    hits = [frame["time_s"] for frame in record["frames"] if frame["unsafe_score"] >= 0.5]
    assert segment["start_s"] == hits[0] > 0
    assert segment["end_s"] == record["duration_s"]


def test_the_ensemble_weighs_its_members(clipmod: Command) -> None:
    run = clipmod("scan", TINY / "pictures", "--policy", SHAPES, "--models", TINY_ENSEMBLE)
    assert run.code == 0
    for record in run.records:
        red = "red-circle" in record["source"]
        assert record["final_decision"] == ("NSFW" if red else "Safe"), record["source"]
        models = record["per_model_predictions"]
        assert list(models) == record["models_used"] == ["tiny-l", "tiny-h", "tiny-g"]
        for category, probability in record["category_ensemble_probabilities"].items():
            shares = [models[name]["category_probabilities"][category] for name in models]
            weighed = 0.40 * shares[0] + 0.35 * shares[1] + 0.25 * shares[2]
            assert probability == pytest.approx(weighed, abs=3e-6)
    assert {r["final_decision"] for r in run.records} == {"NSFW", "Safe"}


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff", "avif"])
def test_every_format_means_the_same(clipmod: Command, folder: Path, suffix: str) -> None:
    for colour, shape in (("red", "circle"), ("blue", "square")):
        draw(colour, shape, (160, 160), seed=7).save(folder / f"{colour}.{suffix}")
    records = by_name(clipmod("scan", folder, *SHAPE_OPTIONS).records)
    assert records[f"red.{suffix}"]["final_decision"] == "NSFW"
    assert records[f"blue.{suffix}"]["final_decision"] == "Safe"


def _modes(picture: Image.Image) -> dict[str, Image.Image]:
    transparent = picture.convert("RGBA")
    transparent.putalpha(picture.convert("L").point(lambda value: 255 if value < 200 else 0))
    return {
        "palette.png": picture.convert("P", palette=Image.Palette.ADAPTIVE),
        "alpha.png": picture.convert("RGBA"),
        "transparent.webp": transparent,
        "cmyk.jpg": picture.convert("CMYK"),
        "cmyk.tiff": picture.convert("CMYK"),
        "ycbcr.tiff": picture.convert("YCbCr"),
    }


def test_every_colour_mode_means_the_same(clipmod: Command, folder: Path) -> None:
    for colour, shape in (("red", "circle"), ("green", "triangle")):
        for name, picture in _modes(draw(colour, shape, (160, 160), seed=3)).items():
            picture.save(folder / f"{colour}-{name}")
    run = clipmod("scan", folder, *SHAPE_OPTIONS)
    assert run.code == 0
    for record in run.records:
        wanted = "NSFW" if Path(record["source"]).name.startswith("red") else "Safe"
        assert record["final_decision"] == wanted, record["source"]


def test_every_orientation_means_the_same(clipmod: Command, folder: Path) -> None:
    # Far from the middle: only the right turn keeps the shape inside the crop of a wide picture.
    for colour in ("red", "blue"):
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[0x0112] = orientation
            draw(colour, "circle", (120, 120), seed=5).save(folder / f"{colour}-{orientation}.jpg", exif=exif)
    for record in clipmod("scan", folder, *SHAPE_OPTIONS).records:
        wanted = "NSFW" if Path(record["source"]).name.startswith("red") else "Safe"
        assert record["final_decision"] == wanted, record["source"]


def test_fast_and_exact_decoding_agree(clipmod: Command) -> None:
    fast = clipmod("scan", SAMPLES, "--policy", SHAPES, "--models", TINY_L, "--decode", "fast").records
    exact = clipmod("scan", SAMPLES, "--policy", SHAPES, "--models", TINY_L, "--decode", "exact").records
    assert fast[0]["run_key"] != exact[0]["run_key"]
    for one, other in zip(fast, exact, strict=True):
        assert one["unsafe_score"] == pytest.approx(other["unsafe_score"], abs=0.02)


def _spoil(folder: Path) -> dict[str, str]:
    """Write bad inputs; return the code that each must have, by name."""
    picture = draw("blue", "square", (64, 64), seed=1)
    picture.save(folder / "good.png")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "garbage.jpg").write_bytes(b"\xff\xd8\xff" + bytes(300))
    (folder / "text.png").write_text("<html>no picture</html>")
    (folder / "film.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(100))
    (folder / "bomb.webp").write_bytes(
        b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f" + b"\xff\xff\xff\x0f" + bytes(13)
    )
    os.mkfifo(folder / "pipe.gif")
    return {
        "empty.jpg": "empty_file",
        "garbage.jpg": "decode_error",
        "text.png": "unsupported_format",
        "film.mp4": "video_error",
        "bomb.webp": "too_many_pixels",
        "pipe.gif": "not_a_regular_file",
    }


def test_bad_input_costs_its_own_record_only(clipmod: Command, folder: Path) -> None:
    expected = _spoil(folder)
    run = clipmod("scan", folder, folder / "gone.jpg", *SHAPE_OPTIONS)
    assert run.code == 3
    records = by_name(run.records)
    assert records.pop("good.png")["final_decision"] == "Safe"
    assert {name: r["error"]["code"] for name, r in records.items()} == {**expected, "gone.jpg": "not_found"}
    assert all(r["final_decision"] is None and r["error"]["message"] for r in records.values())


def test_exit_6_if_nothing_could_be_judged(clipmod: Command, folder: Path) -> None:
    (folder / "empty.jpg").write_bytes(b"")
    assert clipmod("scan", folder, "--models", "nudenet").code == 6


def test_truncated_pictures_are_scored_and_need_review(clipmod: Command, folder: Path) -> None:
    draw("red", "circle", (300, 300), seed=2).save(folder / "whole.jpg", quality=95)
    whole = (folder / "whole.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) * 9 // 10])
    records = by_name(clipmod("scan", folder, *SHAPE_OPTIONS).records)
    assert not records["whole.jpg"]["truncated"]
    assert records["cut.jpg"]["truncated"]
    assert records["cut.jpg"]["needs_review"]


def test_an_empty_folder_is_fine(clipmod: Command, folder: Path) -> None:
    run = clipmod("scan", folder, "--models", "nudenet")
    assert (run.code, run.stdout) == (0, b"")
    assert "no inputs" in run.stderr


def test_odd_names_come_back_whole(clipmod: Command, folder: Path) -> None:
    names = [b"-n.png", b"a b.png", b"new\nline.png", b"\xff\xfe.png", "žluť.png".encode()]
    for name in names:
        draw("blue", "square", (40, 40), seed=1).save(folder / os.fsdecode(name))
    run = clipmod("scan", folder, "--models", "nudenet")
    found = []
    for record in run.records:
        raw = base64.b64decode(record["source_b64"]) if record["source_b64"] else record["source"].encode()
        found.append(raw.rpartition(b"/")[2])
    assert found == sorted(names)


def test_lists_and_what_they_leave_out(clipmod: Command, folder: Path) -> None:
    for name in ("a.png", "b.png"):
        draw("blue", "square", (40, 40), seed=1).save(folder / name)
    listing = folder / "list.txt"
    listing.write_text(f"{folder / 'b.png'}\n{folder / 'a.png'}\n{folder / 'b.png'}\n")
    run = clipmod("scan", "--files-from", listing, "--models", "nudenet")
    assert [Path(r["source"]).name for r in run.records] == ["b.png", "a.png", "b.png"]
    piped = clipmod.process("scan", "-0", "-", "--models", "nudenet", stdin=f"{folder / 'a.png'}\0".encode())
    assert [Path(r["source"]).name for r in piped.records] == ["a.png"]


def test_only_filters_stdout_alone(clipmod: Command, tmp_path: Path) -> None:
    out = tmp_path / "all.jsonl"
    run = clipmod("scan", SAMPLES, "--models", "nudenet", "--only", "nsfw", "--json", "-o", out)
    assert {r["final_decision"] for r in run.records} == {"NSFW"}
    assert len(out.read_bytes().splitlines()) > len(run.records)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--fail-on", "nsfw"), 1),
        (("--fail-on", "review"), 0),
        (("--fail-on", "error"), 0),
        (("--threshold", "1", "--fail-on", "nsfw"), 0),
        (("--sensitivity", "ultra", "--fail-on", "nsfw"), 1),
    ],
)
def test_fail_on(clipmod: Command, words: tuple[str, ...], code: int) -> None:
    flagged = (SAMPLES / "astronaut.jpg", "--models", "nudenet", "--policy", "female-presence")
    assert clipmod("scan", *flagged, *words).code == code


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "no source"),
        ((SAMPLES, "--policy", "no-such"), 2, "no-such"),
        ((SAMPLES, "--models", "no-such"), 2, "no-such"),
        ((SAMPLES, "--models", "nudenet", "--policy", "general"), 2, "cannot see"),
        ((SAMPLES, "--models", "nudenet=0"), 2, "weight"),
        ((SAMPLES, "--threshold", "2"), 2, "--threshold"),
        ((SAMPLES, "--device", "cuda:99", "--models", TINY_L, "--policy", SHAPES), 2, "cuda"),
        ((SAMPLES, "--device", "cuda:99", "--models", "nudenet"), 2, "cuda"),
        ((SAMPLES, "--device", "toaster", "--models", "nudenet"), 2, "toaster"),
        ((SAMPLES, "--frames", "often"), 2, "often"),
        ((SAMPLES, "--unsafe", "a"), 2, "--classes"),
        ((SAMPLES, "--models", "ensemble", "--offline"), 4, "download"),
        ((SAMPLES, "--policy", "general"), 4, "clipmod models download"),
    ],
)
def test_errors_before_anything_is_judged(
    clipmod: Command, words: tuple[str | Path, ...], code: int, said: str
) -> None:
    run = clipmod("scan", *words)
    assert (run.code, run.stdout) == (code, b"")
    assert said in run.stderr
    assert "Traceback" not in run.stderr


def test_a_blind_model_may_judge_only_with_review(clipmod: Command) -> None:
    words = ("--models", "nudenet", "--policy", "general", "--allow-partial")
    for record in clipmod("scan", SAMPLES / "cat.png", *words).records:
        assert record["needs_review"]
        assert "gore_violence" in record["unseen_categories"]


def test_classes_of_the_users_own(clipmod: Command) -> None:
    words = (
        "--classes",
        "red circle, blue square, green triangle",
        "--models",
        f"{TINY_L},{TINY_H},{TINY_G}",
    )
    run = clipmod("scan", TINY / "pictures" / "blue-square.png", *words)
    (record,) = run.records
    assert (record["final_decision"], record["ensemble_category"]) == (None, "blue square")
    flagged = clipmod("scan", TINY / "pictures" / "red-circle.jpg", *words, "--unsafe", "red circle").records[
        0
    ]
    assert flagged["final_decision"] == "NSFW"


def test_the_failed_inputs_can_be_given_back(clipmod: Command, folder: Path, tmp_path: Path) -> None:
    expected = _spoil(folder)
    failed = tmp_path / "failed.txt"
    clipmod("scan", folder, "--models", "nudenet", "--errors-to", failed)
    again = clipmod("scan", "--files-from", failed, "--models", "nudenet")
    assert set(by_name(again.records)) == set(expected)


def test_dry_run_counts_and_judges_nothing(clipmod: Command, folder: Path) -> None:
    _spoil(folder)
    (folder / "notes.txt").write_text("hello")
    run = clipmod("scan", folder, "--dry-run", "--json")
    assert run.code == 0
    counted = json.loads(run.stdout)
    assert counted["inputs"] == 7
    assert counted["skipped"] == {"other type": 1}


def test_limit_stops_after_so_many(clipmod: Command) -> None:
    run = clipmod("scan", SAMPLES, "--models", "nudenet", "--limit", "3")
    assert [r["index"] for r in run.records] == [0, 1, 2]


def test_what_is_skipped_is_counted(clipmod: Command) -> None:
    assert "other type 1" in clipmod("scan", SAMPLES, "--models", "nudenet").stderr


def test_settings_come_from_environment_and_file(clipmod: Command, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('policy = "nsfw"\nthreshold = 0.9\n')
    run = clipmod(
        "scan",
        SAMPLES / "cat.png",
        "--config",
        settings,
        env={"CLIPMOD_MODELS": "nudenet", "CLIPMOD_THRESHOLD": "0.8"},
    )
    (record,) = run.records
    assert (record["policy"], record["threshold"], record["models_used"]) == ("nsfw", 0.8, ["nudenet"])


def test_no_settings_are_read_from_the_working_directory(
    clipmod: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("clipmod.toml", "config.toml", ".env", "pyproject.toml"):
        (folder / name).write_text('policy = "attributes"\nCLIPMOD_POLICY=attributes\n')
    draw("blue", "square", (40, 40), seed=1).save(folder / "a.png")
    monkeypatch.chdir(folder)
    assert clipmod("scan", ".", "--models", "nudenet").records[0]["policy"] == "nsfw"
