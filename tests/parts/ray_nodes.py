"""A Ray cluster of two logical nodes on the loopback address, in a process of its own.

`python -m tests.parts.ray_nodes FOLDER` starts it and prints its address; lines on stdin are commands: `kill`
ends the second node as a power cut would, `add` starts one, and the end of stdin ends the cluster.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

STARTED_S = 120
ENDED_S = 30

VARIABLES = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback addresses, on Linux too
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


class RayNodes:
    """The running cluster.

    Attributes:
        address: for `--address`.
        folder: with its logs.
    """

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.folder = folder
        self._process = process
        self.address = self._read()

    def kill_node(self) -> None:
        """End the second node with all its actors."""
        self._tell("kill")

    def add_node(self) -> None:
        """Start a second node again."""
        self._tell("add")

    def actors(self) -> list[psutil.Process]:
        """Return the processes of actors that have begun to judge."""
        return [one for one in self.processes() if _title(one).startswith("ray::PartActor.judge")]

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the cluster, which name its folder or descend from one that does."""
        named = [one for one in psutil.process_iter() if str(self.folder) in _title(one)]
        found = {one.pid: one for one in named}
        for one in named:
            with contextlib.suppress(psutil.NoSuchProcess):
                found |= {child.pid: child for child in one.children(recursive=True)}
        return [one for one in found.values() if one.pid != self._process.pid]

    def close(self) -> None:
        """End the cluster, and whatever is left of it."""
        before = self.processes()
        if self._process.stdin:
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDED_S)
        self._process.kill()
        self._process.wait()
        for one in {*before, *self.processes()}:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()

    def _tell(self, command: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        assert self._read() == command

    def _read(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextmanager
def ray_nodes(folder: Path, environment: Mapping[str, str]) -> Iterator[RayNodes]:
    """Give a cluster while the context lasts."""
    (folder / "ray").mkdir(parents=True)  # Ray writes the address there, and does not make it
    with subprocess.Popen(
        [sys.executable, "-m", "tests.parts.ray_nodes", str(folder)],
        env={**environment, **VARIABLES, "RAY_TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        nodes = RayNodes(process, folder)
        try:
            yield nodes
        finally:
            nodes.close()


def main(folder: str) -> None:
    """Run the cluster until stdin ends."""
    from ray.cluster_utils import Cluster

    own: dict[str, Any] = {"num_cpus": 1, "node_ip_address": "127.0.0.1"}
    cluster: Any = Cluster(
        initialize_head=True,
        connect=False,
        head_node_args={**own, "include_dashboard": False, "temp_dir": folder},
    )
    second = cluster.add_node(**own)
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "kill":
            cluster.remove_node(second, allow_graceful=False)
        elif line.strip() == "add":
            second = cluster.add_node(**own)
        print(line.strip(), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
