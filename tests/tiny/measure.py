"""Measures the committed models on fresh pictures: `python -m tests.tiny.measure`, a table for the README.

Training them is `tests.tiny.train`; what the tests hold them to is in `test_tiny.py`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.tiny import shapes
from tests.tiny.zero_shot import WEIGHTS, TinyModel, classify, ensemble_scores, load, unsafe_scores

PICTURES = 2_000
# the share of right answers is then known to about half a per cent
SEED = 777
# no seed of training
UNSAFE = "red circle"


def accuracy(model: TinyModel, pictures: list[Image.Image], meant: list[str]) -> float:
    """Returns the share, 0..1, of pictures that the model calls what they are."""
    found = classify(model, pictures)
    return sum(a == b for a, b in zip(found, meant, strict=True)) / len(meant)


def agreement(scores: NDArray[np.float32], meant: list[str]) -> float:
    """Returns the share, 0..1, of pictures judged rightly at 0.5 under `shapes.toml`."""
    unsafe = np.array([name == UNSAFE for name in meant])
    return float(np.mean((scores >= 0.5) == unsafe))


def clear(colour: str, shape: str) -> list[Image.Image]:
    """Returns a shape as plain as can be, in four sizes on three grounds."""
    grounds = [(255, 255, 255), (200, 200, 200), (30, 30, 30)]
    sizes = [(64, 64), (128, 96), (96, 128), (512, 512)]
    return [shapes.draw_clear(colour, shape, size, ground) for size in sizes for ground in grounds]


def describe(name: str, model: TinyModel, pictures: list[Image.Image], meant: list[str]) -> str:
    """Returns a row of the table: accuracy in two precisions, policy, and the clear pictures' scores."""
    cells = [
        f"{accuracy(model, pictures, meant):.1%}",
        f"{accuracy(load(name, bf16=True), pictures, meant):.1%}",
        f"{agreement(unsafe_scores(model, pictures), meant):.1%}",
        f"{unsafe_scores(model, clear('red', 'circle')).min():.3f}",
        f"{unsafe_scores(model, clear('blue', 'square')).max():.3f}",
        f"{float(model.clip.logit_scale.detach().exp()):.1f}",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Prints the table."""
    drawn = list(shapes.labelled(PICTURES, SEED))
    pictures, meant = [picture for picture, _ in drawn], [name for _, name in drawn]
    models = {name: load(name) for name in WEIGHTS}
    print("| model | accuracy | in bfloat16 | policy | least red circle | most blue square | logit scale |")
    print("|---|---|---|---|---|---|---|")
    for name, model in models.items():
        print(describe(name, model, pictures, meant))
    print(f"| ensemble | | | {agreement(ensemble_scores(models, pictures), meant):.1%} | | | |")


if __name__ == "__main__":
    main()
