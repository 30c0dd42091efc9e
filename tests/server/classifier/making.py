"""A real image classifier that tells colours, and pictures that move for it to look at."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import ViTForImageClassification, ViTImageProcessor

from clipmod_cli.settings.reading import Resolved, resolve
from tests.end_to_end.command import SHAPES, TINY_L
from tests.models.backends import save_random_vit

COLOURS = {"red": (220, 20, 30), "green": (20, 170, 50), "blue": (30, 70, 220)}
SURE = 8.0
"""The logit of a colour that is there: a score of 0.999."""

Answer = Any


def save_colour_classifier(folder: Path, labels: Sequence[str] = tuple(COLOURS)) -> Path:
    """Save a small transformer whose head is fitted to name the colour of a plain picture.

    `labels` are what it calls red, green and blue.
    """
    save_random_vit(folder, labels)
    model: Any = ViTForImageClassification.from_pretrained(folder)
    model.eval()
    processor = ViTImageProcessor.from_pretrained(folder)
    pictures = [plain(colour) for colour in COLOURS]
    with torch.inference_mode():
        pixels = processor(images=pictures, return_tensors="pt")["pixel_values"]
        features = model.vit(pixels).last_hidden_state[:, 0]
    wanted = SURE * torch.eye(len(COLOURS))
    with torch.no_grad():
        model.classifier.weight.copy_(torch.linalg.lstsq(features, wanted).solution.T)
        model.classifier.bias.zero_()
    model.save_pretrained(folder)
    return folder


def only_tiny(home: Path, patch: pytest.MonkeyPatch, **changes: Any) -> Resolved:
    """Return settings of one tiny model, with these changes; nothing outside of `home` is touched."""
    for folder in ("DATA", "CONFIG", "CACHE"):
        patch.setenv(f"XDG_{folder}_HOME", str(home / folder.lower()))
    for name in ("API_KEYS", "USE_API_KEYS", "CLIPMOD_API_KEYS", "DEFAULT_MODEL_NAME", "DEFAULT_SCORE"):
        patch.delenv(name, raising=False)
    ours = {
        "models": (TINY_L,),
        "policy": str(SHAPES),
        "isolate": False,
        "offline": True,
        "data_dir": str(home / "kept"),
        "db": str(home / "store.duckdb"),
    }
    return resolve({**ours, **changes})


def plain(colour: str, size: tuple[int, int] = (96, 96)) -> Image.Image:
    """Return a picture of one colour."""
    return Image.new("RGB", size, COLOURS[colour])


def png(colour: str) -> bytes:
    """Return a picture of one colour, as a file."""
    return _saved([plain(colour)], "PNG")


def gif(colours: Sequence[str]) -> bytes:
    """Return an animation with a frame of each colour, also where the one before is equal."""
    frames = [plain(colour) for colour in colours]
    for number, frame in enumerate(frames):
        frame.putpixel((number % 96, number // 96), (number % 256, 0, 0))  # or the writer would merge them
    return _saved(frames, "GIF")


def _saved(frames: Sequence[Image.Image], form: str) -> bytes:
    buffer = io.BytesIO()
    more: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": 100}
    frames[0].save(buffer, form, **(more if form == "GIF" else {}))
    return buffer.getvalue()
