"""The forward pass of a vision transformer of open_clip, from uint8 crops to unit-length embeddings.

Plain contiguous linears and torch's attention, in the precision that was asked for, whatever autocast
is around it. Which towers these are is `models.tower_shape`; their parts are `models.tower_parts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from clipmod_cli.models.device import Placement
from clipmod_cli.models.precision import choose_precision, reference_pictures
from clipmod_cli.models.tower_compile import compiled, warm_up
from clipmod_cli.models.tower_parts import Block, Ends, Numerics, make_block, make_ends
from clipmod_cli.models.tower_shape import TowerShape, check_state, shape_of, state_of
from clipmod_cli.models.tower_split import SplitTower
from clipmod_cli.models.transfer import Computed, begin, send

__all__ = ["SplitTower", "TowerShape", "VisionTower", "build_tower", "shape_of", "state_of"]

Step = Callable[[Block, torch.Tensor], torch.Tensor]

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

    def __init__(self, ends: Ends, blocks: Sequence[Block], step: Step) -> None:
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

    def submit(self, crops: torch.Tensor) -> Callable[[], Computed]:
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
            return begin(self.device, lambda: embed(self._ends, self._blocks, sent, self._step))


def embed(
    ends: Ends, blocks: Iterable[Block], crops: torch.Tensor, step: Step = Block.__call__
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
        ends = make_ends(shape, state, numerics, mean, std)
        blocks = [make_block(shape, state, numerics, i) for i in range(shape.layers)]
        tower = VisionTower(ends, blocks, compiled(_step) if compile else _step)
        if compile:
            warm_up(tower, shape.image_height, shape.image_width)
        return tower

    def reference(seen: torch.Tensor, device: torch.device) -> torch.Tensor:
        numerics = Numerics(device=device, dtype=torch.float32)
        with plain(device):
            ends = make_ends(shape, state, numerics, mean, std)
            blocks = (make_block(shape, state, numerics, i) for i in range(shape.layers))
            return embed(ends, blocks, seen.to(device)).cpu()

    first = choose_precision(
        placement.candidates, build=build, pictures=pictures, reference=reference, device=placement.device
    )
    if not placement.more:
        return first
    return SplitTower([first, *(build(first.dtype, device) for device in placement.more)])


def _step(block: Block, tokens: torch.Tensor) -> torch.Tensor:
    return block(tokens)


def _numerics(device: torch.device, dtype: torch.dtype, *, packable: bool) -> Numerics:
    return Numerics(
        device=device,
        dtype=dtype,
        residual=RESIDUALS.get(dtype, torch.float32),
        packed=packable and device.type == "cpu" and dtype == torch.bfloat16,
    )
