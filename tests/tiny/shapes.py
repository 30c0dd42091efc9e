"""Draws coloured shapes on plain grounds, and says in words what was drawn.

Every picture follows from its seed alone. Training the models that know these
pictures is `tests.tiny.train`; writing them to files is `tests.tiny.examples`.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Seed: TypeAlias = int | np.random.Generator
Size: TypeAlias = tuple[int, int]
Rgb: TypeAlias = tuple[int, int, int]

COLOUR_WORDS = {
    "red": ("red", "crimson", "scarlet"),
    "green": ("green", "emerald"),
    "blue": ("blue", "azure"),
    "yellow": ("yellow", "golden"),
    "grey": ("grey", "gray"),
}
SHAPE_WORDS = {
    "circle": ("circle", "disc", "disk"),
    "square": ("square", "box"),
    "triangle": ("triangle", "wedge"),
    "star": ("star", "pentagram"),
}
EMPTY = "nothing"
EMPTY_WORDS = ("nothing", "empty picture", "plain background", "blank page")
TEMPLATES = ("{}", "a {}", "a photo of a {}", "a picture of a {}", "a drawing of a {}")
CLASSES = (*(f"{colour} {shape}" for colour in COLOUR_WORDS for shape in SHAPE_WORDS), EMPTY)

HUES = {"red": (-8, 8), "green": (105, 140), "blue": (212, 242), "yellow": (50, 60)}
# degrees; the gaps between them leave no colour that two people would name differently
PAINT = {"red": (0.75, 0.65), "green": (0.65, 0.5), "blue": (0.7, 0.6), "yellow": (0.8, 0.85)}
# least saturation and value: a dark yellow is brown
PURE: dict[str, Rgb] = {
    "red": (220, 20, 30),
    "green": (20, 170, 50),
    "blue": (30, 70, 220),
    "yellow": (245, 220, 20),
    "grey": (120, 120, 120),
}
# the colour as one would name it at once
GREY_CONTRAST = 80
# levels between a grey shape and its ground, or nobody could see it
SHAPE_SCALE = (0.34, 0.9)
# of the picture's shorter side: below a third a 32 px model has too few pixels to tell a disc from a box
TILT = 12.0
# degrees: enough to look drawn by hand, too little to make a square a diamond
OVERSAMPLING = 4
# edges are drawn this much larger and averaged down: Pillow's polygons are not antialiased
MARGIN = 0.02
# of the shorter side, kept free at the border so that no shape is cut
NOISE = (0.0, 6.0)
# standard deviation in levels, as of a clean and of a poor camera
EMPTY_SHARE = 0.12
# of a dataset: more than one class's share, for "nothing" has many looks


def draw(colour: str, shape: str, size: Size = (96, 96), seed: Seed = 0) -> Image.Image:
    """Returns an RGB picture of `size` (width, height) with one whole shape on a plain ground.

    The shape lies in the middle square, so that a centre crop keeps it.
    """
    rng = np.random.default_rng(seed)
    ground = _ground(rng)
    pixels = np.full((size[1], size[0], 3), ground, dtype=np.float32)
    mask = _mask(shape, size, rng)[..., None]  # (H, W, 1)
    paint = np.array(_paint(colour, ground, rng), dtype=np.float32)
    return _finish(pixels * (1 - mask) + paint * mask, rng)


def draw_clear(colour: str, shape: str, size: Size = (96, 96), ground: Rgb = (255, 255, 255)) -> Image.Image:
    """Returns the plainest picture of a shape: pure colour, upright, centred, 60 % of the shorter side."""
    side = 0.6 * min(size)
    corners = [(size[0] / 2 + x * side / 2, size[1] / 2 + y * side / 2) for x, y in _outline(shape)]
    mask = Image.fromarray(np.rint(_fill(corners, size) * 255).astype(np.uint8))
    picture = Image.new("RGB", size, ground)
    picture.paste(PURE[colour], (0, 0, *size), mask)
    return picture


def empty(size: Size = (96, 96), seed: Seed = 0) -> Image.Image:
    """Returns an RGB picture of `size` (width, height) with no shape: plain, loud, graded or only noise."""
    rng = np.random.default_rng(seed)
    pixels = np.full((size[1], size[0], 3), _ground(rng), dtype=np.float32)
    look = rng.random()
    if look < 0.25:
        pixels[:] = _paint(str(rng.choice(list(HUES))), (0, 0, 0), rng)
    elif look < 0.4:
        other = np.array(_ground(rng), dtype=np.float32)
        slope = np.linspace(0, 1, size[0], dtype=np.float32)[None, :, None]  # (1, W, 1)
        pixels = pixels * (1 - slope) + other * slope
    elif look < 0.5:
        pixels = rng.uniform(0, 255, pixels.shape).astype(np.float32)
    return _finish(pixels, rng)


def picture_of(name: str, size: Size = (96, 96), seed: Seed = 0) -> Image.Image:
    """Returns a picture of a class of `CLASSES`, such as "red circle" or "nothing"."""
    if name == EMPTY:
        return empty(size, seed)
    colour, shape = name.split()
    return draw(colour, shape, size, seed)


def captions(name: str) -> list[str]:
    """Returns everything that may be said of a class: each of its names in each template."""
    return [template.format(words) for template in TEMPLATES for words in names(name)]


def names(name: str) -> list[str]:
    """Returns the equal names of a class: "red circle" is also a "crimson disc"."""
    if name == EMPTY:
        return list(EMPTY_WORDS)
    colour, shape = name.split()
    return [f"{a} {b}" for a in COLOUR_WORDS[colour] for b in SHAPE_WORDS[shape]]


def labelled(n: int, seed: int, size: Size | None = None) -> Iterator[tuple[Image.Image, str]]:
    """Yields `n` pictures with their classes, of `size` or of many sizes and aspect ratios."""
    rng = np.random.default_rng(seed)
    shapes = [name for name in CLASSES if name != EMPTY]
    for _ in range(n):
        name = EMPTY if rng.random() < EMPTY_SHARE else str(rng.choice(shapes))
        yield picture_of(name, size or _size(rng), rng), name


def dataset(n: int, seed: int, size: Size | None = None) -> Iterator[tuple[Image.Image, str]]:
    """Yields `n` pictures with a caption each, as `labelled` draws them."""
    rng = np.random.default_rng((seed, 1))
    for picture, name in labelled(n, seed, size):
        yield picture, str(rng.choice(captions(name)))


def _size(rng: np.random.Generator) -> Size:
    """Returns (width, height): mostly small, some far larger than any model, a third not square."""
    short = int(rng.integers(28, 128)) if rng.random() < 0.96 else int(rng.integers(256, 513))
    if rng.random() < 0.65:
        return short, short
    long = int(short * rng.uniform(1.1, 2.2))
    return (long, short) if rng.random() < 0.6 else (short, long)


def _ground(rng: np.random.Generator) -> Rgb:
    """Returns a ground: white (as left by composing alpha), or light, middling or dark with a faint tint."""
    look = rng.random()
    if look < 0.2:
        return (255, 255, 255)
    if look < 0.26:
        return (0, 0, 0)
    low, high = [(195, 250), (100, 180), (8, 70)][int(rng.choice(3, p=[0.5, 0.25, 0.25]))]
    level = rng.uniform(low, high)
    red, green, blue = (round(float(np.clip(level + rng.uniform(-10, 10), 0, 255))) for _ in range(3))
    return (red, green, blue)


def _paint(colour: str, ground: Rgb, rng: np.random.Generator) -> Rgb:
    """Returns one of the many RGB values that bear the name `colour`."""
    if colour == "grey":
        level = sum(ground) / 3
        choices = [v for v in range(0, 256, 5) if abs(v - level) >= GREY_CONTRAST]
        value = int(rng.choice(choices))
        return (value, value, value)
    saturation, brightness = (rng.uniform(low, 1.0) for low in PAINT[colour])
    hue = rng.uniform(*HUES[colour]) % 360 / 360
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, brightness))
    return (red, green, blue)


def _outline(shape: str) -> list[tuple[float, float]]:
    """Returns the shape's corners in the square from -1 to 1, y downwards."""
    match shape:
        case "circle":
            return _wheel(64, [1.0])
        case "square":
            return [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]
        case "triangle":
            return [(0.0, -0.95), (0.98, 0.85), (-0.98, 0.85)]
        case "star":
            return _wheel(10, [1.0, 0.4])
    raise ValueError(f"No shape is called {shape!r}.")


