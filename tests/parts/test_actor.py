"""What reaches a node, which cores its process takes, and what an actor reserves; without an engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from clipmod_cli.errors import UsageError
from clipmod_cli.parts.engine.actor import flags_of
from clipmod_cli.parts.engine.hosts import shared_hosts
from clipmod_cli.parts.engine.ray import RayOptions, RayRoom, check_address, reason_of_loss, room_of_actor
from clipmod_cli.parts.plan import PlannedInput, write_plan
from clipmod_cli.parts.run_file import Generation
from clipmod_cli.parts.store import LocalStore
from clipmod_cli.settings.definition import Settings, option_of
from clipmod_cli.settings.reading import Resolved, resolve
from clipmod_cli.sources.base import SourceInput
from tests.parts.test_plan import run_of
from tests.setting_values import sample_of


def test_a_node_gets_what_decides_how_an_input_is_judged_and_no_secret() -> None:
    given = {f.name: sample_of(f.name) for f in fields(Settings)} | {"header": ("Authorization: s3cr3t",)}
    everything = Resolved(
        settings=replace(Settings(), **given), origins=dict.fromkeys(given, "flag"), file=None
    )
    flags = json.loads(flags_of(everything))
    assert {"models", "frames", "device", "workers", "record"} <= set(flags)
    assert not {"header", "output", "db", "log_file", "engine", "address", "sources"} & set(flags)
    assert not [name for name in flags if option_of(name).group == "secret"]
    assert "s3cr3t" not in json.dumps(flags)


def test_a_node_resolves_the_same_settings() -> None:
    given = {
        "models": ["open_nsfw=0.5", "owen-s=0.5"],
        "classes": "a cat, a dog",
        "unsafe": "a dog",
        "early_exit": "calibrated",
        "risk": "0.01",
        "frames": "max=3",
    }
    here = resolve(given)
    there = resolve(json.loads(flags_of(here)))
    assert there.settings == here.settings


def test_a_nodes_own_variables_count_where_the_driver_said_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = json.loads(flags_of(resolve({"models": ["open_nsfw"]})))
    monkeypatch.setenv("CLIPMOD_DEVICE", "cuda:1")
    monkeypatch.setenv("CLIPMOD_MODELS", "owen-s")
    settings = resolve(flags).settings
    assert (settings.device, settings.models) == ("cuda:1", ("open_nsfw",))


CORES = """
import os, sys
from clipmod_cli.parts.engine.actor import keep_to_cores
keep_to_cores(int(sys.argv[1]))
print(sorted(os.sched_getaffinity(0)), flush=True)
sys.stdin.read()
"""


def start_with_cores(environment: dict[str, str]) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", CORES, "1"]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, env=environment, stdin=pipe, stdout=pipe, text=True)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
@pytest.mark.skipif(os.cpu_count() == 1, reason="needs two cores")
def test_processes_of_one_node_take_different_cores(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    own = sorted(os.sched_getaffinity(0))
    with start_with_cores(environment) as one, start_with_cores(environment) as two:
        taken = [json.loads(process.stdout.readline()) for process in (one, two) if process.stdout]
        assert sorted(core for cores in taken for core in cores) == own[:2]
        one.communicate("")
        two.communicate("")
    alone = subprocess.run(
        [sys.executable, "-c", CORES, str(len(own))],
        env=environment,
        input="",
        capture_output=True,
        text=True,
    )
    assert json.loads(alone.stdout) == own


@pytest.mark.parametrize(
    ("options", "nodes", "actor", "capacity"),
    [
        (RayOptions(), [(8, 0), (8, 0)], (8, 0), 2),
        (RayOptions(), [(0, 0), (64, 8)], (8, 1), 8),
        (RayOptions(), [(0, 0)], (1, 0), 0),
        (RayOptions(), [], (1, 0), 0),
        (RayOptions(cpus=4), [(8, 0), (6, 0)], (4, 0), 3),
        (RayOptions(gpus=0.5), [(16, 1)], (8, 0.5), 2),
        (RayOptions(gpus=0), [(16, 2)], (16, 0), 1),
        (RayOptions(gpus=2, cpus=1), [(16, 4), (16, 1)], (1, 2), 2),
    ],
)
def test_what_an_actor_reserves(
    options: RayOptions,
    nodes: list[tuple[float, float]],
    actor: tuple[float, float],
    capacity: int,
) -> None:
    rooms = [RayRoom(*node) for node in nodes]
    wanted = room_of_actor(options, rooms)
    assert wanted == RayRoom(*actor)
    assert sum(room.holds(wanted) for room in rooms) == capacity


@pytest.mark.parametrize("variable", [None, "ray://head:10001"])
def test_ray_client_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str | None) -> None:
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    with pytest.raises(UsageError, match=r"Ray Client is not supported.*ray job submit"):
        check_address("auto" if variable else "ray://head:10001")


def test_rays_own_variable_names_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_address(None) is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert [check_address(given) for given in (None, "auto", "10.0.0.2:6379")] == [
        "10.0.0.1:6379", "10.0.0.1:6379", "10.0.0.2:6379",
    ]  # fmt: skip


def test_parts_that_share_a_host_are_known_in_all_generations(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))

    def plan(hosts: str, number: int) -> Generation:
        inputs = [
            PlannedInput(index=n, listed=SourceInput(source="u"), group=host.strip("-"))
            for n, host in enumerate(hosts)
        ]
        files = write_plan(inputs, store, part_size=2, first_file=number, first_part=5 * number)
        return Generation(kind="extend" if number else "first", files=files)

    run = run_of(plan("aaabbc--d-", 0), plan("ec", 1))
    assert shared_hosts(store, run, range(6)) == {0: {"a"}, 1: {"a", "b"}, 2: {"b", "c"}, 5: {"c"}}
    assert shared_hosts(store, run, [0, 2, 4, 5]) == {2: {"c"}, 5: {"c"}}
    assert shared_hosts(store, run, [3]) == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            f"It died.\n\tclass_name: PartActor\n\tpid: 12\nIts process has ended.\nExit {'x' * 500}",
            f"Its process has ended. Exit {'x' * 272}",
        ),
        ("Killed: the node is low on memory.\n", "Killed: the node is low on memory."),
    ],
)  # fmt: skip
def test_a_loss_is_told_without_what_only_ray_knows(text: str, reason: str) -> None:
    assert reason_of_loss(text) == reason
