"""What a session shares: a server that decoding workers are forked from, the cores, hypothesis' settings."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

# Laws are about values: how long an example takes depends on what else the machine does.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

MANY = 300
"""Tests from which on it pays to have the server import everything, which takes it some seconds."""

ENGINES = ("clipmod_cli.decode.item", "torch", "torchvision.transforms.v2", "cv2", "av")
"""What workers import in the end. A server that has it hands it on; else each worker of each test would
import it again, since the server keeps what the first one wanted."""


def pytest_configure() -> None:
    """Undo what a session inherits: ignored signals, no bytecode files, and a thread for each core.

    Where no bytecode may be written, as in many containers, each command of a test would compile all modules.
    `nohup` and background jobs of a shell ignore SIGHUP or SIGINT. Processes inherit that, clipmod leaves an
    ignored signal ignored, and tests that send one would wait for nothing.
    """
    for name, handler in (("SIGHUP", signal.SIG_DFL), ("SIGINT", signal.default_int_handler)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name cases with binary content by their argument and number.

    Their bytes may hold the time, as gzip's do; then pytest-xdist's workers would not agree on the tests.
    """
    is_binary = isinstance(val, bytes) and not (val.isascii() and val.decode("ascii").isprintable())
    return argname if is_binary else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the server of decoding workers; it imports while the first tests run."""
    if len(session.items) < MANY or "forkserver" not in multiprocessing.get_all_start_methods():
        return
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload(["clipmod_cli.decode.workers.child", *ENGINES])
    forkserver.ensure_running()
