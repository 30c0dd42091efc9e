"""Records that are removed to judge their inputs again: none is lost, whatever the run comes to."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmod_cli.errors import OutputError
from clipmod_cli.output.jsonl import FileSink, JsonlSink
from clipmod_cli.output.resuming.removed import removed_path
from clipmod_cli.output.resuming.resume import ResumeOptions
from clipmod_cli.records import Record, RunFacts, to_line, to_record
from clipmod_cli.sources.base import Skipped
from clipmod_cli.types import Item
from tests.results import RUN, plain_failure
from tests.sinks.outputs import KEY, URLS, line_of


def failed(source: str, run: RunFacts) -> Record:
    """Return the record of an error that may pass."""
    return to_record(replace(plain_failure(code="timeout"), item=Item(source=source, index=0)), run)


class Runs:
    """Runs on one output, each with a run_id of its own."""

    def __init__(self, output: Path) -> None:
        self.output, self.count, self.told = output, 0, list[str]()

    def begin(self) -> tuple[JsonlSink, RunFacts]:
        self.count += 1
        self.told.clear()
        told = ResumeOptions(conditions=URLS, on_done=lambda record: self.told.append(record["source"]))
        sink = JsonlSink(self.output, told)
        sink.begin(KEY)
        return sink, replace(RUN, run_id=f"{self.count:032x}")

    def judge(self, *sources: str) -> None:
        """Run to the end, and fail on all."""
        sink, facts = self.begin()
        self.write(sink, facts, *sources)
        sink.close()

    def write(self, sink: JsonlSink, facts: RunFacts, *sources: str) -> None:
        for source in sources:
            record = failed(source, facts)
            sink.write(record, to_line(record))

    def kill(self, sink: JsonlSink) -> None:
        """End as a killed process does: without `close`."""
        lines = sink._lines
        assert isinstance(lines, FileSink)
        os.close(lines.descriptor)

    @property
    def records(self) -> dict[str, str]:
        """The run_ids by source; each input has one record."""
        found = [json.loads(line) for line in self.output.read_bytes().splitlines()]
        assert max(Counter(record["source"] for record in found).values(), default=1) == 1
        return {record["source"]: record["run_id"][-1] for record in found}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "out.jsonl")


def test_what_a_run_does_not_come_to_keeps_its_record(
    runs: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs.judge("a", "b", "c")
    runs.judge("b", "d")
    assert runs.records == {"a": "1", "c": "1", "b": "2", "d": "2"}
    assert runs.told == ["a", "c"], "they count in the summary and the exit code"
    assert "2 records to judge again stay as they were" in caplog.text
    assert list(tmp_path.iterdir()) == [runs.output]


def test_nothing_is_told_where_all_was_judged(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    runs.judge("a")
    runs.judge("a")
    assert (runs.records, runs.told, caplog.text) == ({"a": "2"}, [], "")


def test_equal_names_come_back_as_often_as_they_were_not_judged(runs: Runs) -> None:
    runs.judge("a", "a", "a")
    runs.judge("a")
    lines = [json.loads(line)["run_id"][-1] for line in runs.output.read_bytes().splitlines()]
    assert sorted(lines) == ["1", "1", "2"]


def test_overwriting_forgets_them(runs: Runs) -> None:
    runs.judge("a")
    sink, _ = runs.begin()
    runs.kill(sink)
    assert removed_path(runs.output).exists()
    sink = JsonlSink(runs.output, ResumeOptions(conditions=URLS, overwrite=True))
    sink.begin(KEY)
    sink.close()
    assert runs.output.read_bytes() == b""
    assert not removed_path(runs.output).exists()


def test_a_full_disk_at_the_end_loses_none(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.judge("a", "b")
    sink, _ = runs.begin()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("clipmod_cli.output.resuming.files.os.fsync", full)
        with pytest.raises(OutputError, match="No space left"):
            sink.close()
    runs.judge()
    assert runs.records == {"a": "1", "b": "1"}


@pytest.mark.parametrize("state", ["before the removal", "while they come back", "torn"])
def test_killed_between_two_steps(state: str, runs: Runs) -> None:
    runs.judge("a", "b", "c")
    before = runs.output.read_bytes()
    sink, facts = runs.begin()
    runs.write(sink, facts, "b")
    runs.kill(sink)
    if state == "before the removal":
        runs.output.write_bytes(before)
    else:
        with runs.output.open("ab") as file:
            file.write(before.splitlines(keepends=True)[0] if state != "torn" else line_of("x")[:-9])
    runs.judge()
    assert runs.records == {"a": "1", "b": "1" if state == "before the removal" else "2", "c": "1"}


def of_member(member: str | None, code: str, run: RunFacts) -> Record:
    item = Item(source="a.zip", index=0, member=member)
    return to_record(replace(plain_failure(code=code), item=item), run)  # type: ignore[arg-type]


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("before", ["archive", "members"])
def test_what_is_no_input_any_more_does_not_come_back(before: str, ends: bool, runs: Runs) -> None:
    sink, facts = runs.begin()
    for member in (None,) if before == "archive" else ("x", "y"):
        record = of_member(member, "timeout", facts)
        sink.write(record, to_line(record))
    sink.close()
    sink, facts = runs.begin()
    record = of_member("x", "timeout", facts)
    sink.write(record, to_line(record))
    if ends:
        assert sink._done is not None
        sink._done.end(Skipped())
    sink.close()
    found = [json.loads(line)["member"] for line in runs.output.read_bytes().splitlines()]
    assert found == (["x"] if ends or before == "archive" else ["x", "y"])


NAMES = st.lists(st.sampled_from("abcde"), unique=True)


@settings(max_examples=30)
@given(st.lists(st.tuples(NAMES, st.sampled_from(["ends", "killed", "torn"])), max_size=6))
def test_each_input_that_had_a_record_has_one(steps: list[tuple[list[str], str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        runs, last = Runs(Path(folder, "out.jsonl")), dict[str, str]()
        for names, end in steps:
            sink, facts = runs.begin()
            runs.write(sink, facts, *names)
            last |= dict.fromkeys(names, str(runs.count))
            if end == "ends":
                sink.close()
                assert runs.records == last
                continue
            runs.kill(sink)
            if end == "torn":
                with runs.output.open("ab") as file:
                    file.write(line_of("torn")[:-1])
        runs.judge()
        assert runs.records == last
