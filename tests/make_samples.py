"""Makes the pictures in `sample_images/` again from the photographs that come with scikit-image.

Run it with `python -m tests.make_samples [FOLDER]`. The same libraries give the same bytes; another release
of Pillow may compress differently, so the tests compare pixels. Who took each picture and under which
licence is told in `sample_images/ATTRIBUTION.md`, which this script does not write.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image
from skimage import data

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES: Final = Path(__file__).parent.parent / "sample_images"

PAN_FRAMES: Final = 12
PAN_SIDE: Final = 280
PAN_START: Final = (232, 232)
PAN_END: Final = (90, 0)
# The camera starts on the helmet, bottom right, and ends on the face: the first frames alone show no face,
# so a tool that looks at nothing but the first frame gets this file wrong.
PAN_SHOWN: Final = 200
PAN_COLORS: Final = 64
PAN_MS: Final = 200
# Small enough to stay near 200 kB; five frames a second still reads as movement.

CHART_SIDE: Final = 256
CHART_OVERSAMPLING: Final = 4
# Drawn four times too large and then reduced, so that the rim is smooth.

JPEG_QUALITY: Final = 90
# High enough that a detector sees what it sees in the original.

EXIF_ORIENTATION: Final = 0x0112
QUARTER_TURN: Final = 6
# EXIF's "turn me 90 degrees clockwise to show me": what a telephone held upright writes.


def draw_color_chart() -> Image.Image:
    """Returns a colour wheel on white: hue by angle, saturation by radius, full value, (256, 256) RGB."""
    side = CHART_SIDE * CHART_OVERSAMPLING
    centre = (side - 1) / 2
    y, x = (np.mgrid[:side, :side] - centre) / centre
    radius = np.hypot(x, y)
    sixths = np.arctan2(-y, x) / (np.pi / 3)
    # HSV to RGB at value 1: the three channels' own hues lie a third of the circle apart.
    turns = np.stack([(shift + sixths) % 6 for shift in (5, 3, 1)], axis=-1)
    rgb = 1 - radius[..., None] * np.clip(np.minimum(turns, 4 - turns), 0, 1)
    rgb[radius > 1] = 1
    large = Image.fromarray((rgb * 255).round().astype(np.uint8))
    return large.resize((CHART_SIDE, CHART_SIDE), Image.Resampling.LANCZOS)


def photograph(name: str) -> Image.Image:
    """Returns the picture that scikit-image knows by this name."""
    return Image.fromarray(getattr(data, name)())


def pan_over(portrait: Image.Image) -> list[Image.Image]:
    """Returns the frames of a slow move over `portrait`, easing in and out, as pictures of one palette."""
    palette = portrait.quantize(PAN_COLORS, dither=Image.Dither.NONE)
    frames = []
    for step in range(PAN_FRAMES):
        way = step / (PAN_FRAMES - 1)
        eased = way * way * (3 - 2 * way)
        left, top = (round(a + (b - a) * eased) for a, b in zip(PAN_START, PAN_END, strict=True))
        window = portrait.crop((left, top, left + PAN_SIDE, top + PAN_SIDE))
        shown = window.resize((PAN_SHOWN, PAN_SHOWN), Image.Resampling.LANCZOS)
        frames.append(shown.quantize(palette=palette, dither=Image.Dither.NONE))
    return frames


def save_astronaut(path: Path) -> None:
    """Writes the portrait as an ordinary JPEG."""
    photograph("astronaut").save(path, quality=JPEG_QUALITY)


def save_astronaut_pan(path: Path) -> None:
    """Writes an animated GIF whose face comes into view only after some frames."""
    first, *others = pan_over(photograph("astronaut"))
    first.save(path, save_all=True, append_images=others, duration=PAN_MS, loop=0)


def save_cat(path: Path) -> None:
    """Writes the cat as a PNG."""
    photograph("chelsea").save(path, optimize=True)


def save_clock(path: Path) -> None:
    """Writes the blurred clock as a grey TIFF, packed with LZW."""
    photograph("clock").save(path, compression="tiff_lzw")


def save_coffee(path: Path) -> None:
    """Writes the cup of coffee as a lossy WebP."""
    photograph("coffee").save(path, quality=80)


def save_color_chart(path: Path) -> None:
    """Writes the drawn colour wheel as a PNG."""
    draw_color_chart().save(path, optimize=True)


def save_galaxies(path: Path) -> None:
    """Writes the Hubble field, halved, as an AVIF; one thread, for the same bytes on every machine."""
    photograph("hubble_deep_field").reduce(2).save(path, quality=60, max_threads=1)


def save_horse(path: Path) -> None:
    """Writes the silhouette as a BMP of one bit a pixel."""
    photograph("horse").save(path)


def save_photographer(path: Path) -> None:
    """Writes the man with the camera as a grey, progressive JPEG."""
    photograph("camera").save(path, quality=JPEG_QUALITY, progressive=True)


def save_rotated_rocket(path: Path) -> None:
    """Writes the rocket lying on its side, with the EXIF orientation that puts it upright."""
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = QUARTER_TURN
    lying = photograph("rocket").transpose(Image.Transpose.ROTATE_90)
    lying.save(path, quality=JPEG_QUALITY, exif=exif)


MAKERS: Final[dict[str, Callable[[Path], None]]] = {
    "astronaut-pan.gif": save_astronaut_pan,
    "astronaut.jpg": save_astronaut,
    "cat.png": save_cat,
    "clock.tiff": save_clock,
    "coffee.webp": save_coffee,
    "color-chart.png": save_color_chart,
    "galaxies.avif": save_galaxies,
    "horse.bmp": save_horse,
    "photographer.jpg": save_photographer,
    "rocket-rotated.jpg": save_rotated_rocket,
}


def make_all(folder: Path) -> None:
    """Writes every sample into `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, save in MAKERS.items():
        save(folder / name)


if __name__ == "__main__":
    make_all(Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES)
