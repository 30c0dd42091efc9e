"""How many threads compute: the cores of the affinity, and no more than the control group grants."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clipmod_cli import cores
from clipmod_cli.pipeline import Options, default_workers


def _machine(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),  # a container
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),  # the root group has no such file
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2.0),  # a group above
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "200000 100000"}, 0.5),
        ("0::/not/mounted\n", {"cpu.max": "300000 100000"}, 3.0),  # a path outside of the container
        (
            "4:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n",
            {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            4.0,
        ),
        ("4:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("nonsense", {"cpu.max": "100000 100000"}, None),
        ("0::/\n", {"cpu.max": "nonsense"}, None),
    ],
)
def test_the_quota_of_a_control_group(
    tmp_path: Path, cgroup: str, files: dict[str, str], quota: float | None
) -> None:
    assert cores.cpu_quota(_machine(tmp_path, cgroup, files)) == quota


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert cores.cpu_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("affinity", "quota", "usable"),
    [(8, None, 8), (8, 1.5, 2), (8, 0.2, 1), (2, 16.0, 2), (1, None, 1)],
)
def test_threads_are_as_many_as_cores_in_hand(
    monkeypatch: pytest.MonkeyPatch, affinity: int, quota: float | None, usable: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    cores.usable_cores.cache_clear()
    try:
        assert cores.usable_cores() == usable
        assert default_workers() == usable
        assert Options().workers == usable
    finally:
        cores.usable_cores.cache_clear()


def test_torch_starts_no_more_threads_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the thread in which models compute."""
    torch = pytest.importorskip("torch")
    from clipmod_cli.models.device import device

    before = torch.get_num_threads()
    torch.set_num_threads(4)
    monkeypatch.setattr(device, "usable_cores", lambda: 2)
    try:
        device.place("cpu", "float32")
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(torch.get_num_threads).result() == 2
        torch.set_num_threads(1)  # what a user chose, by OMP_NUM_THREADS, stays
        device.place("cpu", "float32")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
