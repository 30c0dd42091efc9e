"""The plan: what is written is read again, and each part belongs to one shard."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipmod_cli.errors import OutputError, OutputMismatchError, SettingsError, UsageError
from clipmod_cli.parts import plan as plan_module
from clipmod_cli.parts.heartbeat import HeartbeatFile, is_lost, mark_lost, this_process
from clipmod_cli.parts.overview import ranges
from clipmod_cli.parts.part_file import PartLines
from clipmod_cli.parts.plan import Plan, PlannedInput, write_plan
from clipmod_cli.parts.planning.listing import describe_inputs
from clipmod_cli.parts.planning.shards import Shard, parts_of, read_shard
from clipmod_cli.parts.run_file import Generation, RunFile, Shards, parse_run_file
from clipmod_cli.parts.store import LocalStore
from clipmod_cli.settings.definition import Settings
from clipmod_cli.sources.base import SourceInput

names = st.binary(min_size=1, max_size=20).map(os.fsdecode)
inputs = st.builds(
    SourceInput,
    source=names,
    folder=st.none() | names,
    size=st.none() | st.integers(0, 2**60),
    mtime_ns=st.none() | st.integers(-(2**62), 2**62),
    version=st.none() | st.text(max_size=5),
)


def run_of(*generations: Generation, shards: Shards | None = None) -> RunFile:
    return RunFile(
        command="scan",
        inputs={},
        directory="/",
        format="jsonl",
        part_size=3,
        shards=shards or Shards(),
        next_index=0,
        generations=generations,
    )


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    listed=st.lists(inputs, max_size=20),
    size=st.integers(1, 7),
    columns=st.none() | st.dictionaries(st.text(max_size=3), st.none() | st.text(max_size=3)),
)
def test_what_is_planned_is_read_again(
    listed: list[SourceInput],
    size: int,
    columns: dict[str, str | None] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan_module, "FILE_INPUTS", 8)
    planned = [
        PlannedInput(index=n, listed=one, row=n, columns=columns, group="g") for n, one in enumerate(listed)
    ]
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(folder)
        run = run_of(Generation(kind="first", files=write_plan(planned, store, part_size=size)))
        with closing(Plan(store, run)) as plan:
            read = [plan.inputs(part) for part in range(run.parts)]
    assert [one for part in read for one in part] == planned
    assert all(len(part) == size for part in read[:-1])
    assert parse_run_file(run.to_bytes(), "x") == run


def test_a_plan_that_was_changed_is_refused(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    planned = [PlannedInput(index=0, listed=SourceInput(source="a"))]
    run = run_of(Generation(kind="first", files=write_plan(planned, store, part_size=1)))
    write_plan([PlannedInput(index=0, listed=SourceInput(source="b"))], store, part_size=1)
    with closing(Plan(store, run)) as plan, pytest.raises(OutputMismatchError, match="was changed"):
        plan.inputs(0)
    with closing(Plan(store, run)) as plan, pytest.raises(UsageError, match="no part 1"):
        plan.inputs(1)


def test_the_temporary_folder_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "it's [1]*"
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    store = LocalStore(str(odd / "run"))
    planned = [PlannedInput(index=0, listed=SourceInput(source="a"))]
    run = run_of(Generation(kind="first", files=write_plan(planned, store, part_size=1)))
    with closing(Plan(store, run)) as plan:
        assert plan.inputs(0) == planned


def generation_of(first_part: int, parts: int) -> Generation:
    file = {"name": "n", "sha256": "s", "first_part": first_part, "parts": parts, "inputs": parts}
    return Generation.model_validate_json(json.dumps({"kind": "extend", "files": [file]}))


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3), count=st.integers(1, 50))
def test_each_part_belongs_to_one_shard(sizes: list[int], count: int) -> None:
    generations, first = [], 0
    for size in sizes:
        generations.append(generation_of(first, size))
        first += size
    run = run_of(*generations)
    shares = [parts_of(run, Shard(index=n, count=count, base=1, is_named=True)) for n in range(1, count + 1)]
    assert sorted(part for share in shares for part in share) == list(range(run.parts))
    before = run_of(*generations[:-1])
    for n, share in enumerate(shares, 1):  # a further generation moves no part to another shard
        earlier = parts_of(before, Shard(index=n, count=count, base=1, is_named=True))
        assert [part for part in share if part < before.parts] == earlier


def test_an_array_tells_index_count_and_base() -> None:
    array = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_MAX": "9"}
    assert read_shard(None, array | {"SLURM_ARRAY_TASK_COUNT": "7"}) == Shard(index=7, count=7, base=3)
    assert read_shard(None, array | {"SLURM_ARRAY_TASK_COUNT": "4"}) == Shard(index=7, count=None, base=None)
    assert read_shard("/5", {"JOB_COMPLETION_INDEX": "0"}) == Shard(index=0, count=5, base=0)
    assert read_shard("2/5", {"JOB_COMPLETION_INDEX": "0"}) == Shard(index=2, count=5, base=1, is_named=True)
    assert read_shard(None, {}) is None
    with pytest.raises(SettingsError, match="JOB_COMPLETION_INDEX"):
        read_shard(None, {"JOB_COMPLETION_INDEX": "x"})


def test_an_array_goes_by_the_run_file_when_a_part_of_it_is_submitted_again() -> None:
    run = run_of(generation_of(0, 4), shards=Shards(count=4, base=3))
    assert parts_of(run, Shard(index=5, count=2, base=5)) == [2]
    with pytest.raises(SettingsError, match="no task 7"):
        parts_of(run, Shard(index=7, count=None, base=None))
    with pytest.raises(SettingsError, match="--shard /N"):
        parts_of(run_of(generation_of(0, 4)), Shard(index=0, count=None, base=0))


@given(st.sets(st.integers(0, 60)))
def test_ranges_name_each_number_once(numbers: set[int]) -> None:
    told = ranges(sorted(numbers))
    read: list[int] = []
    for part in told.split(",") if told else []:
        first, _, last = part.partition("-")
        read += range(int(first), int(last or first) + 1)
    assert read == sorted(numbers)


class UnansweredStore(LocalStore):
    """Does what it is told, and fails to say so while it is cut off."""

    is_cut_off = False

    def replace(self, name: str, old: bytes, new: bytes) -> bool:
        is_replaced = super().replace(name, old, new)
        if self.is_cut_off:
            raise OutputError("no answer")
        return is_replaced


def test_a_write_without_an_answer_does_not_cost_the_file(tmp_path: Path) -> None:
    store = UnansweredStore(str(tmp_path))
    with HeartbeatFile.create(store, "held/lease", index=None) or pytest.fail("it was not taken") as held:
        for index in range(2):
            store.is_cut_off = True
            with pytest.raises(OutputError, match="no answer"):
                held.set(index=index)
            store.is_cut_off = False
            held.check()
        mark_lost(store, "held", this_process())
        with pytest.raises(OutputError, match="taken over"):
            held.check()


def test_a_file_of_a_process_that_is_gone_is_taken_and_no_other(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    with HeartbeatFile.create(store, "lease", what="plan") or pytest.fail("it was not taken") as held:
        assert HeartbeatFile.take(store, "lease") is None
        held.set(what="more")
        assert json.loads(store.read("lease") or b"")["what"] == "more"
    assert store.read("lease") is None
    gone = {**this_process(), "pid": 2**22 + 1, "beat": 0}  # more than the kernel gives
    store.create("lease", json.dumps(gone).encode())
    with HeartbeatFile.take(store, "lease") or pytest.fail("it was not taken") as held:
        assert not held.is_lost
        held.check()
    store.create("far", json.dumps({**gone, "host": "another machine"}).encode())
    assert HeartbeatFile.take(store, "far") is None
    path = tmp_path / "far"
    os.utime(path, (0, path.stat().st_mtime - 1000))
    assert is_lost(store, "far", path.read_bytes())
    taken = HeartbeatFile.take(store, "far")
    assert taken is not None
    with taken:
        store.delete("far")
        with pytest.raises(OutputError, match="taken over"):
            taken.check()


def test_names_that_are_not_utf_8_are_those_of_the_run_file() -> None:
    odd = os.fsdecode(b"\xff")
    given_settings = replace(Settings(), exclude=(odd,), files_from=odd)
    inputs = describe_inputs("scan", [odd], given_settings)
    run = run_of().model_copy(update={"inputs": inputs, "facts": {"run_key": "k", "policy": {"folder": odd}}})
    assert parse_run_file(run.to_bytes(), "x").inputs == inputs


def judge_on_full_disk(held: HeartbeatFile) -> None:
    with held, PartLines() as lines:
        with Path("/dev/full").open("wb") as full:
            os.dup2(full.fileno(), lines._file.fileno())
        for index in range(100):
            lines.add(index, bytes(1000))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_temporary_disk_is_no_fault_of_the_part(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))
    held = HeartbeatFile.create(store, "attempt") or pytest.fail("it was not taken")
    with pytest.raises(OutputError, match="No space left"):
        judge_on_full_disk(held)
    assert store.read("attempt") is None  # else the part would be judged input by input after two of them
