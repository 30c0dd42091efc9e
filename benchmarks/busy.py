"""How much of a run its device computes, where the device is a clock: what of the rest clipmod spends.

    python -m benchmarks.busy [--ms 5,10,20] [--pictures 1500] [--size 320x240] [--batch 32] [--rounds 3]

Three text-image models of the ensemble's widths on a stand-in for a GPU: a thread that takes so many
milliseconds a picture for all three together, one batch after the other, and computes nothing. All else is
what `clipmod scan` does: distinct JPEGs are read and decoded, their crops stacked, looked up and kept in a
cache, judged, and written with a store. Busy is the share of the time from the first batch to the last:
`ahead` as it is, `in_turn` if each model had to wait for the results of the one before it. `line_ms` is what
a picture took where the device took no time; a device that takes less cannot be kept busy.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipmod_cli.banks.bank import NO_BANKS
from clipmod_cli.cli import run as one_run
from clipmod_cli.cli.output import open_output
from clipmod_cli.cli.signals import StopRequest
from clipmod_cli.cli.terminal.stdout import RealStdout
from clipmod_cli.ensemble.cache import EvidenceCache
from clipmod_cli.ensemble.cache_file import EvidenceFile
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.judge.policy.reading import load_policy
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.models.device.crops import CropBatches
from clipmod_cli.models.seam import ForwardPass
from clipmod_cli.runs.loaded import LoadedRun
from clipmod_cli.settings.definition import Settings
from clipmod_cli.sources.base import Rules
from clipmod_cli.sources.registry import expand
from clipmod_cli.types import Embedding, Frame, Geometry

GEOMETRY = Geometry(fit="shortest", size=(224, 224), crop=(224, 224))
WIDTHS = {"ViT-L-14": (768, 0.40), "ViT-H-14": (1024, 0.35), "ViT-g-14": (1024, 0.25)}
MOST = 10_000_000_000


class StandIn:
    """A device that takes its time, in a thread of its own, in the order of what it is given.

    Attributes:
        begun: when it began for the first time, in seconds.
        ended: when it ended for the last time.
        busy: for how long it computed.
    """

    def __init__(self) -> None:
        self.begun = self.ended = self.busy = 0.0
        self._work: queue.Queue[tuple[float, threading.Event] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._compute, name="stand-in", daemon=True)
        self._thread.start()

    def give(self, seconds: float) -> threading.Event:
        """Give it work, and return what is set once that is done."""
        done = threading.Event()
        self._work.put((seconds, done))
        return done

    def close(self) -> None:
        """End the thread."""
        self._work.put(None)
        self._thread.join()

    def _compute(self) -> None:
        while (work := self._work.get()) is not None:
            seconds, done = work
            begun = time.perf_counter()
            self.begun = self.begun or begun
            time.sleep(seconds)
            self.ended = time.perf_counter()
            self.busy += self.ended - begun
            done.set()


@dataclass
class Sleeper:
    """A text-image model on the stand-in.

    Attributes:
        width: numbers in an embedding.
        each_s: seconds a picture.
    """

    name: str
    width: int
    each_s: float
    stand_in: StandIn
    crops: CropBatches
    is_asynchronous: bool
    spec: str = "sleeper"
    revision: str = "1"
    geometry: Geometry = GEOMETRY
    logit_scale: float = 100.0
    kind: Literal["text-image"] = "text-image"
    device: str = "stand-in"
    dtype: str = "float32"
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def prepare(self, frames: Sequence[Frame]) -> None:
        """Stack the crops of a batch."""
        self.crops.take(frames, self.geometry)

    def submit(self, frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
        """Give the device its work, and return what waits for vectors that mean nothing."""
        self.crops.take(frames, self.geometry)
        done = self.stand_in.give(self.each_s * len(frames))

        def wait() -> ForwardPass:
            done.wait()
            vectors = self.embed([""] * len(frames))
            return ForwardPass([Embedding(vector=vector) for vector in vectors], self.each_s * len(frames))

        return wait

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector of unit length for each."""
        drawn: NDArray[np.float32] = self._rng.standard_normal((len(prompts), self.width), dtype=np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ms", default="5,10,20", help="milliseconds a picture that the device takes")
    parser.add_argument("--pictures", type=int, default=1500)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    speeds = [float(one) for one in wanted.ms.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder, "pictures")
        _draw(pictures, wanted.pictures, wanted.size)
        rounds = [_round(pictures, wanted.batch, speeds) for _ in range(wanted.rounds)]
    report = {
        "line_ms": round(statistics.median(one["line_ms"][0.0] for one in rounds), 2),
        **{name: _medians([one[name] for one in rounds]) for name in ("ahead", "in_turn")},
        "batch": wanted.batch,
        "rounds": wanted.rounds,
        "cores": os.cpu_count(),
    }
    print(json.dumps(report))


def _medians(rounds: Sequence[dict[float, float]]) -> dict[float, float]:
    return {ms: round(statistics.median(one[ms] for one in rounds), 3) for ms in rounds[0]}


def _round(pictures: Path, batch: int, speeds: Sequence[float]) -> dict[str, dict[float, float]]:
    return {
        "line_ms": {0.0: _run(pictures, batch, 0.0, asynchronous=True)[1]},
        "ahead": {ms: _run(pictures, batch, ms, asynchronous=True)[0] for ms in speeds},
        "in_turn": {ms: _run(pictures, batch, ms, asynchronous=False)[0] for ms in speeds},
    }


def _draw(folder: Path, count: int, size: str) -> None:
    folder.mkdir()
    width, height = map(int, size.split("x"))
    rng = np.random.default_rng(0)
    for number in range(count):
        small = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((width, height)).save(folder / f"{number:06}.jpg", quality=80)


def _run(pictures: Path, batch: int, ms: float, *, asynchronous: bool) -> tuple[float, float]:
    """Return how busy the device was, and the milliseconds of the clock that a picture took."""
    with tempfile.TemporaryDirectory() as folder, closing(StandIn()) as device:
        settings = Settings(
            output=f"{folder}/out.jsonl", quiet=True, db=f"{folder}/store.duckdb", policy="nsfw"
        )
        members = list(_members(device, ms, asynchronous=asynchronous))
        with (
            closing(EvidenceFile(Path(folder, "evidence.sqlite"), MOST)) as kept,
            open_output(settings, RealStdout(descriptor=2, is_terminal=False)) as output,
        ):
            ensemble = Ensemble(members, batch_size=batch, cache=EvidenceCache(kept))
            criteria = prepare(ensemble, load_policy("nsfw"), threshold=0.5)
            inputs = one_run.Inputs(items=lambda _: expand([str(pictures)], Rules()), walk_ahead=False)
            loaded = LoadedRun.of(settings, ensemble, criteria, NO_BANKS)
            one_run.Run(inputs, output, loaded, StopRequest()).judge_all()
        written = Path(settings.output or "").read_bytes().count(b'"final_decision":"')
    count = sum(1 for _ in pictures.iterdir())
    if written != count:
        raise SystemExit(f"{count - written} pictures were lost")
    took = device.ended - device.begun
    return device.busy / took, took / count * 1000


def _members(device: StandIn, ms: float, *, asynchronous: bool) -> Iterator[Member]:
    crops = CropBatches()
    for name, (width, weight) in WIDTHS.items():
        each_s = ms * weight / 1000
        model = Sleeper(name, width, each_s, device, crops, asynchronous, spec=f"sleeper:{name}")
        yield Member(model, weight)


if __name__ == "__main__":
    main()
