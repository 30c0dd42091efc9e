"""What a forward pass takes: open_clip's own module in float32 beside ours in each precision.

    python -m benchmarks.forward [--arch ViT-L-14 ViT-H-14 ViT-g-14] [--batch 8] [--repeats 5]
        [--device auto] [--dtype float32 bfloat16] [--attention cudnn] [--compile] [--json]

The architectures are real and the numbers random. Both sides start from uint8 crops in memory and end with
unit-length embeddings there. They take turns, and the median of all turns counts, so that what else the
machine does meets both; on a CPU the ratio is one of processor times. The peak is the best of some matrix
products by the clock, as in `clipmod bench`: beside other work it is too low. Ends with 1 if an image in a
batch takes over 1.5 times what it takes alone: so it shows when 16-bit weights are copied on every call.
bfloat16 is measured on a CPU without it in hardware only if it is named.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.device.device import Placement, has_fast_bfloat16, place
from clipmod_cli.models.device.machine import measure_peak, name_device
from clipmod_cli.models.open_clip.architecture import RandomState, architecture_of
from clipmod_cli.models.registry import BACKENDS
from clipmod_cli.models.tower.forward import build_tower
from clipmod_cli.models.tower.shape import TowerShape, shape_of, state_of

GUARD = 1.5
"""A batch may take so many times longer for an image than a picture alone; it should take less."""

MEAN = STD = (0.5, 0.5, 0.5)

ATTENTION = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}

Look = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One side's figures; milliseconds an image.

    Attributes:
        ratio: open_clip's time in this run divided by this one's, in batches.
        share: of the rate of a large matrix product in the same precision.
        guard: an image in a batch takes no more than 1.5 times what it takes alone.
    """

    arch: str
    side: str
    dtype: str
    batch_ms: float
    alone_ms: float
    gflop_per_s: float
    share: float
    ratio: float
    guard: bool


def main() -> None:
    wanted = _arguments()
    placement = place(wanted.device, "float32")
    dtypes = wanted.dtype or list(_dtypes(placement))
    peaks = {dtype: measure_peak(placement, dtype) for dtype in dict.fromkeys(["float32", *dtypes])}
    rows = [row for arch in wanted.arch for row in _compare(arch, placement, dtypes, peaks, wanted)]
    if wanted.json:
        print(
            json.dumps({"device": name_device(placement), "peaks": peaks, "rows": [asdict(r) for r in rows]})
        )
    else:
        _print(rows, peaks, name_device(placement))
    sys.exit(0 if all(row.guard for row in rows) else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", nargs="+", default=["ViT-L-14"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", nargs="+", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--attention", choices=ATTENTION, help="the one way to compute attention")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _dtypes(placement: Placement) -> Iterator[str]:
    """Yield the precisions that are worth measuring here."""
    yield "float32"
    if placement.device.type == "cuda" or (placement.device.type == "cpu" and has_fast_bfloat16()):
        yield "bfloat16"
    if placement.device.type != "cpu":
        yield "float16"


def _compare(
    arch: str, placement: Placement, dtypes: list[str], peaks: dict[str, float], wanted: argparse.Namespace
) -> list[Row]:
    """Return the rows of one architecture, open_clip's first."""
    visual, shape = _module(arch, placement.device)
    sides: dict[tuple[str, str], Look] = {("open_clip", "float32"): _plain(visual, placement.device)}
    for dtype in dtypes:
        sides["clipmod", dtype] = build_tower(
            shape,
            state_of(visual),
            mean=MEAN,
            std=STD,
            placement=Placement(placement.device, getattr(torch, dtype), more=placement.more),
            compile=wanted.compile,
        )
    batched, alone = _measure(sides, shape, placement, wanted)
    first = next(iter(sides))
    return [
        Row(
            arch=arch,
            side=side[0],
            dtype=side[1],
            batch_ms=round(batched[side] * 1e3, 2),
            alone_ms=round(alone[side] * 1e3, 2),
            gflop_per_s=round(shape.flops / batched[side] / 1e9, 1),
            share=round(shape.flops / batched[side] / peaks[side[1]], 3),
            ratio=round(batched[first] / batched[side], 2),
            # open_clip's module is only compared with
            guard=side == first or batched[side] <= GUARD * alone[side],
        )
        for side in sides
    ]


def _module(arch: str, device: torch.device) -> tuple[torch.nn.Module, TowerShape]:
    """Return open_clip's module with random numbers on the device, and its shape."""
    visual = architecture_of(
        ModelSpec(backend=BACKENDS["open_clip"], spec=f"open_clip:{arch}", arch=arch, tag="")
    ).visual
    shape = shape_of(visual)
    if shape is None:
        sys.exit(f"{arch} is no standard vision transformer; there is nothing to compare")
    visual = visual.to_empty(device=device).requires_grad_(requires_grad=False)
    numbers = RandomState(shape)
    for name, tensor in state_of(visual).items():
        tensor.copy_(numbers[name])
    return visual, shape


def _plain(visual: torch.nn.Module, device: torch.device) -> Look:
    """Return what a plain loop with open_clip does with a batch."""

    def look(crops: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            pixels = crops.to(device).permute(0, 3, 1, 2).float().div_(255)
            vectors = visual(pixels.sub_(MEAN[0]).div_(STD[0]))
            return torch.nn.functional.normalize(vectors, dim=-1).cpu()

    return look


def _measure(
    sides: dict[tuple[str, str], Look], shape: TowerShape, placement: Placement, wanted: argparse.Namespace
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], float]]:
    """Return the median seconds of an image in a batch, and alone, of each side."""
    size = (shape.image_height, shape.image_width, 3)
    crops = torch.randint(0, 256, (wanted.batch, *size), dtype=torch.uint8)
    medians = []
    for pictures in (crops, crops[:1]):
        seconds: dict[tuple[str, str], list[float]] = {side: [] for side in sides}
        for turn in range(-1, wanted.repeats):  # the first one only warms up
            for side, look in sides.items():
                with nullcontext() if side[0] == "open_clip" else _attention(wanted.attention):
                    taken = _seconds(look, pictures, placement.device)
                if turn >= 0:
                    seconds[side].append(taken / len(pictures))
        medians.append({side: statistics.median(taken) for side, taken in seconds.items()})
    return medians[0], medians[1]


def _seconds(look: Look, pictures: torch.Tensor, device: torch.device) -> float:
    """Return a call's time; on a CPU that of one core, were its threads always at work."""
    if device.type == "cpu":
        begun = time.process_time()
        look(pictures)
        return (time.process_time() - begun) / torch.get_num_threads()
    begun = time.perf_counter()
    look(pictures)
    return time.perf_counter() - begun


def _attention(name: str | None) -> AbstractContextManager[None]:
    return sdpa_kernel(ATTENTION[name]) if name else nullcontext()


def _print(rows: list[Row], peaks: dict[str, float], device: str) -> None:
    print(f"{device}; matrix products: {', '.join(f'{n} {p / 1e9:,.0f} GFLOP/s' for n, p in peaks.items())}")
    print(f"{'':24}{'ms/image':>10}{'alone':>10}{'GFLOP/s':>12}{'of peak':>9}{'ratio':>8}  guard")
    for row in rows:
        name = f"{row.arch} {row.side} {row.dtype}"
        print(
            f"{name:30}{row.batch_ms:10.1f}{row.alone_ms:10.1f}{row.gflop_per_s:12,.0f}{row.share:9.0%}"
            f"{row.ratio:8.2f}  {'ok' if row.guard else 'FAILED'}"
        )


if __name__ == "__main__":
    main()
