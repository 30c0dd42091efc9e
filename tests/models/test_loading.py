"""Halves of open_clip models out of checkpoints of several kinds, and hashes that are kept."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.hub import files as hub_files
from clipmod_cli.models.hub.client import SILENT
from clipmod_cli.models.hub.files import cached_sha256, sha256_of
from clipmod_cli.models.hub.weights import WeightFiles
from clipmod_cli.models.open_clip.checkpoint import load_embedder, load_vision
from clipmod_cli.models.open_clip.source import OpenClipSource, source_of
from clipmod_cli.models.open_clip.towers import save_tower, tower_problems
from clipmod_cli.models.specs import parse_spec
from clipmod_cli.models.tower import tower_file
from clipmod_cli.models.tower.mapped import MappedFile
from clipmod_cli.models.tower.storage import tower_size
from tests.models import backends
from tests.models.source_kit import folder_source

TINY = backends.TINY / "tiny-l"
WEIGHTS = TINY / "open_clip_model.safetensors"
SPEC = parse_spec("open_clip:ViT-B-32/laion2b_s34b_b79k")


def pickled(folder: Path) -> Path:
    path = folder / "open_clip_pytorch_model.bin"
    torch.save(load_file(WEIGHTS), path)
    return path


def nested(folder: Path) -> Path:
    path = folder / "nested.bin"
    torch.save({"epoch": 3, "state_dict": load_file(WEIGHTS)}, path)
    return path


def as_safetensors(folder: Path) -> Path:
    return WEIGHTS


@pytest.mark.parametrize("write", [as_safetensors, pickled, nested])
def test_both_halves_are_those_that_open_clip_loads(
    write: Callable[[Path], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = write(tmp_path)
    source = replace(folder_source(TINY), weights=weights, sha256=sha256_of(weights))
    vision, embed = load_vision(source), load_embedder(source)
    assert caplog.text == ""
    assert vision.direct
    name = f"local-dir:{TINY}"
    whole = open_clip.create_model(name).eval()
    assert vision.logit_scale == pytest.approx(float(whole.logit_scale.detach().exp()))
    theirs = dict(whole.visual.named_parameters())
    assert {name for name, _ in vision.visual.named_parameters()} == set(theirs)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in vision.visual.named_parameters())
    texts = ["red circle", "a green star"]
    with torch.inference_mode():
        expected = whole.encode_text(open_clip.get_tokenizer(name)(texts), normalize=True).numpy()
    assert np.abs(embed(texts) - expected).max() < 1e-6


def test_autocast_around_it_changes_no_text_embedding() -> None:
    embed = load_embedder(folder_source(TINY))
    expected = embed(["red circle"])
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(embed(["red circle"]), expected)


def test_another_layout_is_left_to_open_clip(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_bytes((TINY / "open_clip_config.json").read_bytes())
    tensors = {f"module.{name}": tensor for name, tensor in load_file(WEIGHTS).items()}
    save_file(tensors, tmp_path / "open_clip_model.safetensors")
    vision = load_vision(folder_source(tmp_path))
    assert not vision.direct
    expected = load_file(WEIGHTS)["visual.proj"].float()
    assert torch.equal(dict(vision.visual.named_parameters())["proj"], expected)


@pytest.mark.parametrize("drop", ["visual.proj", "text_projection", "logit_scale"])
def test_a_checkpoint_that_lacks_something_is_refused(drop: str, tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_bytes((TINY / "open_clip_config.json").read_bytes())
    tensors = {name: tensor for name, tensor in load_file(WEIGHTS).items() if name != drop}
    save_file(tensors, tmp_path / "open_clip_model.safetensors")
    for load in (load_vision, load_embedder):
        with pytest.raises(MissingModelError, match="cannot build"):
            load(folder_source(tmp_path))


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
            return Path.touch, (tmp_path / "ran",)

    path = tmp_path / "trap.bin"
    torch.save({"visual.proj": Trap()}, path)
    with pytest.raises(MissingModelError):
        load_vision(_tag(path))
    assert not (tmp_path / "ran").exists()


def _tag(weights: Path) -> OpenClipSource:
    files = WeightFiles(paths={weights.name: weights}, commit="a" * 40, sha256=None)
    return source_of(SPEC, files)


@pytest.mark.parametrize("size", [0, 5, 100, 3000])
def test_a_cut_checkpoint_is_refused(size: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(WEIGHTS.read_bytes()[:size])
    with pytest.raises((ValueError, OSError)):
        MappedFile(path)


@pytest.mark.parametrize("metadata", [None, 5, [], "text", {"a": 1}, {"a": None}])
def test_metadata_that_are_no_texts_are_damage(metadata: object, tmp_path: Path) -> None:
    source = folder_source(TINY)
    path = with_metadata(tmp_path / "weights.safetensors", metadata)
    with pytest.raises(ValueError, match="metadata"):
        MappedFile(path)
    assert tower_file.read(path, source.revision) is None
    with pytest.raises(MissingModelError):
        load_vision(replace(source, weights=path, sha256=sha256_of(path)))


def with_metadata(path: Path, metadata: object) -> Path:
    """Write the tiny model with something else for metadata."""
    good = WEIGHTS.read_bytes()
    begin = 8 + int.from_bytes(good[:8], "little")
    header = json.dumps({**json.loads(good[8:begin]), "__metadata__": metadata}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + good[begin:])
    return path


def test_a_mapped_file_gives_what_the_library_gives() -> None:
    file, expected = MappedFile(WEIGHTS), load_file(WEIGHTS)
    assert set(file) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(file[name], tensor)
        file.release(name)
        assert torch.equal(file[name], tensor)


def test_a_downloaded_model_has_its_tower_beside_it(random_vit_b_32: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--laion--b32" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    weights = snapshot / "open_clip_model.safetensors"
    weights.symlink_to(random_vit_b_32 / "open_clip_model.safetensors")
    files = WeightFiles(paths={weights.name: weights}, commit="a" * 40, sha256=None)
    assert tower_size(SPEC, files) is None
    source = source_of(SPEC, files)
    save_tower(source, SILENT)
    (tower,) = tmp_path.rglob("*.v1.safetensors")
    assert tower.parent == tmp_path / "hub" / "models--laion--b32" / "clipmod" / ("a" * 40)
    assert tower_size(SPEC, files) == tower.stat().st_size
    assert tower_problems(source) == []


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    return path


def _kept(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache").rglob("*.json"))


def test_a_hash_is_kept_until_the_file_changes(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_files, "SETTLED_S", -1)
    first = cached_sha256(weights)
    assert first == sha256_of(weights)
    (kept,) = _kept(tmp_path)
    kept.write_text(kept.read_text().replace(first, "f" * 64))
    assert cached_sha256(weights) == "f" * 64  # so it is not computed again
    before = weights.stat()
    time.sleep(0.05)
    weights.write_bytes(b"two")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cached_sha256(weights) == sha256_of(weights) != first


def test_a_file_that_was_just_written_is_hashed_each_time(weights: Path, tmp_path: Path) -> None:
    assert cached_sha256(weights) == sha256_of(weights)
    assert _kept(tmp_path) == []


def test_hashing_for_long_makes_no_file_old(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = 0.0

    def hash_slowly(path: Path) -> str:
        nonlocal passed
        passed += 60
        return sha256_of(path)

    # What is written to it in the tick in which it is looked at leaves its times as they are.
    monkeypatch.setattr(hub_files, "time", SimpleNamespace(time=lambda: time.time() + passed))
    monkeypatch.setattr(hub_files, "sha256_of", hash_slowly)
    cached_sha256(weights)
    assert _kept(tmp_path) == []


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"state": null, "sha256": 5}'])
def test_a_damaged_hash_is_computed_again(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(hub_files, "SETTLED_S", -1)
    first = cached_sha256(weights)
    _kept(tmp_path)[0].write_text(damage)
    assert cached_sha256(weights) == first
