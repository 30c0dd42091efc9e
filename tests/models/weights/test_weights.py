"""Weights from a hub on the loopback, from the detector's package, and from folders."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.models.hub.download import download
from clipmod_cli.models.hub.weights import list_downloaded, locate, verify
from clipmod_cli.models.specs import parse_spec
from tests.hub import FakeHub
from tests.models.weights.kit import (
    BY_OTHERS,
    FILES,
    REPO,
    SHA256,
    SPEC,
    WEIGHTS,
    Heard,
    contents,
    environment,
    folder_of,
)


def test_a_first_download_fetches_checks_and_locks(fake: FakeHub, hub: Hub) -> None:
    commit = fake.add(REPO, FILES)
    assert locate(SPEC, hub=hub) is None
    heard = Heard()
    files = download(SPEC, hub=hub, progress=heard)
    assert contents(files) == FILES
    assert files.commit == commit
    assert files.weights.name == "model.safetensors"
    assert files.sha256 == {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    assert locate(SPEC, hub=hub) == files
    assert verify(SPEC, hub=hub) == []
    assert list_downloaded(hub) == {SPEC.spec: files}
    assert heard.steps[-1] == ("model.safetensors", len(WEIGHTS), len(WEIGHTS))
    lock = json.loads(folder_of(hub).lock_path.read_text())
    assert (lock["repo"], lock["commit"], lock["files"]["model.safetensors"]["sha256"]) == (
        REPO,
        commit,
        SHA256,
    )


def test_nothing_but_weights_and_settings_is_taken(fake: FakeHub, hub: Hub) -> None:
    extra = {"modeling_evil.py": b"import os", "pytorch_model.bin": WEIGHTS[:5000], "README.md": b"hi"}
    fake.add(REPO, FILES | extra)
    assert set(download(SPEC, hub=hub).paths) == set(FILES)
    assert not [r for r in fake.requests if any(name in r.path for name in extra)]


def test_a_second_download_asks_nobody(fake: FakeHub, hub: Hub) -> None:
    fake.add(REPO, FILES)
    first = download(SPEC, hub=hub)
    fake.requests.clear()
    assert download(SPEC, hub=hub) == first
    assert fake.requests == []


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        ({"pytorch_model.bin"}, {"pytorch_model.bin"}),
        ({"pytorch_model.bin", "model.safetensors"}, {"model.safetensors"}),
        (
            {
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "pytorch_model.bin",
            },
            {
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
            },
        ),
        (
            {
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "pytorch_model.bin",
            },
            {"pytorch_model.bin"},
        ),
    ],
)
def test_the_safest_whole_form_of_the_weights_is_taken(
    fake: FakeHub, hub: Hub, there: set[str], taken: set[str]
) -> None:
    settings = {"config.json": b"{}", "preprocessor_config.json": b"{}"}
    fake.add(REPO, settings | {name: name.encode() * 100 for name in there})
    assert set(download(SPEC, hub=hub).paths) == settings.keys() | taken


def test_the_real_repository_of_an_ensemble_member(fake: FakeHub, hub: Hub) -> None:
    fake.add(
        "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        {"open_clip_model.safetensors": WEIGHTS, "open_clip_pytorch_model.bin": WEIGHTS[::-1]},
    )
    files = download(parse_spec("fallback"), hub=hub)
    assert contents(files) == {"open_clip_model.safetensors": WEIGHTS}
    assert files.tokenizer is None


def test_a_vocabulary_of_its_own_repository_comes_with_its_commit(fake: FakeHub, hub: Hub) -> None:
    fake.add("laion/CLIP-ViT-B-32-roberta-base-laion2B-s12B-b32k", {"open_clip_model.safetensors": WEIGHTS})
    words = fake.add("roberta-base", {"vocab.json": b"{}", "merges.txt": b"#", "model.py": b"raise"})
    files = download(parse_spec("open_clip:roberta-ViT-B-32/laion2b_s12b_b32k"), hub=hub)
    assert contents(files) == {"open_clip_model.safetensors": WEIGHTS}
    assert files.tokenizer_commit == words
    assert files.tokenizer
    assert {path.name for path in files.tokenizer.iterdir()} == {"vocab.json", "merges.txt"}


def test_wrong_bytes_are_refused_and_removed(fake: FakeHub, hub: Hub) -> None:
    fake.add(REPO, FILES)
    fake.faults.flip = True
    with pytest.raises(MissingModelError, match=r"model\.safetensors of owner/name") as caught:
        download(SPEC, hub=hub)
    assert f"expected sha256 {SHA256}" in str(caught.value)
    assert "was removed" in str(caught.value)
    assert locate(SPEC, hub=hub) is None
    assert not list(hub.cache_dir.rglob("*incomplete"))
    assert not folder_of(hub).blob(SHA256).exists()
    fake.faults.flip = False
    assert contents(download(SPEC, hub=hub)) == FILES


def test_offline_touches_no_network(fake: FakeHub, hub: Hub) -> None:
    fake.add(REPO, FILES)
    with pytest.raises(MissingModelError, match="owner/name is not on this machine"):
        download(SPEC, hub=hub, offline=True)
    assert fake.requests == []
    first = download(SPEC, hub=hub)
    fake.requests.clear()
    assert download(SPEC, hub=replace(hub, offline=True)) == first
    assert fake.requests == []


def test_a_disk_too_small_is_told_before_anything_is_fetched(fake: FakeHub, hub: Hub) -> None:
    fake.add(REPO, FILES)
    with pytest.raises(MissingModelError, match=r"needs 0\.00 GB .* only 0\.06 GB are free") as caught:
        download(SPEC, hub=replace(hub, free_space=lambda _: 64_000_000))
    assert str(hub.cache_dir) in str(caught.value)
    assert not fake.asked("/resolve/")


def test_a_cache_that_cannot_be_written_is_told(fake: FakeHub, hub: Hub, tmp_path: Path) -> None:
    fake.add(REPO, FILES)
    (tmp_path / "file").touch()
    with pytest.raises(MissingModelError, match="HF_HOME"):
        download(SPEC, hub=replace(hub, cache_dir=tmp_path / "file"))


def test_two_at_once_fetch_once(fake: FakeHub, hub: Hub) -> None:
    fake.add(REPO, FILES)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: download(SPEC, hub=hub), range(4)))
    assert found == [found[0]] * 4
    assert len(fake.asked("/cdn/")) == 1


def test_other_programs_find_what_was_fetched(fake: FakeHub, tmp_path: Path) -> None:
    fake.add(REPO, FILES)
    download(SPEC, hub=Hub(endpoint=fake.endpoint, cache_dir=tmp_path / "hub"))
    done = subprocess.run(
        [sys.executable, "-c", BY_OTHERS + "from huggingface_hub import scan_cache_dir\n"
         "print(scan_cache_dir().warnings)"],
        env=environment(fake.endpoint, tmp_path, HF_HUB_OFFLINE="1"),
        check=True,
        capture_output=True,
        text=True,
    )  # fmt: skip
    *paths, warnings = done.stdout.splitlines()
    assert [Path(path).read_bytes() for path in paths] == list(FILES.values())
    assert warnings == "[]"


def _detector() -> ModelSpec:
    return parse_spec("nudenet")


def test_the_detector_comes_with_its_package() -> None:
    files = locate(_detector())
    assert files
    assert files.weights.suffix == ".onnx"
    assert verify(_detector()) == []
    assert download(_detector()) == files


def test_folders_of_ones_own(tmp_path: Path) -> None:
    clip, classifier = (
        parse_spec(f"open_clip:local-dir:{tmp_path}/clip"),
        parse_spec(f"hf:{tmp_path}/classifier"),
    )
    for spec, needed in (
        (clip, ("open_clip_config.json", "open_clip_model.safetensors")),
        (classifier, tuple(FILES)),
    ):
        assert spec.path
        assert locate(spec) is None
        assert "there is no folder" in verify(spec)[0]
        spec.path.mkdir()
        for name in needed:
            assert locate(spec) is None
            assert str(spec.path) in verify(spec)[0]
            with pytest.raises(MissingModelError, match=str(spec.path)):
                download(spec)
            (spec.path / name).write_bytes(b"x")
        files = locate(spec)
        assert files
        assert set(files.paths) == set(needed)
        assert files.folder == spec.path
        assert verify(spec) == []
        assert download(spec) == files
