"""Early exit on the real architectures with a share that is replayed, beside the plain loop of open_clip.

    python -m benchmarks.replay [--models SPEC] [--dtype auto|float32|bfloat16] [--share 0.85]
                                [--screen-share 0.8] [--ways off,exit,screen,int8] [--pictures 8]
                                [--size 1280x960] [--repeats 3] [--json]

Random weights decide nothing, so which pictures exit is not measured here but given: `--share` of them as
Safe after the first model. All else is real: JPEG files, decoding, every view of `--coverage full`, batches,
towers, records.

    loop        open_clip's README with all models, the middle of each picture, float32, one after the other
    off         clipmod, all models see all views
    exit        clipmod, `--share` of the pictures exit after the first model
    screen      clipmod, open_nsfw first: `--screen-share` exit after it, the others as in `exit`
    int8        the same with the first model in 8 bits, only in float32 on a CPU

Sides are run in turn; a ratio is the median of the ratios of the rounds. `arithmetic` is the share of the
time that the models need for these views alone, in batches that are ready, measured in the same process.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peer_loops import Tower, readme, tower_of
from clipmod_cli.assemble import fetcher
from clipmod_cli.bench.models import BenchModels, PromptlessModel, with_bench_policy
from clipmod_cli.bench.pictures import draw_pictures, items_of, write_pictures
from clipmod_cli.decode.limits import DecodeOptions
from clipmod_cli.decode.stage import Decoders, decode_with
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.judge.criteria import WeightedReader
from clipmod_cli.judge.exits.rule import CalibratedExit
from clipmod_cli.judge.prepare import reader_of
from clipmod_cli.models.backend import OPEN_CLIP, OPEN_CLIP_INT8, LoadContext, ModelSpec
from clipmod_cli.models.device import machine
from clipmod_cli.models.device.device import Placement, place
from clipmod_cli.models.device.processor import cpu_flags
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.models.open_clip import architecture
from clipmod_cli.models.seam import Model
from clipmod_cli.models.specs import ENSEMBLE, parse_models, parse_spec
from clipmod_cli.output.jsonl import open_file
from clipmod_cli.pipeline import Options, default_workers, run, start_decoders
from clipmod_cli.records import RunFacts, to_line, to_record
from clipmod_cli.results import Settled
from clipmod_cli.types import Evidence, Failure, Frame, Item, Seen

GOLDEN = 0.618_033_988_749_895
"""Multiples of it modulo 1 are spread evenly, so a share holds in any run of pictures."""

WARM = 8
"""Pictures that warm each side up."""

REPEATS_BARE = 5

FACTS = RunFacts(policy="bench", policy_hash="00000000", threshold=0.5, run_key="bench", run_id="bench")


class Side(Protocol):
    """One way to judge pictures."""

    def __call__(self, paths: Sequence[Path], /) -> int:
        """Judge some or all of them, and return how many."""
        ...


@dataclass
class ReplayedExit:
    """Lets given shares of the pictures exit after models; stands in the place of a `CalibratedExit`."""

    shares: Mapping[str, float]

    def can_skip_rest(self, frames: Sequence[Frame], seen: Mapping[str, Sequence[Seen]]) -> NDArray[np.bool_]:
        """Return bool `(frames,)`, whether the picture of each exits after the last of these models."""
        return np.array([self._exits(frame.item, list(seen)[-1]) for frame in frames], np.bool_)

    def _exits(self, item: Item, stage: str) -> bool:
        if stage not in self.shares:
            return False
        shares = list(self.shares.values())[: list(self.shares).index(stage) + 1]
        left = math.prod(1 - share for share in shares)  # each is of those that the stages before it left
        return item.index * GOLDEN % 1.0 >= left

    def watch(self, evidence: Iterable[Evidence | Settled]) -> Iterable[Evidence | Settled]:
        """Return the evidence as it is: nothing is learnt from it."""
        return evidence


class Shown(Counter[str]):
    """Counts the views that each model was shown, in the place of what keeps the evidence."""

    def add(self, seen: Evidence | Failure) -> None:
        """Count one view."""
        if isinstance(seen, Evidence):
            self.update(seen.seen.keys())

    def add_recheck(self, *_: object) -> None:
        """Do nothing: stills are not checked again."""

    def finish(self, _: Item) -> None:
        """Do nothing."""


@dataclass
class Loop:
    """open_clip's own loop over the first `count` pictures."""

    towers: Sequence[Tower]
    count: int
    placement: Placement

    def __call__(self, paths: Sequence[Path], /) -> int:
        """Judge the pictures."""
        for path in paths[: self.count]:
            readme(self.towers, path, self.placement.device)
        return len(paths[: self.count])


