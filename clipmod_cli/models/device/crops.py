"""Stacks the crops of a batch into one tensor, once for all models with the same view.

Another thread can stack a batch (tens of megabytes) while the one before it is computed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from clipmod_cli.models.device.device import Placement
from clipmod_cli.types import Frame, Geometry

MAX_STACKS: Final = 6
"""In the cache: of the batch that is computed and of two that wait, for two views."""

_Key: TypeAlias = tuple[Geometry, tuple[int, ...]]


@dataclass(slots=True)
class CropBatches:
    """A cache of the last stacked batches; thread-safe.

    Attributes:
        pinned: stack into pinned memory, for asynchronous copies to CUDA.
    """

    pinned: bool = False
    _stacks: OrderedDict[_Key, tuple[Sequence[Frame], torch.Tensor]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, placement: Placement) -> Self:
        """Return an empty cache for models on these devices."""
        return cls(pinned=placement.device.type == "cuda")

    def take(self, frames: Sequence[Frame], geometry: Geometry) -> torch.Tensor:
        """Return the frames' crops, uint8 `(B, H, W, 3)`, read-only.

        Raises:
            ValueError: they have different sizes.
        """
        key = (geometry, tuple(map(id, frames)))  # ids are valid because the cache holds the frames
        with self._lock:
            if key in self._stacks:
                return self._stacks[key][1]
        stacked = self._stack([frame.inputs[geometry] for frame in frames])
        with self._lock:
            self._stacks[key] = (tuple(frames), stacked)
            while len(self._stacks) > MAX_STACKS:
                self._stacks.popitem(last=False)
        return stacked

    def _stack(self, crops: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        if not self.pinned:
            return torch.from_numpy(np.stack(crops))
        stacked = torch.empty((len(crops), *crops[0].shape), dtype=torch.uint8, pin_memory=True)
        np.stack(crops, out=stacked.numpy())
        return stacked
