"""Weights that were damaged on the disk are refused, so that nothing made of them outlives the damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.hub.client import SILENT
from clipmod_cli.models.hub.files import sha256_of
from clipmod_cli.models.hub.weights import WeightFiles
from clipmod_cli.models.open_clip.checkpoint import load_embedder
from clipmod_cli.models.open_clip.source import OpenClipSource, source_of
from clipmod_cli.models.open_clip.towers import save_tower
from clipmod_cli.models.specs import parse_spec
from clipmod_cli.models.tower.mapped import MappedFile
from tests.models.source_kit import folder_source
from tests.models.tower_kit import both, load, lost, path_of, save, see, trembling, without_file

pytestmark = pytest.mark.usefixtures("own_cache")

SPEC = parse_spec("open_clip:ViT-B-32/laion2b_s34b_b79k")
PROMPTS = ["red circle", "blue square"]


@pytest.fixture
def locked(source: OpenClipSource) -> OpenClipSource:
    """A source as of a downloaded model: its revision is that of the lock, whatever the file says now."""
    return replace(source, repair=f"run `clipmod models download {SPEC.spec}`")


def damage(source: OpenClipSource, part: str) -> Callable[[], object]:
    """Make all numbers of a tensor zeros, which are finite and as many, and return what mends that."""
    good = source.weights.read_bytes()
    file = MappedFile(source.weights)
    size = len(file.data(part))
    start = good.index(bytes(file.data(part)))
    source.weights.write_bytes(good[:start] + bytes(size) + good[start + size :])
    return lambda: source.weights.write_bytes(good)


def ask(source: OpenClipSource) -> NDArray[np.float32]:
    """Return what the model, loaded again, makes of some prompts."""
    return load(source, "bfloat16").embed(PROMPTS)


@both
def test_a_tower_of_damaged_weights_is_neither_used_nor_kept(locked: OpenClipSource, dtype: str) -> None:
    mend = damage(locked, "visual.conv1.weight")
    with pytest.raises(MissingModelError, match=f"`clipmod models download {SPEC.spec}`") as refused:
        see(locked, dtype)
    assert str(locked.weights) in str(refused.value)
    assert not path_of(locked).exists()
    mend()
    assert np.array_equal(see(locked, dtype), see(without_file(locked), dtype))


def test_exact_weights_are_checked_though_their_description_is_kept(locked: OpenClipSource) -> None:
    right = see(locked, "float32")
    mend = damage(locked, "visual.conv1.weight")
    with pytest.raises(MissingModelError, match="is damaged"):
        see(locked, "float32")
    mend()
    assert np.array_equal(see(locked, "float32"), right)


def test_texts_of_damaged_weights_are_neither_used_nor_kept(locked: OpenClipSource) -> None:
    save_tower(locked, SILENT)
    right = load_embedder(locked)(PROMPTS)
    mend = damage(locked, "token_embedding.weight")
    with pytest.raises(MissingModelError, match="is damaged"):
        ask(locked)
    mend()
    assert np.array_equal(ask(locked), right)


def test_a_kept_tower_needs_no_weights(locked: OpenClipSource, tmp_path: Path) -> None:
    right = see(locked, "bfloat16")
    damage(locked, "visual.conv1.weight")
    assert np.array_equal(see(locked, "bfloat16"), right)
    assert np.array_equal(see(lost(locked, tmp_path), "bfloat16"), right)


def test_weights_of_a_folder_that_changed_meanwhile_are_refused(source: OpenClipSource) -> None:
    source.weights.write_bytes(save_other(source.weights.parent.parent / "other"))
    with pytest.raises(MissingModelError, match=r"was changed.*start again"):
        see(source, "bfloat16")
    again = folder_source(source.weights.parent)
    assert again.revision != source.revision
    assert see(again, "bfloat16").shape == (3, see(again, "float32").shape[1])


def save_other(folder: Path) -> bytes:
    return (save(folder, trembling(2)) / "open_clip_model.safetensors").read_bytes()


def test_a_downloaded_model_is_held_to_its_lock(tmp_path: Path) -> None:
    weights = tmp_path / "repo" / "snapshots" / "a" / "open_clip_model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"good")
    files = WeightFiles(
        paths={weights.name: weights}, commit="a" * 40, sha256={weights.name: sha256_of(weights)}
    )
    before = source_of(SPEC, files)
    weights.write_bytes(b"evil")
    assert source_of(SPEC, files) == before
    with pytest.raises(MissingModelError, match=f"models download {SPEC.spec}"):
        load_embedder(before)


def test_what_nobody_recorded_is_known_by_what_it_is(tmp_path: Path) -> None:
    weights = tmp_path / "repo" / "snapshots" / "a" / "open_clip_model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"good")
    files = WeightFiles(paths={weights.name: weights}, commit="a" * 40, sha256=None)
    before = source_of(SPEC, files)
    weights.write_bytes(b"evil")
    assert source_of(SPEC, files).revision != before.revision


def test_other_words_make_other_texts(tmp_path: Path) -> None:
    weights = tmp_path / "open_clip_model.safetensors"
    weights.write_bytes(b"good")
    plain = WeightFiles(paths={weights.name: weights}, commit="a" * 40, sha256=None)
    words = [replace(plain, tokenizer=tmp_path, tokenizer_commit=letter * 40) for letter in "bcc"]
    revisions = [source_of(SPEC, files).revision for files in (plain, *words)]
    assert len(set(revisions)) == 3
    assert revisions[2] == revisions[3]
