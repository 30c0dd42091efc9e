"""Where models run and in what precision; the one place that decides both."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from clipmod_cli.errors import SettingsError

CPU_BATCH = 8
"""Larger batches gain nothing on a CPU (the matrices are wide enough) and delay the first record."""

ACCELERATOR_BATCH = 64
"""The smallest batch that saturates a large GPU on the ensemble's towers."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A device and a precision that it can do well."""

    device: torch.device
    dtype: torch.dtype

    @property
    def dtype_name(self) -> str:
        """The precision's name, as `bfloat16`."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def batch_size(self) -> int:
        """How many frames one forward pass takes when the user did not say."""
        return CPU_BATCH if self.device.type == "cpu" else ACCELERATOR_BATCH


def place(device: str, dtype: str) -> Placement:
    """Return the device and precision for the settings `--device` and `--dtype`.

    Raises:
        SettingsError: if the device does not exist here or cannot compute in that precision.
    """
    chosen = _device(device)
    precision = _best_dtype(chosen) if dtype == "auto" else getattr(torch, dtype)
    if chosen.type == "cpu" and precision == torch.float16:
        raise SettingsError("--dtype float16 is not for CPUs; use bfloat16 or float32")
    return Placement(chosen, precision)


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in {"cpu", "cuda", "mps"} or (number and not number.isdigit()):
        raise SettingsError(f"--device {name!r} is none of auto, cpu, cuda, cuda:N, mps")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise SettingsError("--device mps: this machine has no Metal device that torch can use")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise SettingsError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices here")
    return torch.device(name)


def _best_dtype(device: torch.device) -> torch.dtype:
    if device.type == "mps":
        return torch.float16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if has_fast_bfloat16() else torch.float32


def has_fast_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware (AMX or AVX512-BF16).

    Elsewhere bfloat16 is emulated and slower than float32.
    """
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))
