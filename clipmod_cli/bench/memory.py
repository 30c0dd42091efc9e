"""Resident memory of this process, as far as the system tells."""

from __future__ import annotations

import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident_mb() -> float:
    """Return what is resident now, in MB; 0 where the system does not tell."""
    return _from_status("VmRSS") or 0.0


def peak_mb() -> float:
    """Return the most that was ever resident, in MB; 0 where the system does not tell."""
    return _from_status("VmHWM") or _from_usage()


def _from_status(name: str) -> float | None:
    try:
        lines = STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{name}:")), None)


def _from_usage() -> float:
    if sys.platform == "win32":
        return 0.0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6