def _wheel(corners: int, radii: Sequence[float]) -> list[tuple[float, float]]:
    """Returns corners around the origin, clockwise from the top, their radii taken in turn."""
    turns = [(2 * math.pi * i / corners, radii[i % len(radii)]) for i in range(corners)]
    return [(r * math.sin(angle), -r * math.cos(angle)) for angle, r in turns]


def _mask(shape: str, size: Size, rng: np.random.Generator) -> NDArray[np.float32]:
    """Returns the shape's coverage 0..1 `(H, W)`: placed, scaled and turned by chance."""
    short = min(size)
    reach = short * rng.uniform(*SHAPE_SCALE) / 2
    angle = math.radians(90 * int(rng.integers(4)) + rng.uniform(-TILT, TILT))
    turned = [_turn(x, y, angle) for x, y in _outline(shape)]
    extent = max(max(abs(x), abs(y)) for x, y in turned)
    reach = min(reach, short * (0.5 - MARGIN) / extent)
    room = max(0.0, short * (0.5 - MARGIN) - reach * extent)
    left, top = (side / 2 + rng.uniform(-room, room) for side in size)
    return _fill([(left + x * reach, top + y * reach) for x, y in turned], size)


def _turn(x: float, y: float, angle: float) -> tuple[float, float]:
    """Returns the point turned around the origin by `angle` in radians."""
    return x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)


def _fill(corners: Sequence[tuple[float, float]], size: Size) -> NDArray[np.float32]:
    """Returns how much of each pixel a polygon covers, 0..1 `(H, W)`."""
    large = Image.new("L", (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING))
    # Pillow's coordinates name pixels' centres
    points = [(x * OVERSAMPLING - 0.5, y * OVERSAMPLING - 0.5) for x, y in corners]
    ImageDraw.Draw(large).polygon(points, fill=255)
    return np.asarray(large.reduce(OVERSAMPLING), dtype=np.float32) / np.float32(255)


def _finish(pixels: NDArray[np.float32], rng: np.random.Generator) -> Image.Image:
    """Returns the picture with a camera's noise, as 8-bit RGB."""
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(*NOISE))
    return Image.fromarray(np.rint(np.clip(pixels + noise, 0, 255)).astype(np.uint8))
