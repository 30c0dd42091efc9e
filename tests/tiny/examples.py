"""Writes a few drawn pictures in the formats people send: `python -m tests.tiny.examples [FOLDER]`.

Their names say what they show. The drawing is `tests.tiny.shapes`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from tests.tiny.shapes import PURE, draw, draw_clear, empty

PICTURES = Path(__file__).parent / "pictures"
FRAME_MS = 200
ORIENTATION = 0x0112
# EXIF's tag
TURN_RIGHT = 6
# its value for "turn a quarter clockwise to show"


def write_examples(folder: Path) -> None:
    """Writes every picture into an existing folder."""
    draw("red", "circle", (160, 120), seed=3).save(folder / "red-circle.jpg", quality=85)
    draw("blue", "square", (96, 96), seed=6).save(folder / "blue-square.png", optimize=True)
    draw("green", "triangle", (128, 96), seed=7).save(folder / "green-triangle.webp", quality=80)
    draw("yellow", "star", (48, 48), seed=11).save(folder / "yellow-star.bmp")
    draw("red", "square", (96, 96), seed=15).save(folder / "red-square.avif", quality=70)
    draw("grey", "circle", (80, 80), seed=17).convert("L").save(
        folder / "grey-circle.tiff", compression="tiff_lzw"
    )
    empty((64, 64), seed=22).quantize(16).save(folder / "nothing.png")
    write_turned(folder / "red-circle-turned.jpg")
    write_transparent(folder / "red-circle-transparent.png")
    write_animation(folder / "red-circle-in-one-frame.gif")


def write_turned(path: Path) -> None:
    """Writes a JPEG of 96 x 64 pixels that EXIF says to show as 64 x 96."""
    exif = Image.Exif()
    exif[ORIENTATION] = TURN_RIGHT
    draw("red", "circle", (96, 64), seed=23).save(path, quality=90, exif=exif)


def write_transparent(path: Path) -> None:
    """Writes a PNG whose ground is wholly transparent, the hidden colour the shape's own."""
    alpha = draw_clear("grey", "circle").convert("L").point(lambda level: 255 if level < 190 else 0)
    picture = Image.new("RGB", alpha.size, PURE["red"])
    picture.putalpha(alpha)
    picture.save(path, optimize=True)


def write_animation(path: Path) -> None:
    """Writes a GIF of five frames; the third alone is a red circle, the others are blue squares."""
    kinds = [
        ("blue", "square"),
        ("blue", "square"),
        ("red", "circle"),
        ("blue", "square"),
        ("blue", "square"),
    ]
    grounds = [230, 235, 240, 245, 250]
    # no two frames equal, or Pillow would join them
    frames = [draw_clear(*kind, (80, 80), (g, g, g)) for kind, g in zip(kinds, grounds, strict=True)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0)


def main() -> None:
    """Writes the pictures into the folder named on the command line, or where the tests look for them."""
    parser = argparse.ArgumentParser(description="Write the example pictures.")
    parser.add_argument("folder", nargs="?", type=Path, default=PICTURES)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    write_examples(folder)


if __name__ == "__main__":
    main()
