"""Facts about the CPU: its name and its instruction sets. Does not import torch."""

from __future__ import annotations

import platform
from pathlib import Path

CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_tile")
"""Instruction sets for matrix products."""


def name_cpu() -> str:
    """Return the CPU's name."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_flags() -> list[str]:
    """Return which of CPU_FLAGS the CPU has; nothing where /proc is missing."""
    flags = _cpuinfo("flags").split()
    return [flag for flag in CPU_FLAGS if flag in flags]


def _cpuinfo(field: str) -> str:
    """Return a field of the first core in /proc/cpuinfo, empty if it is missing."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == field), "")
