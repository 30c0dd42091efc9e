"""Crops of a batch in one array, stacked once for all models that want the same view.

A large batch is some tens of megabytes, and a device waits while they are put together. So a batch may be
prepared in another thread while the one before it is looked at. Knows no model.
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
from clipmod_cli.types import Frame, View

KEPT: Final = 6
"""Stacks that are kept: of the batch that is looked at and of two that wait, for two views."""

_Place: TypeAlias = tuple[View, tuple[int, ...]]


@dataclass(slots=True)
class CropBatches:
    """The batches that were stacked last. For any number of threads.

    Attributes:
        pinned: stack them where a CUDA device can fetch them by itself.
    """

    pinned: bool = False
    _kept: OrderedDict[_Place, tuple[Sequence[Frame], torch.Tensor]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, placement: Placement) -> Self:
        """Return an empty one for models on this device."""
        return cls(pinned=placement.device.type == "cuda")

    def take(self, frames: Sequence[Frame], view: View) -> torch.Tensor:
        """Return the frames' crops, uint8 `(B, H, W, 3)`; nobody may change them.

        Raises:
            ValueError: if they are of different sizes.
        """
        place = (view, tuple(map(id, frames)))  # an identity holds as long as the frame is kept beside it
        with self._lock:
            if place in self._kept:
                return self._kept[place][1]
        stacked = self._stack([frame.views[view] for frame in frames])
        with self._lock:
            self._kept[place] = (tuple(frames), stacked)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return stacked

    def _stack(self, crops: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        if not self.pinned:
            return torch.from_numpy(np.stack(crops))
        stacked = torch.empty((len(crops), *crops[0].shape), dtype=torch.uint8, pin_memory=True)
        np.stack(crops, out=stacked.numpy())
        return stacked
