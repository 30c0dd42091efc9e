"""`clipmod bench` as people run it: every stage has a figure, nothing is judged for anybody or kept."""

from __future__ import annotations

import copy
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from PIL import Image

from clipmod_cli.bench.report import Report
from tests.end_to_end.command import SAMPLES, TINY_G, TINY_H, TINY_L, Command, Outcome
from tests.end_to_end.killing import PATIENCE_S

TWO = f"{TINY_L}=0.6,{TINY_H}=0.4"
SHORT = ("--pictures", "8", "--repeats", "2", "--size", "320x240")
STAGES = ("read", "decode", "view", "decoding", "forward", "judge", "write")


def document_of(outcome: Outcome) -> dict[str, Any]:
    """Return the JSON document on stdout, which must agree with the schema and be all there is."""
    assert outcome.code == 0, outcome.stderr
    document: dict[str, Any] = json.loads(outcome.stdout)
    jsonschema.Draft202012Validator(Report.model_json_schema(mode="serialization")).validate(document)
    return document


_measured: list[dict[str, Any]] = []


@pytest.fixture
def measured(clipmod: Command) -> dict[str, Any]:
    """What a short measurement of two small architectures gives; one for all who only look at it."""
    if not _measured:
        _measured.append(document_of(clipmod("bench", "--random-weights", "--models", TWO, *SHORT, "--json")))
    return copy.deepcopy(_measured[0])


def test_every_stage_has_a_figure(measured: dict[str, Any]) -> None:
    assert measured["schema"] == "clipmod-bench/1"
    assert tuple(sorted(measured["stages"])) == tuple(sorted(STAGES))
    for stage in measured["stages"].values():
        assert 0 < stage["low_ms"] <= stage["ms"] <= stage["high_ms"]
        assert stage["images_per_s"] == pytest.approx(1000 / stage["ms"])
    assert set(measured["forward"]) == {"tiny-l", "tiny-h"}
    for model in measured["forward"].values():
        assert model["ms"] > 0
        assert model["gflop"] > 0
        assert model["share_of_peak"] > 0
    end = measured["end_to_end"]
    assert (end["images"], end["runs"], end["errors"]) == (8, 2, 0)
    assert 0 < end["low_images_per_s"] <= end["images_per_s"] <= end["high_images_per_s"]
    assert 0 < end["busy_share"] <= 1
    assert measured["machine"]["peak_tflops"] > 0
    assert measured["machine"]["cores"] >= 1
    assert measured["setup"]["random_weights"]


def test_nothing_is_kept(clipmod: Command, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    outcome = clipmod(
        "bench", "--random-weights", "--models", TINY_L, *SHORT, "-q", env={"TMPDIR": str(temporary)}
    )
    assert outcome.code == 0
    assert outcome.stderr == ""
    assert not list(temporary.glob("clipmod-bench-*"))
    kept = [path for path in clipmod.home.rglob("*") if path.is_file()]
    assert not [path for path in kept if path.suffix in {".duckdb", ".jsonl", ".npy"}], kept
    assert b"NSFW" not in outcome.stdout


def test_weights_that_are_here_are_measured_without_their_words(clipmod: Command) -> None:
    document = document_of(clipmod("bench", "--models", TINY_G, *SHORT, "--json"))
    assert not document["setup"]["random_weights"]
    assert list(document["forward"]) == ["tiny-g"]


def test_own_pictures_and_the_detector(clipmod: Command, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("no picture", encoding="utf-8")
    for name in ("astronaut.jpg", "cat.png"):
        (tmp_path / name).write_bytes((SAMPLES / name).read_bytes())
    document = document_of(
        clipmod("bench", tmp_path, "--models", "nudenet", "--pictures", "6", "--repeats", "1", "--json")
    )
    assert document["setup"]["pictures"] == str(tmp_path)
    assert document["end_to_end"]["errors"] == 2  # each file comes twice


def test_a_classifier_needs_no_label_map(clipmod: Command, tmp_path: Path) -> None:
    from tests.models.backends import save_random_vit

    folder = save_random_vit(tmp_path / "vit")
    document = document_of(
        clipmod("bench", "--models", f"hf:{folder}", "--pictures", "4", "--repeats", "1", "--json")
    )
    (model,) = document["forward"].values()
    assert model["gflop"] > 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--size", "0x3"), 2, "WIDTHxHEIGHT"),
        (("--size", "99999x99999"), 2, "megapixels"),
        (("--pictures", "0"), 2, "--pictures must be at least 1, not 0"),
        (("--repeats", "0"), 2, "--repeats must be at least 1, not 0"),
        (("--random-weights", "--models", "open_clip:ViT-Z-99/none"), 2, "no architecture ViT-Z-99"),
        (("--random-weights", "--models", "hf:Falconsai/nsfw_image_detection"), 2, "random weights are for"),
        (("--models", "ensemble"), 4, "not on this machine"),
        (("/nowhere", "--models", "nudenet"), 2, "/nowhere does not exist"),
        (("-o", "/nowhere/out.json"), 5, "folder /nowhere does not exist"),
    ],
)
def test_what_cannot_be_done_is_told(clipmod: Command, words: tuple[str, ...], code: int, said: str) -> None:
    outcome = clipmod("bench", *words)
    assert outcome.code == code, outcome.stderr
    assert said in outcome.stderr
    assert not outcome.stdout


def test_a_folder_without_pictures_is_refused(clipmod: Command, tmp_path: Path) -> None:
    outcome = clipmod("bench", tmp_path, "--models", "nudenet")
    assert outcome.code == 2
    assert "has no pictures" in outcome.stderr
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    Image.new("RGB", (8, 8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:30])
    outcome = clipmod("bench", tmp_path, "--models", "nudenet")
    assert outcome.code == 2
    assert "no still picture could be decoded" in outcome.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_ctrl_c_ends_it_and_leaves_nothing(clipmod: Command, tmp_path: Path) -> None:
    words = ["bench", "--random-weights", "--models", TINY_L, "--pictures", "20000", "--size", "320x240"]
    process = clipmod.start(words, {"TMPDIR": str(tmp_path)}, stdout=-1, stderr=-1)
    deadline = time.monotonic() + PATIENCE_S
    while not list(tmp_path.glob("clipmod-bench-*/00010.jpg")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert not out
    assert not list(tmp_path.glob("clipmod-bench-*"))
