"""Workers on a Ray cluster: one actor each, which judges the parts that the schedule gives it.

The only importer of Ray. Ray moves names, part numbers and counts; inputs and records go between a node and
the stores, by the node's own credentials.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clipmod_cli.errors import ExitCode, UsageError
from clipmod_cli.install import require_extra
from clipmod_cli.parts.engine.actor import PartActor
from clipmod_cli.parts.engine.drive import Heard

log = logging.getLogger(__name__)

RAY_ADDRESS: Final = "RAY_ADDRESS"
"""Ray's own variable; `ray job submit` sets it for the driver."""

READ_AT_IMPORT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_NUM_REDIS_GET_RETRIES": "1",  # each waits 40 seconds for a cluster that does not answer
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # its default warns that it will change
    "RAY_COLOR_PREFIX": "0",  # what it prints goes into a log
}
"""Ray's own variables, where the user has not set them."""

LOGGED: Final = 300
"""Characters of a message of Ray that go into the log: some are pages long."""

CONTROL: Final = "control"
"""The thread of an actor that takes `stop` while the other judges."""

SUBMIT: Final = "ray job submit --address http://HEAD:8265 -- clipmod scan ... --engine ray --address auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """Which cluster, how many actors, and what each reserves.

    Attributes:
        address: of a cluster; `auto` is the one that this machine belongs to; None starts one on this machine
            that ends with the run.
        minimum: actors to start at once.
        maximum: at most so many; None for as many as the cluster has room for.
        cpus: CPUs of an actor; None for those of the largest node, divided by the actors that its GPUs allow.
        gpus: GPUs of an actor; None for one where the cluster has GPUs.
    """

    address: str | None = None
    minimum: int = 1
    maximum: int | None = None
    cpus: float | None = None
    gpus: float | None = None


@dataclass(frozen=True, slots=True)
class RayRoom:
    """CPUs and GPUs of a node, or of an actor."""

    cpus: float
    gpus: float

    def holds(self, actor: RayRoom) -> int:
        """Return how many actors fit."""
        by_cpus = self.cpus // actor.cpus if actor.cpus else float("inf")
        by_gpus = self.gpus // actor.gpus if actor.gpus else float("inf")
        return int(min(by_cpus, by_gpus))

    def __str__(self) -> str:
        """Return as text: `8 CPUs and 1 GPU`."""
        gpus = f" and {self.gpus:g} GPU{'s' * (self.gpus != 1)}" if self.gpus else ""
        return f"{self.cpus:g} CPU{'s' * (self.cpus != 1)}{gpus}"


def room_of_actor(options: RayOptions, nodes: list[RayRoom]) -> RayRoom:
    """Return what an actor reserves on these nodes."""
    gpus = options.gpus if options.gpus is not None else float(any(node.gpus for node in nodes))
    if options.cpus is not None:
        return RayRoom(options.cpus, gpus)
    largest = max(nodes, key=lambda node: (node.gpus, node.cpus), default=RayRoom(1, 0))
    sharing = max(largest.gpus // gpus, 1) if gpus else 1
    return RayRoom(max(largest.cpus // sharing, 1), gpus)


def check_address(address: str | None) -> str | None:
    """Return the address of the cluster, from the setting or Ray's own variable.

    Raises:
        UsageError: it is one of Ray Client.
    """
    chosen = address if address not in (None, "auto") else os.environ.get(RAY_ADDRESS) or address
    if chosen is not None and chosen.startswith("ray://"):
        raise UsageError(
            f"{chosen}: Ray Client is not supported, as a run would end with its connection. Submit the "
            f"command into the cluster: {SUBMIT}"
        )
    return chosen


def require_ray() -> None:
    """Raise MissingPackageError if Ray is not installed."""
    require_extra("ray", "--engine ray")


class RayCluster:
    """Connects to a cluster, or starts one, and runs the actors of a run on it. Used by one thread.

    Attributes:
        is_own: the cluster was started for this run.
        actor: what each actor reserves.
        last_loss: why an actor was lost, as Ray says it; empty while none was.
    """

    def __init__(self, options: RayOptions, out: str, flags: str) -> None:
        """Connect; `out` and `flags` are those of `PartActor`.

        Raises:
            MissingPackageError: Ray is not installed.
            UsageError: there is no such cluster, or it has no room for an actor.
        """
        require_ray()
        self._arguments = (out, flags, str(Path.cwd()))
        address = check_address(options.address)
        self.is_own = address is None
        self._ray = _connect(address)
        self.last_loss = ""
        self._handles: dict[int, Any] = {}
        self._calls: dict[Any, tuple[int, int | None]] = {}  # the part, None while the models are loaded
        self.actor = room_of_actor(options, self.nodes())
        reserve = self._ray.remote(
            num_cpus=self.actor.cpus,
            num_gpus=self.actor.gpus,
            max_restarts=0,  # the schedule starts another, and counts
            max_task_retries=0,
            concurrency_groups={CONTROL: 1},
        )
        self._class = reserve(PartActor)
        if self.is_own and not self.capacity():
            self.close()
            raise UsageError(f"an actor of {self.actor} does not fit on this machine")

    def nodes(self) -> list[RayRoom]:
        """Return the living nodes."""
        alive = (node["Resources"] for node in self._ray.nodes() if node["Alive"])
        return [RayRoom(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in alive]

    def capacity(self) -> int:
        """Return how many actors the living nodes can hold."""
        return sum(node.holds(self.actor) for node in self.nodes())

    def start(self, worker: int) -> None:
        """Start an actor; it may wait for room."""
        handle = self._handles[worker] = self._class.remote(*self._arguments, max(int(self.actor.cpus), 1))
        self._calls[handle.open.remote()] = (worker, None)

    def give(self, worker: int, part: int) -> None:
        """Let an actor judge a part after those that it has."""
        call = self._handles[worker].judge.remote(part)
        self._calls[call] = (worker, part)

    def end(self, worker: int) -> None:
        """End an actor, whatever it does."""
        self._calls = {call: about for call, about in self._calls.items() if about[0] != worker}
        self._ray.kill(self._handles.pop(worker))

    def stop(self) -> None:
        """Let all actors end what they judge after the batch in flight."""
        for handle in self._handles.values():
            handle.stop.options(concurrency_group=CONTROL).remote()

    def wait(self, timeout_s: float) -> Iterator[Heard]:
        """Yield what actors answered, waiting so long for the first; answers before losses."""
        if not self._calls:
            time.sleep(timeout_s)
            return
        calls = list(self._calls)
        self._ray.wait(calls, num_returns=1, timeout=timeout_s)
        ended, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
        lost: dict[int, tuple[int | None, str]] = {}
        for call in ended:
            worker, part = self._calls.pop(call, (None, None))  # the caller may have ended it meanwhile
            if worker is None:
                continue
            try:
                answer = json.loads(self._ray.get(call))
            except self._ray.exceptions.RayTaskError as error:
                log.debug("worker %d raised", worker, exc_info=error)
                answer = {"host": f"worker {worker}", "error": _last_line(error), "exit_code": ExitCode.BUG}
            except self._ray.exceptions.RayError as error:
                lost.setdefault(worker, (part, reason_of_loss(str(error))))  # it judged the first
                continue
            yield Heard(worker, part, answer)
        for worker, (part, reason) in lost.items():
            self.last_loss = reason
            what = "loaded the models" if part is None else f"judged part {part}"
            log.warning("actor %d was lost while it %s: %s", worker, what, reason)
            if worker in self._handles:
                self.end(worker)
                yield Heard(worker, None, None)

    def close(self) -> None:
        """End all actors, and a cluster that was started for the run."""
        for worker in list(self._handles):
            self.end(worker)
        self._ray.shutdown()


def _connect(address: str | None) -> Any:
    """Return the module of Ray, connected.

    Raises:
        UsageError: there is no such cluster.
    """
    for name, value in READ_AT_IMPORT.items():
        os.environ.setdefault(name, value)
    own: dict[str, Any] = {"include_dashboard": False} if address is None else {}
    if address is None or address.startswith(("127.", "localhost")):
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on Linux too: the loopback address alone
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with _stderr_to_log():
            import ray
            import ray.exceptions

            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **own)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"cannot reach the Ray cluster {address or 'on this machine'}: {_first_line(error)}. The command "
            f"runs on a machine of the cluster; from elsewhere: {SUBMIT}"
        ) from error
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray's own ends the process
    return ray


def reason_of_loss(text: str) -> str:
    """Return why an actor was lost, in one line, from Ray's message: its first line only says that it was.

    Lines of facts begin with a tab; they are left out.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("\t")]
    return " ".join(" ".join(lines[1:] or lines).split())[:LOGGED]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _last_line(error: Exception) -> str:
    """Return the error without its traceback."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


class _ToLog(io.TextIOBase):
    """Takes what Ray prints about its workers into the log."""

    def write(self, text: str) -> int:
        _to_log(text)
        return len(text)


@contextmanager
def _stderr_to_log() -> Iterator[None]:
    """Take what C++ code writes to descriptor 2 into the log while the context lasts."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            written.seek(0)
            for line in written.read().decode(errors="replace").splitlines():
                _to_log(line)


def _to_log(text: str) -> None:
    if text.strip():
        log.debug("ray: %s", text.strip().partition("\n")[0][:LOGGED])


@contextmanager
def ray_cluster(options: RayOptions, out: str, flags: str) -> Iterator[RayCluster]:
    """Give a cluster while the context lasts; what Ray prints goes to the log.

    Raises:
        MissingPackageError: Ray is not installed.
        UsageError: there is no such cluster, or it has no room for an actor.
    """
    with contextlib.redirect_stdout(_ToLog()):
        cluster = RayCluster(options, out, flags)
        try:
            yield cluster
        finally:
            cluster.close()