@dataclass
class Line:
    """clipmod from files to records; no shares ask all models."""

    models: BenchModels
    shares: Mapping[str, float]
    decoders: Decoders
    folder: Path
    shown: Mapping[str, int] = field(default_factory=dict)

    @property
    def all_models(self) -> list[Model]:
        """The screens and the members."""
        ensemble = self.models.ensemble
        return [*ensemble.screens, *(member.model for member in ensemble.members)]

    def __call__(self, paths: Sequence[Path], /) -> int:
        """Judge the pictures."""
        options = Options(decoders=self.decoders, infer_ahead=True)
        if self.shares:
            options = replace(options, exits=cast("CalibratedExit", ReplayedExit(self.shares)))
        output = self.folder / "records.jsonl"
        sink = open_file(output)
        shown = Shown()
        try:
            items = items_of(paths, len(paths))
            judged = run(items, self.models.ensemble, self.models.criteria, options, keep=shown)
            with closing(judged) as results:
                for result in results:
                    if isinstance(result, Failure):
                        raise SystemExit(f"{result.item.source}: {result.message}")
                    sink.write(to_line(to_record(result, FACTS)))
        finally:
            sink.close()
            output.unlink()
        self.shown = shown
        return len(paths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=ENSEMBLE)
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"])
    parser.add_argument("--share", type=float, default=0.85)
    parser.add_argument("--screen-share", type=float, default=0.8)
    parser.add_argument("--pictures", type=int, default=8, help="of the loop; clipmod has four times as many")
    parser.add_argument("--size", default="1280x960")
    parser.add_argument("--ways", default="off,exit,screen,int8")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    width, height = map(int, wanted.size.split("x"))
    placement = place("auto", wanted.dtype)
    with tempfile.TemporaryDirectory(prefix="clipmod-replay-") as name, ExitStack() as stack:
        folder = Path(name)
        paths = write_pictures(folder, draw_pictures((width, height)), 4 * wanted.pictures + WARM)
        members = parse_models([wanted.models])
        if isinstance(members, str):
            parser.error("--models needs specs of open_clip models")
        towers = [tower_of(member.spec, placement) for member in members]
        decoders = stack.enter_context(start_decoders(Options(isolate=True)))
        screens: dict[str, Model | None] = {"exit": None, **_screens(members[0].spec, placement)}
        lines = {"off": Line(_models(towers, placement, None), {}, decoders, folder)}
        for way, screen in screens.items():
            shares = _shares(wanted, towers[0].model.name, screen)
            lines[way] = Line(_models(towers, placement, screen), shares, decoders, folder)
        sides: dict[str, Side] = {"loop": Loop(towers, wanted.pictures, placement), **lines}
        sides = {
            name: side for name, side in sides.items() if name == "loop" or name in wanted.ways.split(",")
        }
        for side in sides.values():
            side(paths[:WARM])
        frames = _frames(lines["screen"].models, decoders, paths, placement.batch_size)
        models = {model.name: model for line in lines.values() for model in line.all_models}
        bare_ms = {name: _bare_ms(model, frames) for name, model in models.items()}
        pictures = paths[WARM:]
        rounds = [_round(sides, pictures, turned=number % 2 == 1) for number in range(wanted.repeats)]
    figures = _figures(lines, rounds, bare_ms, len(pictures))
    if wanted.json:
        print(json.dumps({"machine": _machine(placement), "bare_ms": bare_ms, "ways": figures}))
    else:
        print(_table(placement, bare_ms, figures))


def _models(towers: Sequence[Tower], placement: Placement, screen: Model | None) -> BenchModels:
    """Return the models, with a screen before them if there is one; their weights decide nothing."""
    members = [Member(tower.model, 1.0 / len(towers)) for tower in towers]
    ensemble = Ensemble(members=members, dtype=placement.dtype_name, batch_size=placement.batch_size)
    models = with_bench_policy(ensemble, placement)
    if screen is None:
        return models
    reader = WeightedReader(name=screen.name, weight=1.0, reader=reader_of(screen, models.criteria.policy))
    return replace(
        models,
        ensemble=replace(models.ensemble, screens=[screen]),
        criteria=replace(models.criteria, screens=[reader]),
    )


