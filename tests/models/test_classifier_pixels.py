"""A classifier's pixels in one step of our own: where that equals its processor, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor

from clipmod_cli.models import transformers
from tests.models import backends

CPU = torch.device("cpu")


def processor_of(folder: Path, **wanted: Any) -> Any:
    backends.save_random_vit(folder, **wanted)
    return AutoImageProcessor.from_pretrained(folder, local_files_only=True)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"image_mean": [0.48, 0.45, 0.40], "image_std": [0.26, 0.26, 0.27]},
        {"do_normalize": False},
        {"do_rescale": False, "image_mean": [120.0, 110.0, 100.0], "image_std": [60.0, 61.0, 62.0]},
        {"rescale_factor": 1 / 127.5},
    ],
    ids=["plain", "mean and std", "not normalised", "in levels", "another factor"],
)
def test_it_equals_the_processor(tmp_path: Path, wanted: dict[str, Any]) -> None:
    processor = processor_of(tmp_path / "vit", **wanted)
    geometry, rest = transformers._geometry(processor)
    quick = transformers._preparer(processor, geometry, rest, CPU)
    assert "normalise" in quick.__qualname__
    pictures = [np.random.default_rng(i).integers(0, 256, (96, 96, 3), dtype=np.uint8) for i in range(3)]
    tensors = [torch.from_numpy(one).permute(2, 0, 1) for one in pictures]
    theirs = processor(images=tensors, return_tensors="pt", input_data_format="channels_first", **rest)
    assert float((quick(pictures) - theirs["pixel_values"]).abs().max()) <= transformers.MOST_DIFFERENCE


def test_a_processor_that_does_something_else_is_called(tmp_path: Path) -> None:
    processor = processor_of(tmp_path / "vit")
    geometry, rest = transformers._geometry(processor)
    rescale = processor.rescale_and_normalize
    processor.rescale_and_normalize = lambda *given, **named: rescale(*given, **named) + 1e-3
    prepare = transformers._preparer(processor, geometry, rest, CPU)
    picture = np.full((96, 96, 3), 7, np.uint8)
    assert "normalise" not in prepare.__qualname__
    assert float(prepare([picture]).max()) == pytest.approx((7 / 255 - 0.5) / 0.5 + 1e-3, abs=1e-6)
