"""Selects the devices that models run on, their precision and the default batch size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from clipmod_cli.cores import usable_cores
from clipmod_cli.errors import SettingsError
from clipmod_cli.models.device.names import check_device_name, number_of

CPU_BATCH = 8
"""Larger batches are not faster on a CPU and delay the first record."""

ACCELERATOR_BATCH = 64
"""The smallest batch that saturates a large GPU on the ensemble's towers."""

LARGEST_BATCH = 256
"""Larger batches are not faster on a GPU and delay the first record."""

BATCH_MEMORY = 16 << 30
"""Bytes of device memory for each 64 pictures. The largest tower needs some 10 MB a picture and the
ensemble's weights 4 GB; the rest is for other programs and architectures."""

BFLOAT16_MAJOR = 8
"""The first major compute capability with bfloat16 in hardware (Ampere); older devices emulate it."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Devices and precision of a model.

    Attributes:
        device: the first one; models that use one device run there.
        dtype: the precision of models that do not check their results.
        checked: precisions to try for towers that check their results, best first; empty for `dtype` only.
        more: further devices of the same kind, for towers that split a batch.
    """

    device: torch.device
    dtype: torch.dtype
    checked: tuple[torch.dtype, ...] = ()
    more: tuple[torch.device, ...] = ()

    @property
    def dtype_name(self) -> str:
        """The precision's name, as `bfloat16`."""
        return dtype_name(self.dtype)

    @property
    def candidates(self) -> tuple[torch.dtype, ...]:
        """The precisions to try for a tower that checks its results, best first."""
        return self.checked or (self.dtype,)

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """All devices, the first one first."""
        return (self.device, *self.more)

    @property
    def batch_size(self) -> int:
        """The default number of frames in a forward pass.

        On CUDA 64 for each 16 GiB of a device's memory (rounded, since cards of 16 GB report less), at
        least 64 and at most 256, multiplied by the number of devices.
        """
        if self.device.type == "cuda":
            memory = [torch.cuda.get_device_properties(one).total_memory for one in self.devices]
            return batch_for(min(memory)) * len(memory)
        return CPU_BATCH if self.device.type == "cpu" else ACCELERATOR_BATCH

    def share_of(self, count: int) -> int:
        """Return how many pictures of a batch a model on the first device computes at once.

        A batch is sized for all devices together.
        """
        return max(1, math.ceil(count / len(self.devices)))

    def with_dtype(self, dtype: torch.dtype) -> Placement:
        """Return this placement with the precision that was selected for a tower."""
        return replace(self, dtype=dtype, checked=())


def dtype_name(dtype: torch.dtype) -> str:
    """Return a precision's name, as `bfloat16`."""
    return str(dtype).removeprefix("torch.")


def batch_for(memory: int) -> int:
    """Return the batch size for a device with `memory` bytes."""
    return max(ACCELERATOR_BATCH, min(LARGEST_BATCH, ACCELERATOR_BATCH * round(memory / BATCH_MEMORY)))


def place(device: str, dtype: str) -> Placement:
    """Return devices and precision for the settings `--device` and `--dtype`.

    `cuda` and `auto` use all CUDA devices, `cuda:N` one of them.

    Raises:
        SettingsError: the device does not exist or does not support the precision.
    """
    chosen = _device(device)
    if usable_cores() < torch.get_num_threads():  # torch knows the affinity, not the quota of a container
        torch.set_num_threads(usable_cores())
    more: tuple[torch.device, ...] = ()
    if str(chosen) == "cuda" and (count := torch.cuda.device_count()) > 1:
        chosen, *others = (torch.device("cuda", i) for i in range(count))
        more = tuple(others)
    if dtype == "auto":
        precision, checked = _auto_dtypes((chosen, *more))
        return Placement(chosen, precision, checked, more)
    precision = getattr(torch, dtype)
    if chosen.type == "cpu" and precision == torch.float16:
        raise SettingsError("--dtype float16 is not supported on a CPU; use bfloat16 or float32")
    return Placement(chosen, precision, more=more)


def _device(name: str) -> torch.device:
    check_device_name(name)
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise SettingsError("--device mps: torch finds no Metal device on this machine; use --device cpu")
    if name.startswith("cuda") and number_of(name) >= torch.cuda.device_count():
        raise SettingsError(
            f"--device {name}: torch finds {torch.cuda.device_count()} CUDA devices on this machine"
        )
    return torch.device(name)


def _auto_dtypes(devices: Sequence[torch.device]) -> tuple[torch.dtype, tuple[torch.dtype, ...]]:
    """Return the precision of models that do not check their results, and those to try for towers that do.

    float16 is 8 times as precise as bfloat16, but can overflow.
    """
    if devices[0].type == "cpu":
        return torch.bfloat16 if has_fast_bfloat16() else torch.float32, ()
    if devices[0].type == "cuda" and all(
        torch.cuda.get_device_properties(one).major >= BFLOAT16_MAJOR for one in devices
    ):
        return torch.bfloat16, (torch.float16, torch.bfloat16, torch.float32)
    return torch.float16, (torch.float16, torch.float32)


def has_fast_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware (AMX or AVX512-BF16).

    Elsewhere bfloat16 is emulated and slower than float32.
    """
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


@dataclass(kw_only=True)
class PlacedModel:
    """What models on a placement tell of it (`clipmod_cli.models.seam.VisionModel`)."""

    placement: Placement
    device: str = field(init=False)
    dtype: str = field(init=False)
    is_asynchronous: bool = field(init=False)

    def __post_init__(self) -> None:
        self.device, self.dtype = str(self.placement.device), self.placement.dtype_name
        self.is_asynchronous = self.placement.device.type == "cuda"
