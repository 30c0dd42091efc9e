"""What `--early-exit exact` saves, and that it changes no outcome.

    python -m benchmarks.early_exit [--pictures 2000] [--models SPEC --policy FILE] [--threshold X] [--wide X]

Draws pictures of shapes (a third of them two pictures in one, which models are less certain of), scans them
with and without early exit, and compares each decision and each `needs_review`. Prints one JSON object; exits
with 1 if anything differs. Without `--models` the tests' three tiny models judge: how sure they are of
drawn shapes says nothing of real models and photographs, whose share has to be measured on one's own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from tests.end_to_end.command import SHAPES, TINY_ENSEMBLE
from tests.tiny.shapes import labelled

GFLOP = (162, 335, 534)
"""Of ViT-L-14, ViT-H-14 and ViT-g-14 for a picture: what three models in this order would cost."""

SEED = 20_240
OUTCOME = ("final_decision", "needs_review", "status")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--models", default=TINY_ENSEMBLE)
    parser.add_argument("--policy", default=str(SHAPES))
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--wide", type=float, default=1.0, help="stretch pictures to so many times the width")
    wanted = parser.parse_args()
    words = ["--models", wanted.models, "--policy", wanted.policy]
    words += [] if wanted.threshold is None else ["--threshold", str(wanted.threshold)]
    with tempfile.TemporaryDirectory() as folder:
        draw_pictures(Path(folder), wanted.pictures, wanted.wide)
        full, full_s = _scan(folder, [*words, "--early-exit", "off"])
        early, early_s = _scan(folder, [*words, "--early-exit", "exact"])
    differing = differences(full, early)
    found = {"differing": len(differing), **saved(early), "scan_cpu_s": [round(full_s, 1), round(early_s, 1)]}
    print(json.dumps(found, indent=1))
    for one in differing:
        print(one, file=sys.stderr)
    return 1 if differing else 0


def draw_pictures(folder: Path, count: int, wide: float = 1.0) -> None:
    """Write pictures into a folder; every third is two of them, one half through the other."""
    plain = (picture for picture, _ in labelled(count + 1, SEED))
    for number, (picture, other) in enumerate(pairwise(plain)):
        mixed = Image.blend(picture, other.resize(picture.size), 0.35) if number % 3 == 0 else picture
        mixed = mixed.resize((round(mixed.width * wide), mixed.height))
        mixed.save(folder / f"{number:05}.png")


def differences(full: Sequence[dict[str, Any]], early: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for each record whose outcome is not the same in both."""
    return [
        f"{one['source']}: {[one[name] for name in OUTCOME]} and {[other[name] for name in OUTCOME]}"
        for one, other in zip(full, early, strict=True)
        if any(one[name] != other[name] for name in ("source", *OUTCOME))
    ]


def saved(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how often each model was asked, and the share of model calls and of the work that was saved."""
    judged = [one for one in records if one["status"] == "ok"]
    names = max((one["models_used"] for one in judged), key=len)
    asked = Counter(name for one in judged for name in one["models_used"])
    found: dict[str, Any] = {
        "pictures": len(records),
        "nsfw": sum(one["final_decision"] == "NSFW" for one in judged),
        "needs_review": sum(one["needs_review"] for one in judged),
        "asked": {name: asked[name] for name in names},
        "calls_saved": round(1 - asked.total() / (len(names) * len(judged)), 4),
    }
    if len(names) == len(GFLOP):
        spent = sum(cost * asked[name] for cost, name in zip(GFLOP, names, strict=True))
        found["gflop_saved"] = round(1 - spent / (sum(GFLOP) * len(judged)), 4)
    return found


def _scan(folder: str, words: Sequence[str]) -> tuple[list[dict[str, Any]], float]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(
        [
            sys.executable, "-m", "clipmod_cli", "scan", folder, *words, "--no-db", "--offline", "-q",
            "--json",
        ],
        stdout=subprocess.PIPE,
        check=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [json.loads(line) for line in run.stdout.splitlines()], spent_s


if __name__ == "__main__":
    sys.exit(main())