def _screens(first: ModelSpec, placement: Placement) -> dict[str, Model]:
    """Return the light screen, and the first model in 8 bits where bfloat16 is no faster."""
    light = parse_spec("open_nsfw")
    context = LoadContext(device="cpu", fetch=fetcher(Hub.from_environment(offline=True)))
    screens = {"screen": light.backend.load(light, light.short_name, context)}
    if placement.dtype == torch.float32 and placement.device.type == "cpu":
        spec = parse_spec(first.spec.replace(OPEN_CLIP, OPEN_CLIP_INT8, 1))
        in_int8 = placement.with_dtype(torch.int8)
        screens["int8"] = PromptlessModel(architecture.load(spec, name=spec.spec, placement=in_int8))
    return screens


def _shares(wanted: argparse.Namespace, first: str, screen: Model | None) -> dict[str, float]:
    """Return the shares that exit after a screen, and then after the first model."""
    before = {} if screen is None else {screen.name: wanted.screen_share}
    return {**before, first: wanted.share}


def _frames(models: BenchModels, decoders: Decoders, paths: Sequence[Path], count: int) -> list[Frame]:
    """Return some views that are ready for every model."""
    decoded = decode_with(decoders, items_of(paths, count), models.ensemble.geometries, DecodeOptions())
    return [frame for frame in decoded if isinstance(frame, Frame)][:count]


def _bare_ms(model: Model, frames: Sequence[Frame]) -> float:
    """Return the milliseconds of a view in a batch of views that are ready."""
    times = []
    for _ in range(REPEATS_BARE):
        model.prepare(frames)
        begun = time.perf_counter()
        model.submit(frames)()
        times.append((time.perf_counter() - begun) * 1000 / len(frames))
    return statistics.median(times)


def _round(sides: Mapping[str, Side], paths: Sequence[Path], *, turned: bool) -> dict[str, float]:
    """Return the milliseconds a picture of each side, run in turn."""
    took = {}
    for name in reversed(list(sides)) if turned else sides:
        begun = time.perf_counter()
        count = sides[name](paths)
        took[name] = (time.perf_counter() - begun) * 1000 / count
        print(f"{name}: {took[name]:,.0f} ms a picture", file=sys.stderr)
    return took


def _figures(
    lines: Mapping[str, Line], rounds: Sequence[Mapping[str, float]], bare_ms: Mapping[str, float], count: int
) -> dict[str, dict[str, object]]:
    """Return the figures of each side."""
    figures: dict[str, dict[str, object]] = {}
    for name in rounds[0]:
        ms = statistics.median(one[name] for one in rounds)
        ratios = [one["loop"] / one[name] for one in rounds]
        figures[name] = {"ms": ms, "ratio": statistics.median(ratios), "from": min(ratios), "to": max(ratios)}
        if name in lines:
            shown = lines[name].shown
            figures[name]["views"] = {model: round(views / count, 3) for model, views in shown.items()}
            figures[name]["arithmetic"] = sum(bare_ms[m] * views for m, views in shown.items()) / count / ms
    return figures


def _machine(placement: Placement) -> dict[str, object]:
    return {
        "device": machine.name_device(placement),
        "cores": default_workers(),
        "instructions": cpu_flags(),
        "dtype": placement.dtype_name,
        "torch": machine.torch_version(),
    }


def _table(
    placement: Placement, bare_ms: Mapping[str, float], figures: Mapping[str, Mapping[str, Any]]
) -> str:
    facts = _machine(placement)
    flags = " ".join(cpu_flags())
    bare = ", ".join(f"{name} {ms:.3g}" for name, ms in bare_ms.items())
    where = (
        f"{facts['device']}, {facts['cores']} cores ({flags}), torch {facts['torch']}, {facts['dtype']}; "
        f"milliseconds a view alone: {bare}."
    )
    head = "| way | ms a picture | as fast as the loop | lowest, highest | views a picture | arithmetic |"
    lines = [
        where,
        "",
        "```sh",
        " ".join(["python -m benchmarks.replay", *sys.argv[1:]]),
        "```",
        "",
        head,
        "|---|---|---|---|---|---|",
    ]
    for name, one in figures.items():
        shown = ", ".join(f"{model} {views:.2f}" for model, views in one.get("views", {}).items())
        share = f"{one['arithmetic']:.0%}" if "arithmetic" in one else ""
        lines.append(
            f"| {name} | {one['ms']:,.0f} | {one['ratio']:.2f}x | {one['from']:.2f}x, {one['to']:.2f}x "
            f"| {shown} | {share} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
