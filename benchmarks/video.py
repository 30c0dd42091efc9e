"""What looking at a film (1080p by default) costs: seconds of film for a second of processor time.

    python -m benchmarks.video [--minutes 10] [--dense-minutes 2] [--rounds 3] [--films cuts]
                               [--height 1080] [--keep FOLDER]

Makes two films: one with key frames where x264 puts them (at cuts, and each ten seconds), one with a
key frame at least each two seconds as for streaming. A part is encoded once and repeated. Decoding goes
all the way to the view that the ensemble's towers share, in this process, and includes the file's
hash. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from benchmarks import film
from benchmarks.film import RATE, describe, repeat, write_part
from clipmod_cli.decode.item import decode_item
from clipmod_cli.decode.limits import DecodeOptions, parse_frames
from clipmod_cli.types import Frame, Geometry, Item

GEOMETRY = Geometry(fit="shortest", size=(224, 224), crop=(224, 224))

PART_MINUTES = 2
"""Of film are encoded; what is longer repeats them. Encoding takes longer than all that is measured."""

KEYINTS = {"cuts": 250, "two_seconds": 2 * RATE}
"""Frames between two key frames at most: x264's own default, and what streaming asks for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--dense-minutes", type=int, default=PART_MINUTES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--films", nargs="+", choices=KEYINTS, default=list(KEYINTS))
    parser.add_argument("--height", type=int, default=film.HEIGHT, help="of a film of 16:9, in pixels")
    parser.add_argument("--keep", type=Path, help="a folder for the films, used again if they are there")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    film.WIDTH, film.HEIGHT = round(wanted.height * 8 / 9) * 2, wanted.height
    place = nullcontext(str(wanted.keep)) if wanted.keep else tempfile.TemporaryDirectory()
    with place as folder:
        report = {name: _measure(Path(folder), name, wanted) for name in wanted.films}
    print(json.dumps(report))


def _measure(folder: Path, name: str, wanted: argparse.Namespace) -> dict[str, Any]:
    whole = _film(folder, name, wanted.minutes)
    short = _film(folder, name, wanted.dense_minutes)
    _look(short, "key")  # loads what decoding imports
    return {
        "film": describe(whole),
        "key": _rate(whole, "key", wanted.rounds),
        "auto": _rate(whole, "auto", 1),
        "dense": _rate(short, "dense", 1),
    }


def _film(folder: Path, name: str, minutes: int) -> Path:
    """Return a film of so many minutes; it is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    part_minutes = min(PART_MINUTES, minutes)
    part, path = folder / f"{name}-{part_minutes}.mp4", folder / f"{name}-{minutes}.mp4"
    if not part.exists():
        write_part(part, 60 * part_minutes, KEYINTS[name])
    if not path.exists():
        repeat(part, path, minutes // part_minutes)
    return path


def _rate(path: Path, frames: str, rounds: int) -> dict[str, float]:
    looks = [_look(path, frames) for _ in range(rounds)]
    return {
        "film_seconds_per_cpu_second": round(statistics.median(look[0] for look in looks), 1),
        "film_seconds": looks[0][1],
        "frames_scored": looks[0][2],
    }


def _look(path: Path, frames: str) -> tuple[float, float, int]:
    """Return film seconds a CPU second, the film's length in seconds, and the frames that were taken."""
    options = DecodeOptions(frames=parse_frames(frames))
    begun = time.process_time()
    found = decode_item(Item(source=str(path), index=0), [GEOMETRY], options)
    used = time.process_time() - begun
    last = found[-1]
    if not isinstance(last, Frame):
        raise SystemExit(f"the film cannot be watched: {last}")
    seconds = last.media.duration_s or 0.0
    return seconds / used, seconds, len(found)


if __name__ == "__main__":
    main()
