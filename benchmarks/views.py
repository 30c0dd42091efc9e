"""What it costs to look at all of a picture: views and processor time by shape, full against centre.

    python -m benchmarks.views [--rounds 7] [--side 1080] [--models nudenet]

The pictures are a photograph of `sample_images`, repeated and cut to each shape (1:1, 4:3, 16:9, a phone's
9:19.5), as JPEG. Without `--models` decoding alone is measured, for each kind of geometry in one thread;
with it, decoding and these models. Processor time, medians; in each round all ways take turns.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

from clipmod_cli import load_ensemble
from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import Coverage, DecodeOptions
from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.types import Frame, Geometry, Item

PHOTOGRAPH = Path(__file__).parent.parent / "sample_images" / "coffee.webp"
SHAPES = {"1:1": 1.0, "4:3": 4 / 3, "16:9": 16 / 9, "phone 9:19.5": 9 / 19.5}
GEOMETRIES = {
    "cuts the middle out": Geometry(fit="shortest", size=(224, 224), crop=(224, 224)),
    "sees it whole": Geometry(fit="corner", size=(320, 320), engine="opencv"),
}
COVERAGES = {"centre": Coverage(full=False), "full": Coverage()}


def picture(side: int, ratio: float) -> bytes:
    """Return a JPEG whose shorter side is `side`, `ratio` of width to height."""
    width, height = (round(side * ratio), side) if ratio >= 1 else (side, round(side / ratio))
    with Image.open(PHOTOGRAPH) as opened:
        photograph = np.asarray(opened.convert("RGB"))
    repeated = np.tile(photograph, (-(-height // photograph.shape[0]), -(-width // photograph.shape[1]), 1))
    buffer = io.BytesIO()
    Image.fromarray(repeated[:height, :width]).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def look(data: bytes, geometries: tuple[Geometry, ...], coverage: Coverage, ensemble: Ensemble | None) -> int:
    """Decode a picture, and show its views to the models if there are any; return the number of views."""
    options = DecodeOptions(coverage=coverage)
    frames = decode_item(Item(source="", index=0, data=data), geometries, options)
    views = [frame for frame in frames if isinstance(frame, Frame)]
    if ensemble is not None:
        ensemble.submit(views)()
    return len(views)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--side", type=int, default=1080, help="of the shorter side, in pixels")
    parser.add_argument("--models", help="a spec as for `clipmod scan --models`")
    given = parser.parse_args()
    ensemble = load_ensemble(given.models) if given.models else None
    kinds = {"models": ensemble.geometries} if ensemble else {k: (g,) for k, g in GEOMETRIES.items()}
    pictures = {name: picture(given.side, ratio) for name, ratio in SHAPES.items()}
    ways = [(kind, shape, name) for kind in kinds for shape in SHAPES for name in COVERAGES]
    times: dict[tuple[str, str, str], list[float]] = {way: [] for way in ways}
    views: dict[tuple[str, str, str], int] = {}
    for _ in range(given.rounds + 1):  # the first warms up
        for way in ways:
            kind, shape, name = way
            started = time.process_time()
            views[way] = look(pictures[shape], tuple(kinds[kind]), COVERAGES[name], ensemble)
            times[way].append(time.process_time() - started)
    print(
        json.dumps(
            {
                f"{kind}, {shape}, {name}": {
                    "views": views[kind, shape, name],
                    "cpu_ms": round(statistics.median(times[kind, shape, name][1:]) * 1000, 1),
                }
                for kind, shape, name in ways
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
