"""Real photographs (of the scikit-image package) and the views that models want of them."""

from __future__ import annotations

from pathlib import Path

import skimage
from PIL import Image

from clipmod_cli.types import Geometry

PHOTOGRAPHS = ["astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg"]
TOWER = Geometry(fit="shortest", size=(224, 224), crop=(224, 224), fast="torch")
DETECTOR = Geometry(fit="corner", size=(320, 320), resample="bilinear", engine="opencv")


def photograph(name: str, size: tuple[int, int] | None = None) -> Image.Image:
    with Image.open(Path(skimage.__file__).parent / "data" / name) as picture:
        loaded = picture.convert("RGB")
    return loaded.resize(size, Image.Resampling.BICUBIC) if size else loaded
