"""The forward pass of open_clip's vision transformer, from uint8 crops to unit-length embeddings.

Contiguous linears and torch's attention; an outer autocast is disabled. Supported towers: `tower.shape`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType
from typing import Any

import torch

from clipmod_cli.errors import SettingsError
from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.device.transfer import DeviceResult, inference, send, submit_work
from clipmod_cli.models.tower.layers import (
    Numerics,
    StemAndHead,
    TransformerBlock,
    make_block,
    make_stem_and_head,
)
from clipmod_cli.models.tower.model import ImageTower, SplitTower
from clipmod_cli.models.tower.precision import choose_precision, reference_pictures
from clipmod_cli.models.tower.shape import TowerShape, check_state

Step = Callable[[TransformerBlock, torch.Tensor], torch.Tensor]

RESIDUALS = {torch.float16: torch.float16}
"""Precision of the residual stream by that of the tower, float32 for others: in bfloat16 the stream would
add half of the whole error, float16 keeps enough digits and halves memory traffic on a GPU."""


class VisionTower(ImageTower):
    """A tower on one device: uint8 crops `(B, H, W, 3)` to unit-length float32 `(B, d)`.

    Attributes:
        shape: of the tower.
        device: where it computes.
    """

    def __init__(self, stem_and_head: StemAndHead, blocks: Sequence[TransformerBlock], step: Step) -> None:
        self.shape = stem_and_head.shape
        self.device = stem_and_head.numerics.device
        self.dtype = torch.int8 if stem_and_head.numerics.int8 else stem_and_head.numerics.dtype
        self._stem_and_head, self._blocks, self._step = stem_and_head, list(blocks), step

    def submit(self, crops: torch.Tensor, /) -> Callable[[], DeviceResult]:
        """Submit the crops and return a function that waits for their embeddings.

        Pinned crops and crops on the device must not change before the embeddings are read.

        Raises:
            ValueError: the crops have another size than the tower's.
        """
        expected = (self.shape.image_height, self.shape.image_width, 3)
        if tuple(crops.shape[1:]) != expected or crops.dtype != torch.uint8:
            raise ValueError(
                f"crops are {crops.dtype} {tuple(crops.shape[1:])}; the tower takes uint8 {expected}"
            )
        with inference(self.device):
            sent = send(crops, self.device)
            return submit_work(
                self.device, lambda: embed(self._stem_and_head, self._blocks, sent, self._step)
            )


def embed(
    stem_and_head: StemAndHead,
    blocks: Iterable[TransformerBlock],
    crops: torch.Tensor,
    step: Step = TransformerBlock.__call__,
) -> torch.Tensor:
    """Return the unit-length embeddings of crops on the device, float32 `(B, d)`."""
    tokens = stem_and_head.stem(crops)
    for block in blocks:
        tokens = step(block, tokens)
    return stem_and_head.head(tokens)


def build_tower(
    shape: TowerShape,
    state: Mapping[str, torch.Tensor],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    placement: Placement,
    compile: bool = False,  # noqa: A002 — the setting's name
) -> VisionTower | SplitTower:
    """Return the tower on all devices of a placement, in the first precision that passes its check.

    Tensors are converted one by one; `state` may load each when it is read.

    Raises:
        ValueError: `state` is not of this shape.
        SettingsError: compiling does not work on this machine, or the device's results differ from the CPU's.
    """
    check_state(shape, state)
    pictures = reference_pictures(shape.image_height, shape.image_width)

    def build(dtype: torch.dtype, device: torch.device = placement.device) -> VisionTower:
        numerics = _numerics(device, dtype, packable=not compile)
        stem_and_head = make_stem_and_head(shape, state, numerics, mean, std)
        blocks = [make_block(shape, state, numerics, i) for i in range(shape.layers)]
        tower = VisionTower(stem_and_head, blocks, compiled(_step) if compile else _step)
        if compile:
            warm_up(tower, shape.image_height, shape.image_width)
        return tower

    def reference(crops: torch.Tensor, device: torch.device) -> torch.Tensor:
        numerics = Numerics(device=device, dtype=torch.float32)
        with inference(device):
            stem_and_head = make_stem_and_head(shape, state, numerics, mean, std)
            blocks = (make_block(shape, state, numerics, i) for i in range(shape.layers))
            return embed(stem_and_head, blocks, crops.to(device)).cpu()

    first = choose_precision(
        placement.candidates, build=build, pictures=pictures, reference=reference, device=placement.device
    )
    if not placement.more:
        return first
    return SplitTower([first, *(build(first.dtype, device) for device in placement.more)])


def _step(block: TransformerBlock, tokens: torch.Tensor) -> torch.Tensor:
    return block(tokens)


def _numerics(device: torch.device, dtype: torch.dtype, *, packable: bool) -> Numerics:
    if dtype == torch.int8:
        return Numerics(device=device, dtype=torch.float32, int8=True)
    return Numerics(
        device=device,
        dtype=dtype,
        residual=RESIDUALS.get(dtype, torch.float32),
        packed=packable and device.type == "cpu" and dtype == torch.bfloat16,
    )


WARM_UP = (2, 3, 1)
"""Batch sizes computed before the first real batch. After two sizes torch compiles for all others but 1."""

VARIANTS = 64
"""Limit of compiled variants of one tower's step: inner blocks and the last one, for each kind of batch and
each guard of torch (a thread's settings). Past torch's own limit of 8 it silently runs uncompiled code."""

_counter = itertools.count()


def compiled(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a plain function compiled independently of others, at its first call.

    torch caches compiled code and the numbers that vary between calls by code object. Each tower has its own:
    otherwise a second tower's widths and heads would make torch compile for widths of any size.
    """
    from torch._dynamo import config

    out = torch.compile(_copy_with_own_code(step))

    def call(*args: Any) -> Any:
        # Here, in the calling thread: torch's settings are per thread since 2.15.
        if config.recompile_limit < VARIANTS:
            config.recompile_limit = VARIANTS
        return out(*args)

    return call


def _copy_with_own_code(step: Any) -> Callable[..., Any]:
    """Return the same function with another name in its code; torch identifies code by name and line."""
    name = f"{step.__name__}_{next(_counter)}"
    code = step.__code__.replace(co_name=name)
    return FunctionType(code, step.__globals__, name, step.__defaults__, step.__closure__)


def warm_up(tower: Callable[[torch.Tensor], torch.Tensor], height: int, width: int) -> None:
    """Compile a tower for all batch sizes.

    Raises:
        SettingsError: this machine lacks what torch.compile needs.
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
