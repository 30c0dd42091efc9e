"""Weights that are not wholly there: random ones may never reach a verdict."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from tests.end_to_end.command import SAMPLES, SHAPES, TINY, Command
from tests.models.backends import save_random_vit

CAT = SAMPLES / "cat.png"


def clip_folder(folder: Path) -> tuple[str, ...]:
    """Copy a good model; return how it is asked to judge."""
    shutil.copytree(TINY / "models" / "tiny-l", folder)
    return ("--models", f"open_clip:local-dir:{folder}", "--policy", str(SHAPES))


def without_weights(folder: Path) -> None:
    weights_of(folder).unlink()


def without_a_tensor(folder: Path) -> None:
    weights = load_file(weights_of(folder))
    del weights[max(weights, key=lambda name: weights[name].size)]
    save_file(weights, weights_of(folder))


def with_a_tensor_of_another_shape(folder: Path) -> None:
    weights = load_file(weights_of(folder))
    name = max(weights, key=lambda name: weights[name].size)
    weights[name] = weights[name][:-1].copy()
    save_file(weights, weights_of(folder))


def with_half_a_file(folder: Path) -> None:
    path = weights_of(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def with_weights_that_nothing_reads(folder: Path) -> None:
    weights_of(folder).rename(folder / "other.bin")


def weights_of(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


SPOILS = [
    without_weights,
    without_a_tensor,
    with_a_tensor_of_another_shape,
    with_half_a_file,
    with_weights_that_nothing_reads,
]


@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("kind", ["open_clip", "hf"])
def test_no_verdict_without_all_weights(
    clipmod: Command, tmp_path: Path, kind: str, spoil: Callable[[Path], None]
) -> None:
    folder = tmp_path / "model"
    if kind == "open_clip":
        words = clip_folder(folder)
    else:
        save_random_vit(folder)
        words = ("--models", f"hf:{folder}", "--policy", str(label_policy(tmp_path, f"hf:{folder}")))
    assert clipmod("scan", CAT, *words).code == 0
    spoil(folder)
    run = clipmod("scan", CAT, *words)
    assert (run.code, run.stdout) == (4, b"")
    assert str(folder) in run.stderr
    assert "Traceback" not in run.stderr


def label_policy(folder: Path, spec: str) -> Path:
    """Write a policy that maps the classifier's labels."""
    path = folder / "labels.toml"
    path.write_text(
        'name = "labels"\n'
        + "".join(
            f'[[categories]]\nname = "{name}"\nsafety = "{safety}"\nlabels = {{ "{spec}" = ["{name}"] }}\n'
            for name, safety in (("normal", "SAFE"), ("nsfw", "UNSAFE"))
        )
    )
    return path


def test_a_classifier_that_is_but_a_configuration(clipmod: Command, tmp_path: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text("{}")
    run = clipmod(
        "scan", CAT, "--models", f"hf:{tmp_path}", "--policy", label_policy(tmp_path, f"hf:{tmp_path}")
    )
    assert (run.code, run.stdout) == (4, b"")
    assert "model.safetensors" in run.stderr
