"""clipmod beside what people use today: the same pictures, weights and machine, in turn, in one run.

    python -m benchmarks.peers [--pictures N] [--repeats R] [--only ensemble,vit-l,hf,nudenet,clip-retrieval]
                               [--size 1280x853] [--clip-retrieval PYTHON] [--json]

Weights are random numbers (from a seed) in the real architectures, and are the same on both sides, so
nothing is downloaded. Each pair is measured in turn `--repeats` times; a ratio is the median of the
ratios of the rounds. Models are loaded and warm and workers started before anything is timed; of a peer
that starts anew in each run, a run over one picture is taken off. clipmod goes the way that `clipmod scan`
goes, from JPEG files to JSON Lines, with its default settings, but without a store and a cache: no
picture was seen before.

    ensemble        open_clip with three models, one picture after the other, each decoded once
    vit-l           the loop of open_clip's README with ViT-L-14: Image.open, preprocess, encode_image
    hf              transformers' pipeline("image-classification") with a ViT-base, a file a call
    nudenet         NudeDetector.detect, a file a call
    clip-retrieval  its own command with ViT-L-14, where it is installed: it wants other versions of nearly
                    everything, so name the interpreter of an environment of its own with --clip-retrieval

Prints a table in Markdown, or one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import peer_loops
from clipmod_cli.bench.pictures import draw_pictures, write_pictures
from clipmod_cli.models import nudenet
from clipmod_cli.models.device import machine
from clipmod_cli.models.device.device import place
from clipmod_cli.models.device.processor import cpu_flags
from clipmod_cli.pipeline import default_workers

PICTURES = {"ensemble": 4, "vit-l": 8, "hf": 32, "nudenet": 96, "clip-retrieval": 8}
"""Some tens of seconds a side on two cores; with a GPU a hundred times as many."""

ON_CUDA = 100

FEW = 4
"""Pictures that warm a peer up, which looks at one after the other."""

Side = Callable[[Sequence[Path]], None]
Pair = AbstractContextManager[tuple[Side, Side]]


@dataclass(frozen=True)
class Outcome:
    """One comparison.

    Attributes:
        ratio: how many times as fast clipmod is, median of the rounds; None where the peer did not run.
    """

    name: str
    peer: str
    pictures: int
    peer_ms: float | None = None
    clipmod_ms: float | None = None
    ratio: float | None = None
    lowest: float | None = None
    highest: float | None = None
    note: str = ""


PAIRS: dict[str, tuple[str, Callable[[Path], Pair]]] = {
    "ensemble": ("open_clip, three models in a loop", peer_loops.ensemble),
    "vit-l": ("open_clip's README, ViT-L-14", peer_loops.vit_l),
    "hf": ("transformers.pipeline, ViT-base", peer_loops.classifier),
    "nudenet": ("NudeDetector.detect", peer_loops.detector),
    "clip-retrieval": ("clip-retrieval, ViT-L-14", peer_loops.retrieval),
}
NEEDS = {"hf": "transformers", "nudenet": "nudenet"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, help="of each run; default by pair")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=",".join(PAIRS), help="pairs, separated by commas")
    parser.add_argument("--size", default="1280x853")
    parser.add_argument("--clip-retrieval", metavar="PYTHON", default=sys.executable)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    names = wanted.only.split(",")
    if unknown := sorted(set(names) - set(PAIRS)):
        parser.error(f"--only takes {', '.join(PAIRS)}; not {', '.join(unknown)}")
    width, height = map(int, wanted.size.split("x"))
    peer_loops.RETRIEVAL[:] = [wanted.clip_retrieval]
    warnings.simplefilter("ignore")
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="clipmod-peers-") as folder:
        drawn = draw_pictures((width, height))
        for name in names:
            count = wanted.pictures or PICTURES[name] * (ON_CUDA if _placement().device.type == "cuda" else 1)
            (place := Path(folder) / name).mkdir()
            paths = write_pictures(place, drawn, max(count, _enough_to_warm()))
            outcomes.append(_compare(name, paths, count, wanted.repeats))
            print(f"{name}: {_shown(outcomes[-1])}", file=sys.stderr)
            gc.collect()
    print(_as_json(outcomes) if wanted.json else _as_table(outcomes, wanted.repeats, wanted.size))


def _compare(name: str, written: Sequence[Path], count: int, repeats: int) -> Outcome:
    peer, pair = PAIRS[name]
    warm, paths = written[: _enough_to_warm()], written[:count]
    if not _is_installed(name):
        return Outcome(name, peer, len(paths), note="not installed")
    rounds: list[tuple[float, float]] = []
    with ExitStack() as stack:
        theirs, ours = stack.enter_context(pair(written[0].parent))
        ours(warm)
        theirs(paths[:1] if name in peer_loops.STARTS_ANEW else warm[:FEW])
        for number in range(repeats):
            # who goes first changes, so that a machine that slows down slows both
            order = (theirs, ours) if number % 2 == 0 else (ours, theirs)
            took = {side: _time(side, paths) / len(paths) for side in order}
            if name in peer_loops.STARTS_ANEW:
                took[theirs] = _without_start(theirs, paths, took[theirs])
            rounds.append((took[theirs], took[ours]))
    ratios = [peer_s / own_s for peer_s, own_s in rounds]
    return Outcome(
        name,
        peer,
        len(paths),
        peer_ms=statistics.median(peer_s for peer_s, _ in rounds) * 1000,
        clipmod_ms=statistics.median(own_s for _, own_s in rounds) * 1000,
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
    )


def _is_installed(name: str) -> bool:
    if name == "clip-retrieval":
        return peer_loops.has_retrieval()
    return name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None


def _time(side: Side, paths: Sequence[Path]) -> float:
    begun = time.perf_counter()
    side(paths)
    return time.perf_counter() - begun


def _without_start(side: Side, paths: Sequence[Path], each_s: float) -> float:
    """Return the seconds of a picture in a run that took `each_s` a picture, its start left out."""
    if len(paths) < 2:
        raise SystemExit("what starts anew in each run needs 2 pictures at least")
    return (each_s * len(paths) - _time(side, paths[:1])) / (len(paths) - 1)


def _enough_to_warm() -> int:
    """Return how many pictures give a whole batch to the models, and some to each decoding worker."""
    return max(_placement().batch_size, nudenet.BATCH, 2 * default_workers())


def _placement() -> peer_loops.Placement:
    return place("auto", "auto")


def _machine() -> dict[str, object]:
    placement = _placement()
    return {
        "device": machine.name_device(placement),
        "cores": default_workers(),
        "instructions": cpu_flags(),
        "dtype": placement.dtype_name,
        "torch": machine.torch_version(),
    }


def _as_json(outcomes: Sequence[Outcome]) -> str:
    return json.dumps({"machine": _machine(), "pairs": [asdict(one) for one in outcomes]})


def _as_table(outcomes: Sequence[Outcome], repeats: int, size: str) -> str:
    facts = _machine()
    flags = " ".join(str(flag) for flag in cpu_flags())
    where = (
        f"{facts['device']}, {facts['cores']} cores ({flags}), torch {facts['torch']}, "
        f"{facts['dtype']}; {size} JPEGs, medians of {repeats} rounds."
    )
    lines = [
        where,
        "",
        "```sh",
        " ".join(["python -m benchmarks.peers", *sys.argv[1:]]),
        "```",
        "",
        "| peer | its ms an image | clipmod's | as fast | lowest and highest round | pictures |",
        "|---|---|---|---|---|---|",
    ]
    lines.extend(
        f"| {one.peer} | {_ms(one.peer_ms)} | {_ms(one.clipmod_ms)} | {_times(one.ratio)} | "
        f"{_times(one.lowest)}, {_times(one.highest)} | {one.note or one.pictures} |"
        for one in outcomes
    )
    return "\n".join(lines)


def _shown(one: Outcome) -> str:
    return one.note or f"{_ms(one.peer_ms)} ms, {_ms(one.clipmod_ms)} ms, {_times(one.ratio)}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"


if __name__ == "__main__":
    main()
