"""The forward pass of a vision transformer of open_clip, from uint8 crops to unit-length embeddings.

Plain contiguous linears and torch's attention, in the precision that was asked for, whatever autocast
is around it. Which towers these are is `models.tower_shape`; their parts are `models.tower_parts`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch

from clipmod_cli.errors import SettingsError
from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.device.transfer import DeviceResult, send, submit_work
from clipmod_cli.models.tower.layers import (
    Numerics,
    StemAndHead,
    TransformerBlock,
    make_block,
    make_stem_and_head,
)
from clipmod_cli.models.tower.precision import choose_precision, reference_pictures
from clipmod_cli.models.tower.shape import TowerShape, check_state, shape_of, state_of
from clipmod_cli.models.tower.split import SplitTower

__all__ = ["SplitTower", "TowerShape", "VisionTower", "build_tower", "shape_of", "state_of"]

Step = Callable[[TransformerBlock, torch.Tensor], torch.Tensor]

RESIDUALS = {torch.float16: torch.float16}
"""What the residual stream is in, where it is not float32: with bfloat16 half of the error would come
from it, float16 keeps enough digits, and half the memory traffic is worth having on a GPU."""


class VisionTower:
    """A tower on one device: uint8 crops `(B, H, W, 3)` to unit-length float32 `(B, d)`.

    Attributes:
        shape: of the tower.
        device: where it computes.
        dtype: what it computes in.
    """

    def __init__(self, ends: StemAndHead, blocks: Sequence[TransformerBlock], step: Step) -> None:
        self.shape = ends.shape
        self.device = ends.numerics.device
        self.dtype = ends.numerics.dtype
        self._ends, self._blocks, self._step = ends, list(blocks), step

    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        """Return the crops' embeddings, on the CPU.

        Raises:
            ValueError: if the crops have another size than the tower's.
        """
        return self.submit(crops)().result

    def submit(self, crops: torch.Tensor) -> Callable[[], DeviceResult]:
        """Begin, and return what waits for the embeddings; a CUDA device computes meanwhile.

        Crops that are pinned or on the device already must not change before the embeddings are there.

        Raises:
            ValueError: if the crops have another size than the tower's.
        """
        wanted = (self.shape.image_height, self.shape.image_width, 3)
        if tuple(crops.shape[1:]) != wanted or crops.dtype != torch.uint8:
            raise ValueError(
                f"crops are {crops.dtype} {tuple(crops.shape[1:])}; the tower takes uint8 {wanted}"
            )
        with plain(self.device):
            sent = send(crops, self.device)
            return submit_work(self.device, lambda: embed(self._ends, self._blocks, sent, self._step))


def embed(
    ends: StemAndHead,
    blocks: Iterable[TransformerBlock],
    crops: torch.Tensor,
    step: Step = TransformerBlock.__call__,
) -> torch.Tensor:
    """Return the unit-length embeddings of crops that are on the device already."""
    tokens = ends.begin(crops)
    for block in blocks:
        tokens = step(block, tokens)
    return ends.end(tokens)


@contextmanager
def plain(device: torch.device) -> Iterator[None]:
    """Keep gradients, and what autocast is around us, out of a computation."""
    # With autocast on a CPU 16-bit linears are copied on each call, up to 150 times slower.
    kind = device.type if device.type in {"cuda", "mps"} else "cpu"
    with torch.inference_mode(), torch.autocast(kind, enabled=False):
        yield


def build_tower(
    shape: TowerShape,
    state: Mapping[str, torch.Tensor],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    placement: Placement,
    compile: bool = False,  # noqa: A002 — the setting's name
) -> VisionTower | SplitTower:
    """Return the tower on all devices of a placement, in the first precision that its check approves.

    Tensors are converted one by one, and none that was converted is kept.

    Raises:
        ValueError: if the state is not of this shape.
        SettingsError: if compiling does not work on this machine, or its device computes something else
            than the CPU.
    """
    check_state(shape, state)
    pictures = reference_pictures(shape.image_height, shape.image_width)

    def build(dtype: torch.dtype, device: torch.device = placement.device) -> VisionTower:
        numerics = _numerics(device, dtype, packable=not compile)
        ends = make_stem_and_head(shape, state, numerics, mean, std)
        blocks = [make_block(shape, state, numerics, i) for i in range(shape.layers)]
        tower = VisionTower(ends, blocks, compiled(_step) if compile else _step)
        if compile:
            warm_up(tower, shape.image_height, shape.image_width)
        return tower

    def reference(seen: torch.Tensor, device: torch.device) -> torch.Tensor:
        numerics = Numerics(device=device, dtype=torch.float32)
        with plain(device):
            ends = make_stem_and_head(shape, state, numerics, mean, std)
            blocks = (make_block(shape, state, numerics, i) for i in range(shape.layers))
            return embed(ends, blocks, seen.to(device)).cpu()

    first = choose_precision(
        placement.candidates, build=build, pictures=pictures, reference=reference, device=placement.device
    )
    if not placement.more:
        return first
    return SplitTower([first, *(build(first.dtype, device) for device in placement.more)])


def _step(block: TransformerBlock, tokens: torch.Tensor) -> torch.Tensor:
    return block(tokens)


def _numerics(device: torch.device, dtype: torch.dtype, *, packable: bool) -> Numerics:
    return Numerics(
        device=device,
        dtype=dtype,
        residual=RESIDUALS.get(dtype, torch.float32),
        packed=packable and device.type == "cpu" and dtype == torch.bfloat16,
    )


WARM_UP = (2, 3, 1)
"""Batches before the first real one. After two sizes torch compiles for all of them but 1."""

VARIANTS = 64
"""Of one tower's compiled step: inner blocks and the last one, for each kind of batch, and again where
torch guards on something else (a thread's settings). Past torch's own limit of 8 it would go on uncompiled
without a word."""

_numbers = itertools.count()


def compiled(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a plain function compiled, apart from all others; nothing is compiled before it is first called.

    torch keeps what it compiled, and which numbers vary from call to call, by a function's code. Each tower
    has its own, or the widths and heads of a second one would have torch compile for widths of any size.
    """
    from torch._dynamo import config

    out = torch.compile(_apart(step))

    def call(*given: Any) -> Any:
        # Of the thread that calls: torch's settings are each thread's own since 2.15. (An argument for it
        # came with that version too.)
        if config.recompile_limit < VARIANTS:
            config.recompile_limit = VARIANTS
        return out(*given)

    return call


def _apart(step: Any) -> Callable[..., Any]:
    """Return the same function with code of its own; torch tells code apart by name and line."""
    name = f"{step.__name__}_{next(_numbers)}"
    code = step.__code__.replace(co_name=name)
    return FunctionType(code, step.__globals__, name, step.__defaults__, step.__closure__)


def warm_up(tower: Callable[[torch.Tensor], torch.Tensor], height: int, width: int) -> None:
    """Have a tower compile for all sizes of batches.

    Raises:
        SettingsError: if this machine lacks what torch.compile needs.
    """
    for size in WARM_UP:
        try:
            tower(torch.zeros(size, height, width, 3, dtype=torch.uint8))
        except torch.OutOfMemoryError:
            raise
        except Exception as e:
            first = str(e).strip().partition("\n")[0]
            raise SettingsError(
                f"--compile does not work here: {first}. torch.compile needs a C++ compiler for a CPU and "
                "Triton for a GPU; leave --compile out"
            ) from e
