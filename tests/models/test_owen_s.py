"""owen-s: downloaded from a hub, pinned, and held to its ONNX file, which a package holds too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageOps

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.hub.cache import RepoFolder
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.models.hub.download import download
from clipmod_cli.models.hub.weights import locate, verify
from clipmod_cli.models.onnx import description, model
from clipmod_cli.models.specs import parse_spec
from tests.end_to_end.command import SAMPLES, Command, by_name
from tests.end_to_end.conftest import clipmod
from tests.hub import FakeHub
from tests.models import backends
from tests.models.weights.kit import spoil
from tests.packaged import owen_s_weights

__all__ = ["clipmod"]

QUICK = ("--no-db", "--no-cache", "--json")
SPEC = parse_spec("owen-s")
DESCRIBED = description.built_in("owen_s")
REPO, COMMIT, FILE = str(DESCRIBED.repo), str(DESCRIBED.commit), DESCRIBED.file
PICTURES = sorted(p for p in SAMPLES.iterdir() if p.suffix in {".jpg", ".png", ".webp", ".bmp", ".tiff"})


@pytest.fixture(scope="session")
def weights() -> bytes:
    return owen_s_weights()


@pytest.fixture
def fake(weights: bytes) -> Iterator[FakeHub]:
    """A hub with the repository at the pinned commit, and a newer commit with another file."""
    with FakeHub() as server:
        server.add(REPO, {FILE: weights, "config.json": b"{}", "model.safetensors": b"x" * 2000}, COMMIT)
        server.add(REPO, {FILE: weights[:-1] + b"!"})
        yield server


@pytest.fixture
def hub(fake: FakeHub, tmp_path: Path) -> Hub:
    return Hub(endpoint=fake.endpoint, cache_dir=tmp_path / "hub", timeout_s=20, retries=2, retry_pause_s=0)


def test_scores_are_those_of_the_file_on_the_same_array(weights: bytes, tmp_path: Path) -> None:
    (tmp_path / "owen.onnx").write_bytes(weights)
    ours = model.load(DESCRIBED, tmp_path / "owen.onnx", name="owen-s", spec="owen-s", device="cpu")
    theirs = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    for path, seen in zip(PICTURES, ours.infer(backends.look(ours, PICTURES)), strict=True):
        picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        squashed = picture.resize((224, 224), Image.Resampling.BILINEAR)
        array = np.asarray(squashed, np.float32).transpose(2, 0, 1)[np.newaxis]
        (expected,) = theirs.run(None, {"image": array})[0]
        assert list(seen.scores) == ["NSFL", "NSFW", "SFW"]
        assert list(seen.scores.values()) == pytest.approx(expected, abs=1e-5), path.name


def test_the_pinned_commit_is_downloaded_and_locked_whatever_is_newer(fake: FakeHub, hub: Hub) -> None:
    assert locate(SPEC, hub=hub) is None
    files = download(SPEC, hub=hub)
    assert (files.commit, files.sha256) == (COMMIT, {FILE: DESCRIBED.sha256})
    assert files.size == DESCRIBED.file_bytes
    assert {request.path for request in fake.asked("/resolve/")} == {f"/{REPO}/resolve/{COMMIT}/{FILE}"}
    assert verify(SPEC, hub=hub) == []
    fake.requests.clear()
    assert download(SPEC, hub=hub).paths == files.paths
    assert not fake.asked("/resolve/")


def test_a_broken_download_resumes(fake: FakeHub, hub: Hub) -> None:
    fake.faults.cut_after, fake.faults.cuts = 5_000_000, 2
    download(SPEC, hub=hub)
    ranges = [request.headers.get("Range") for request in fake.asked(f"/cdn/{DESCRIBED.sha256}")]
    assert ranges == [None, "bytes=5000000-", "bytes=10000000-"]
    assert verify(SPEC, hub=hub) == []


def test_another_file_at_the_pinned_commit_is_refused_before_it_is_fetched(weights: bytes, hub: Hub) -> None:
    with FakeHub() as other:
        other.add(REPO, {FILE: weights[:-1] + b"!"}, COMMIT)
        there = Hub(endpoint=other.endpoint, cache_dir=hub.cache_dir, timeout_s=20)
        with pytest.raises(MissingModelError, match="is not the file that owen-s is made of"):
            download(SPEC, hub=there)
        assert not other.asked("/resolve/")


@pytest.mark.parametrize("same", [True, False])
def test_where_the_repository_is_here_at_another_commit_the_file_must_be_the_same(
    weights: bytes, tmp_path: Path, *, same: bool
) -> None:
    """As where its model for another library was downloaded before: a repository has one locked commit."""
    names = ("config.json", "preprocessor_config.json", "model.safetensors")
    with FakeHub() as other:
        held = weights if same else weights[:-1] + b"!"
        commit = other.add(REPO, {FILE: held, **dict.fromkeys(names, b"{}")})
        hub = Hub(endpoint=other.endpoint, cache_dir=tmp_path / "hub", timeout_s=20)
        download(parse_spec(f"hf:{REPO}"), hub=hub)
        if same:
            assert download(SPEC, hub=hub).commit == commit
            assert verify(SPEC, hub=hub) == []
        else:
            with pytest.raises(MissingModelError, match=r"delete .* and download again"):
                download(SPEC, hub=hub)


def test_a_lock_for_another_file_is_a_problem(hub: Hub, fake: FakeHub) -> None:
    download(SPEC, hub=hub)
    lock = RepoFolder(hub.cache_dir, REPO).lock_path
    lock.write_text(lock.read_text().replace(DESCRIBED.sha256, "0" * 64))
    assert any(
        "the lock file of" in problem and "has another" in problem for problem in verify(SPEC, hub=hub)
    )


def test_the_commands_from_nothing_to_a_verdict(clipmod: Command, fake: FakeHub) -> None:
    online = {"HF_ENDPOINT": fake.endpoint}
    nothing = clipmod.process("scan", SAMPLES, *QUICK, "--policy", "graphic")
    assert nothing.code == 4
    fetched = clipmod.process("models", "download", "owen-s", env=online)
    assert (fetched.code, fetched.stderr.count("Traceback")) == (0, 0)
    rows = map(json.loads, clipmod.process("models", "list", "--json").stdout.splitlines())
    (row,) = (one for one in rows if one["spec"] == "owen-s")
    assert (row["licence"], row["revision"], row["locked"]) == ("MIT (hub metadata)", COMMIT, True)
    # without the network from here on
    run = clipmod.process("scan", SAMPLES, *QUICK, "--policy", "graphic")
    assert run.code == 0
    assert {(r["final_decision"], r["needs_review"]) for r in run.records} == {("Safe", False)}
    assert {tuple(record["models_used"]) for record in run.records} == {("owen-s",)}
    assert set(run.records[0]["category_ensemble_probabilities"]) == {"neutral", "sexual", "gore"}
    three = by_name(clipmod.process("scan", SAMPLES, *QUICK).records)
    assert {tuple(one["models_used"]) for one in three.values()} == {("open_nsfw", "nudenet", "owen-s")}
    assert {one["final_decision"] for one in three.values()} == {"Safe"}
    assert {name for name, one in three.items() if one["needs_review"]} <= {"color-chart.png"}
    assert b"owen-s: verified" in clipmod.process("models", "verify").stdout
    (path,) = clipmod.home.rglob("snapshots/*/onnx/*.onnx")
    spoil(path)
    bad = clipmod.process("models", "verify")
    assert bad.code == 4
    assert "clipmod models download owen-s" in bad.stderr
    refused = clipmod.process("scan", SAMPLES, *QUICK, "--policy", "graphic")
    assert (refused.code, refused.stdout) == (4, b"")
    assert "is not the described file" in refused.stderr


def test_naming_it_downloads_it_unless_offline(clipmod: Command, fake: FakeHub) -> None:
    words = (
        "scan",
        SAMPLES / "cat.png",
        "--no-db",
        "--no-cache",
        "--models",
        "owen-s",
        "--policy",
        "graphic",
    )
    away = clipmod.process(*words, "--offline", env={"HF_ENDPOINT": fake.endpoint})
    assert (away.code, fake.requests) == (4, [])
    assert "clipmod models download owen-s" in away.stderr
    (record,) = clipmod.process(*words, env={"HF_ENDPOINT": fake.endpoint}).records
    assert record["final_decision"] == "Safe"
