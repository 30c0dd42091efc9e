"""Sessions of onnxruntime: on a CUDA device if one is wanted and works, else on the CPU."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from clipmod_cli.cores import usable_cores
from clipmod_cli.errors import MissingPackageError, SettingsError
from clipmod_cli.install import install_command, is_installed
from clipmod_cli.models.device.names import number_of
from clipmod_cli.models.freed_memory import release_freed_memory

log = logging.getLogger(__name__)

THREADS = usable_cores()
"""Pictures computed in parallel on a CPU, one core each. onnxruntime's own threads share one picture
instead: they gain 1.6x from two cores, wait by spinning, and so take time from the decoders."""

BATCH = max(8, 2 * THREADS)
"""Two rounds of all threads; larger batches gain nothing on a CPU and delay the first record."""

CUDA = "CUDAExecutionProvider"

NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
"""Read by onnxruntime when it is imported; its own function of that purpose comes too late."""

Graph: TypeAlias = Path | bytes
"""An ONNX file, or its contents."""


class Opened(NamedTuple):
    """A session, ready.

    Attributes:
        session: onnxruntime's.
        device: where it computes, as `cpu` or `cuda:0`.
        threads: which compute one picture each on the CPU; None on a CUDA device.
    """

    session: Any
    device: str
    threads: ThreadPoolExecutor | None


def open_session(graph: Graph, *, device: str, name: str, alone: bool = False) -> Opened:
    """Return a session on the device, or on the CPU if onnxruntime has no such device.

    Args:
        graph: what it computes.
        device: where it should run.
        name: what messages call the model, as `the detector`.
        alone: no other model judges, so a device that was named must be available.

    Raises:
        SettingsError: if it is alone and the device is not available.
        MissingPackageError: likewise, and torch, which could use the device, is not installed.
    """
    # Since 1.31 it reports to its maker over the network, and keeps a number for this machine in the home.
    os.environ.setdefault(NO_TELEMETRY, "1")
    cuda = device.startswith("cuda") or device == "auto"
    session = _open_on_cuda(graph, number_of(device), name) if cuda else None
    if session is not None:
        return Opened(session, f"cuda:{number_of(device)}", None)
    if alone and device not in {"auto", "cpu"}:
        if not is_installed("clip"):
            raise MissingPackageError(
                f"--device {device}: {name} runs on the CPU alone here (--device cpu). Models that use other "
                f"devices need the extra clip: {install_command('clip')}"
            )
        raise SettingsError(
            f"--device {device}: the onnxruntime here cannot run {name} on it; use --device cpu or auto"
        )
    return Opened(_open_on_cpu(graph), "cpu", ThreadPoolExecutor(THREADS, thread_name_prefix="clipmod-onnx"))


def _open_on_cuda(graph: Graph, number: int, name: str) -> Any:
    """Return a session on this CUDA device; None if onnxruntime has none or cannot use it."""
    import onnxruntime

    if CUDA not in onnxruntime.get_available_providers():
        return None
    # Its default tries all algorithms on the first batch of each size, for seconds; this one asks cuDNN.
    how = {"device_id": number, "cudnn_conv_algo_search": "HEURISTIC"}
    try:
        session = onnxruntime.InferenceSession(
            _given(graph), _options(), providers=[(CUDA, how), "CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as e:  # noqa: BLE001 — each library that it may lack has errors of its own
        log.warning("%s does not run on CUDA device %d: %s", name, number, str(e).partition("\n")[0])
        return None
    if CUDA in session.get_providers():
        return session
    log.warning("%s does not run on CUDA device %d: onnxruntime lacks libraries for it", name, number)
    return None


def _open_on_cpu(graph: Graph) -> Any:
    import onnxruntime

    options = _options()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False  # it keeps memory for a next picture, and saves no time
    session = onnxruntime.InferenceSession(_given(graph), options, providers=["CPUExecutionProvider"])
    release_freed_memory()
    return session


def _given(graph: Graph) -> str | bytes:
    return str(graph) if isinstance(graph, Path) else graph


def _options() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: it warns on stderr of hosts it cannot probe
    return options
