"""From open_clip's description of its transform to the view that a model wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from clipmod_cli.types import View


def view_of(preprocess: Mapping[str, Any]) -> View:
    """Return the geometry of an open_clip `preprocess_cfg`."""
    size = preprocess["size"]
    height, width = (size, size) if isinstance(size, int) else size
    fits: dict[str, Literal["shortest", "longest", "squash"]] = {
        "shortest": "shortest",
        "longest": "longest",
        "squash": "squash",
    }
    fill = preprocess.get("fill_color", 0)
    return View(
        fit=fits[preprocess["resize_mode"]],
        size=(height, width),
        crop=None if preprocess["resize_mode"] == "squash" else (height, width),
        resample="bilinear" if preprocess["interpolation"] == "bilinear" else "bicubic",
        fill=fill if isinstance(fill, int) else fill[0],
    )
