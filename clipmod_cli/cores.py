"""The cores that this process may use: by its affinity and the quota of its control group (containers)."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

_ROOT = Path("/")


@cache
def usable_cores() -> int:
    """Return how many threads can compute at once: at least 1, read once for a process.

    A container with `--cpus 2` on a large machine may run on all of its cores, but is stopped for the rest of
    each period once two of them have been used up: more threads than the quota wait for each other.
    """
    by_affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return by_affinity if quota is None else max(1, min(by_affinity, math.ceil(quota)))


def cpu_quota(root: Path = _ROOT) -> float | None:
    """Return the cores that the control groups of this process grant; None without a limit.

    Every group above counts. Linux has `cpu.max` in version 2, and `cpu.cfs_quota_us` in version 1.

    Args:
        root: the folder that holds `proc` and `sys`.
    """
    quotas = [
        quota
        for group in _groups(root)
        for folder in (group, *group.parents)
        if (quota := _quota_of(folder)) is not None
    ]
    return min(quotas, default=None)


def _groups(root: Path) -> list[Path]:
    """Return the folders of this process's group; a container sees its own group as the topmost."""
    mounted = root / "sys/fs/cgroup"
    groups = []
    lines = _read(root / "proc/self/cgroup").splitlines()  # 0::/PATH, or N:cpu,cpuacct:/PATH
    for _, controllers, path in (parts for line in lines if len(parts := line.split(":", 2)) == 3):
        if not controllers:
            groups += [mounted / path.lstrip("/"), mounted]
        elif "cpu" in controllers.split(","):
            groups += [mounted / "cpu" / path.lstrip("/"), mounted / "cpu"]
    return groups


def _quota_of(group: Path) -> float | None:
    words = _read(group / "cpu.max").split() or [
        _read(group / "cpu.cfs_quota_us").strip(),
        _read(group / "cpu.cfs_period_us").strip(),
    ]
    try:
        quota, period = map(float, words)
    except ValueError:  # `max`, no such file, or not that many words
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
