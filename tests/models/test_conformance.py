"""One suite over every backend: what the seam promises, held to. A new backend adds one line to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clipmod_cli.models.open_clip import text_cache
from clipmod_cli.models.seam import Model
from clipmod_cli.types import Detections, Embedding, LabelScores, Seen
from tests.models import backends

Build = Callable[[pytest.FixtureRequest, Path], Model]

BACKENDS: dict[str, Build] = {
    "open_clip": lambda _, cache: backends.tiny_clip("tiny-l", cache),
    "open_clip, squashed": lambda _, cache: backends.tiny_clip("tiny-h", cache),
    "open_clip, third": lambda _, cache: backends.tiny_clip("tiny-g", cache),
    "transformers": lambda request, _: backends.load_vit(request.getfixturevalue("random_vit")),
    "nudenet": lambda _, __: backends.load_nudenet(),
    "onnx": lambda _, __: backends.load_open_nsfw(),
}


@pytest.fixture(params=BACKENDS, scope="module")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return BACKENDS[request.param](request, tmp_path_factory.mktemp("cache"))


def _numbers(seen: Seen) -> list[float]:
    match seen:
        case Embedding(vector=vector):
            return [float(value) for value in vector]
        case LabelScores(scores=scores):
            return list(scores.values())
        case Detections(found=found):
            return [number for d in found for number in (d.score, *d.box)]


def test_it_says_who_it_is(model: Model) -> None:
    assert model.name
    assert model.spec
    assert len(model.revision) >= 16


def test_what_it_sees_does_not_depend_on_the_batch(model: Model, pictures: list[Path]) -> None:
    frames = backends.look(model, pictures)
    together = model.submit(frames)().seen
    alone = [model.submit([frame])().seen[0] for frame in frames]
    assert len(together) == len(frames)
    for one, other in zip(together, alone, strict=True):
        assert type(one) is type(other)
        assert _numbers(one) == pytest.approx(_numbers(other), abs=2e-4)


def test_order_is_kept(model: Model, pictures: list[Path]) -> None:
    frames = backends.look(model, pictures)
    forwards = [_numbers(seen) for seen in model.submit(frames)().seen]
    backwards = [_numbers(seen) for seen in model.submit(frames[::-1])().seen]
    for one, other in zip(forwards, backwards[::-1], strict=True):
        assert one == pytest.approx(other, abs=2e-4)


def test_the_view_is_what_was_asked_for(model: Model, pictures: list[Path]) -> None:
    for frame in backends.look(model, pictures, exact=False):
        geometry = frame.inputs[model.geometry]
        assert geometry.dtype == np.uint8
        size = model.geometry.crop or model.geometry.size
        if model.geometry.stride is None:
            assert geometry.shape == (*size, 3)
        else:
            assert max(geometry.shape) == max(size)
            assert geometry.shape[0] % model.geometry.stride == geometry.shape[1] % model.geometry.stride == 0


def test_numbers_mean_what_the_seam_says(model: Model, pictures: list[Path]) -> None:
    labels = () if model.kind == "text-image" else model.labels
    for seen, frame in zip(
        model.submit(frames := backends.look(model, pictures))().seen, frames, strict=True
    ):
        match seen:
            case Embedding(vector=vector):
                assert vector.dtype == np.float32
                assert vector.ndim == 1
                assert float(np.linalg.norm(vector)) == pytest.approx(1, abs=1e-5)
            case LabelScores(scores=scores):
                assert set(scores) == set(labels)
                assert sum(scores.values()) == pytest.approx(1, abs=1e-5)
            case Detections(found=found):
                assert all(d.label in labels and 0 < d.score <= 1 for d in found)
                width, height = frame.media.width or 0, frame.media.height or 0
                assert all(
                    x >= 0 and y >= 0 and x + w <= width and y + h <= height
                    for x, y, w, h in (d.box for d in found)
                )


def test_a_picture_of_a_wrong_shape_raises(model: Model, pictures: list[Path]) -> None:
    good = backends.look(model, pictures)
    bad = backends.poison(good[0], model)
    # among others, and where all are of one shape, so that nobody but the model can tell
    for frames in ([*good, bad], [bad], [bad, bad]):
        with pytest.raises((ValueError, RuntimeError)):
            model.submit(frames)()
    assert len(model.submit(good)().seen) == len(good)


def test_prompts_are_embedded_to_unit_length_and_kept(tmp_path: Path) -> None:
    model = backends.tiny_clip("tiny-l", tmp_path)
    assert model.kind == "text-image"
    first = model.embed(["red circle", "blue square"])
    assert first.dtype == np.float32
    assert np.linalg.norm(first, axis=1) == pytest.approx([1, 1], abs=1e-5)
    # a second model, as a second run would build it, reads what the first one kept
    again = backends.tiny_clip("tiny-l", tmp_path)
    again.texts.load = _refuse
    with pytest.raises(AssertionError, match="was loaded"):
        again.embed(["green star"])
    assert np.array_equal(again.embed(["blue square", "red circle"]), first[::-1])


def test_a_new_prompt_brings_the_text_tower_back(tmp_path: Path) -> None:
    model = backends.tiny_clip("tiny-l", tmp_path)
    known = model.embed(["red circle"])
    assert model.texts._tower is None
    both = model.embed(["red circle", "green star"])
    assert np.array_equal(both[0], known[0])
    assert not np.allclose(both[0], both[1])


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"garbage" * 100])
def test_a_damaged_text_cache_costs_time_only(tmp_path: Path, damage: bytes) -> None:
    expected = backends.tiny_clip("tiny-l", tmp_path).embed(["red circle"])
    for kept in tmp_path.rglob("*.npy"):
        kept.write_bytes(damage)
    assert np.array_equal(backends.tiny_clip("tiny-l", tmp_path).embed(["red circle"]), expected)


@settings(max_examples=60)
@given(bit=st.integers(0, 8 * 288 - 1))
def test_no_flipped_bit_of_a_kept_embedding_goes_unnoticed(bit: int) -> None:
    with TemporaryDirectory() as folder:
        cache = text_cache.TextCache(Path(folder), "revision")
        cache.put("red circle", np.linspace(-1, 1, 32, dtype=np.float32))
        (kept,) = Path(folder).rglob("*.npy")
        content = bytearray(kept.read_bytes())
        assert len(content) == 288
        content[bit // 8] ^= 1 << bit % 8
        kept.write_bytes(content)
        assert cache.get("red circle") is None


def test_an_embedding_is_of_its_text_and_weights_alone(tmp_path: Path) -> None:
    cache = text_cache.TextCache(tmp_path, "revision" + "0" * 56)
    cache.put("red circle", np.ones(3, np.float32))
    cache.put("blue square", np.zeros(3, np.float32))
    one, other = tmp_path.rglob("*.npy")
    other.write_bytes(one.read_bytes())
    assert [cache.get(text) is None for text in ("red circle", "blue square")].count(True) == 1
    # folders are called by the first letters of a revision
    alike = text_cache.TextCache(tmp_path, "revision" + "0" * 55 + "1")
    assert alike.get("red circle") is None


def test_an_embedding_without_a_digest_counts_as_absent(tmp_path: Path) -> None:
    cache = text_cache.TextCache(tmp_path, "revision")
    cache.put("red circle", np.ones(3, np.float32))
    (kept,) = tmp_path.rglob("*.npy")
    np.save(kept, np.zeros(3, np.float32))
    assert cache.get("red circle") is None
    cache.put("red circle", np.ones(3, np.float32))
    again = cache.get("red circle")
    assert again is not None
    assert np.array_equal(again, np.ones(3))


def _refuse() -> Callable[[Sequence[str]], NDArray[np.float32]]:
    raise AssertionError("the text tower was loaded although every prompt was known")


def test_a_text_tower_stays_if_it_is_wanted(tmp_path: Path) -> None:
    model = backends.tiny_clip("tiny-l", tmp_path)
    first = model.embed(["red circle"], keep=True)
    model.texts.load = _refuse
    assert np.array_equal(model.embed(["red circle", "green star"], keep=True)[0], first[0])
    model.unload_text_tower()
    assert model.texts._tower is None
    assert model.submit(backends.look(model, backends.save_photographs(tmp_path)))().seen


def test_the_text_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_cache, "MAX_TEXTS", 2)
    cache = text_cache.TextCache(tmp_path, "revision")
    for word in ("one", "two", "three"):
        cache.put(word, np.ones(3, np.float32))
    assert cache.get("two") is not None
    assert cache.get("three") is None
