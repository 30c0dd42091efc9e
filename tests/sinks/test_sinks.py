"""One suite over every file output: a run goes on where another stopped, whatever the ending of the name."""

from __future__ import annotations

import csv
import gzip
import os
import subprocess
import sys
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from clipmod_cli.errors import ErrorCode, OutputError, OutputMismatchError
from clipmod_cli.output import jsonl
from clipmod_cli.output.base import SINKS, RecordSink, sink_for
from clipmod_cli.output.jsonl import CompressedSink, FileSink, open_file
from clipmod_cli.output.parquet import read_lines
from clipmod_cli.output.reading.files import check_file
from clipmod_cli.output.resuming.exits import ExitReview
from clipmod_cli.output.resuming.files import (
    append_lines,
    beside,
    check_compression,
    compression_of,
    open_lines,
    part_path,
    records_path,
)
from clipmod_cli.output.resuming.gone import gone_path, prune
from clipmod_cli.output.resuming.resume import DoneInputs, ResumeOptions, RunConditions
from clipmod_cli.records import Record, to_line, to_record
from clipmod_cli.sources.base import Skipped
from tests.full_disk import files_no_longer_than
from tests.results import RUN, plain_failure, plain_verdict
from tests.sinks.outputs import KEY, URLS, missing

ENDINGS = sorted(SINKS)
COMPRESSED = (".jsonl.gz", ".jsonl.zst")
TABLES = (".parquet", ".csv")


@pytest.fixture(params=ENDINGS)
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"out{request.param}"


def judged(source: str, **changes: Any) -> Record:
    return to_record(plain_verdict(source=source), RUN).model_copy(update=changes)


def failed(source: str, code: ErrorCode = "timeout") -> Record:
    one = plain_failure(code=code)
    failure = replace(one, item=replace(one.item, source=source))
    return to_record(failure, RUN)


def opened(output: Path, **options: Any) -> tuple[RecordSink, DoneInputs]:
    sink = sink_for(output.name)(output, ResumeOptions(**{"conditions": URLS, **options}))
    return sink, sink.begin(KEY)


def write(output: Path, *records: Record, complete: bool = True, **options: Any) -> DoneInputs:
    """Write the records of a run, which comes to its end or is stopped."""
    sink, done = opened(output, **options)
    for record in records:
        sink.write(record, to_line(record))
    sink.close()
    if complete:
        sink.complete()
    return done


def sources_in(output: Path) -> list[str]:
    """Return the sources of the records of a finished output, as every command reads them."""
    records = records_path(output) if output.suffix == ".csv" else output
    checked = check_file(str(records), output.parent)
    lines = checked.path.read_bytes().splitlines()
    if checked.path != records:
        checked.path.unlink()
    return [Record.model_validate_json(line, strict=False).source for line in lines]


def test_a_run_goes_on_where_another_stopped(output: Path) -> None:
    write(output, judged("a"), judged("b"), complete=False)
    done = write(output, judged("c"))
    assert (done.count, missing(done, "a", "b", "c")) == (2, ["c"])
    assert sources_in(output) == ["a", "b", "c"]
    assert not part_path(output).exists()


def test_a_finished_output_is_all_done_and_stays_as_it_is(output: Path) -> None:
    write(output, judged("a"), judged("b"))
    before = {path: (path.stat(), path.read_bytes()) for path in output.parent.iterdir()}
    done = write(output)
    assert (done.count, missing(done, "a", "b")) == (2, [])
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in output.parent.iterdir()} == {
        path: (stat.st_mtime_ns, content) for path, (stat, content) in before.items()
    }


def test_errors_that_may_pass_are_judged_again(output: Path) -> None:
    write(output, judged("a"), failed("b"), judged("c"))
    done = write(output, judged("b"))
    assert (done.count, done.retry_count, missing(done, "a", "b", "c")) == (2, 1, ["b"])
    assert sources_in(output) == ["a", "c", "b"]


def test_records_to_judge_again_come_back_if_they_are_not(output: Path) -> None:
    write(output, judged("a"), failed("b"))
    assert write(output, judged("c")).retry_count == 1
    assert sources_in(output) == ["a", "c", "b"]


def test_records_to_judge_again_come_back_after_a_kill(output: Path) -> None:
    write(output, failed("a"), judged("b"), failed("c"))
    sink, _ = opened(output)
    again = judged("c", run_id="2" * 32)
    sink.write(again, to_line(again))
    kill(sink)
    done = write(output)
    assert sorted(sources_in(output)) == ["a", "b", "c"]
    assert done.count + done.retry_count == 3


def kill(sink: RecordSink) -> None:
    """Leave the file as a killed process does."""
    lines: Any = sink
    while not isinstance(lines, FileSink):
        lines = lines._lines
    os.close(lines.descriptor)


def test_banks_change_records_in_place(output: Path) -> None:
    write(output, judged("a"), judged("b"))
    other = to_line(judged("b", decided_by="deny", final_decision="NSFW"))

    def redecide(record: Any, _source: str) -> bytes | None:
        return other if record["source"] == "b" and record["decided_by"] != "deny" else None

    assert write(output, redecide=redecide).redecided_count == 1
    assert sources_in(output) == ["a", "b"]
    told: list[Any] = []
    write(output, on_done=lambda record: told.append(record["decided_by"]))
    assert told == ["models", "deny"]


def test_early_exits_are_reviewed_before_the_output_is_complete(output: Path) -> None:
    sink, _ = opened(output)
    for record in (judged("a"), judged("b", exit_audit=1, needs_review=False, review_reasons=[])):
        sink.write(record, to_line(record))
    sink.close()
    review = ExitReview(run_id=RUN.run_id, same_runs=(), gone=array("Q"))
    review.mark(sink.lines_path, 1)
    assert (review.count, review.unreviewed) == (1, 1)
    sink.complete()
    told: list[Any] = []
    write(output, on_done=lambda record: told.append(record["review_reasons"]))
    assert told[1] == ["early_exit"]


def test_files_that_are_gone_are_dropped(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = output.parent / "pictures"
    folder.mkdir()
    monkeypatch.chdir(output.parent)
    for name in "abcdefgh":
        (folder / name).touch()
    here = RunConditions()
    files = {name: Path("pictures", name).stat() for name in "abcdefgh"}
    records = [judged(f"pictures/{name}", bytes=0, mtime_ns=stat.st_mtime_ns) for name, stat in files.items()]
    write(output, *records, conditions=here)
    (folder / "b").unlink()
    sink, done = opened(output, conditions=here, sources=["pictures"])
    sink.close()
    walked = Skipped()
    walked.listed["pictures"] = 7
    assert prune(sink.lines_path, done, walked, written=0, drop_any=False) == 1
    sink.complete()
    assert sources_in(output) == [f"pictures/{name}" for name in "acdefgh"]
    assert gone_path(output).name == f"{output.name}.gone.jsonl"
    assert gone_path(output).read_bytes() == to_line(records[1])


def test_overwriting_and_refusing(output: Path) -> None:
    write(output, judged("a"))
    with pytest.raises(OutputMismatchError, match="--overwrite"):
        opened(output, resume="no")
    write(output, judged("b"), overwrite=True)
    assert sources_in(output) == ["b"]


def test_the_output_of_another_run_is_left_alone(output: Path) -> None:
    write(output, judged("a"))
    before = {path: path.read_bytes() for path in output.parent.iterdir()}
    sink = sink_for(output.name)(output, ResumeOptions(conditions=URLS))
    with pytest.raises(OutputMismatchError, match="other models, policy or settings"):
        sink.begin("another")
    assert {path: path.read_bytes() for path in output.parent.iterdir()} == before


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", gzip.compress(b"a,b\n"), zstd.compress(b"a"), b"PAR1 no"])
def test_the_file_of_another_program_is_left_alone(output: Path, content: bytes) -> None:
    output.write_bytes(content)
    with pytest.raises(OutputMismatchError, match="left alone"):
        opened(output)
    assert {path: path.read_bytes() for path in output.parent.iterdir()} == {output: content}


@pytest.mark.parametrize("ending", COMPRESSED)
def test_every_torn_member_is_removed_and_what_was_whole_stays(tmp_path: Path, ending: str) -> None:
    output = tmp_path / f"out{ending}"
    write(output, judged("a"), judged("b"))
    whole = output.stat().st_size
    write(output, judged("c"))
    content = output.read_bytes()
    for end in {*range(whole, whole + 12), *range(whole, len(content), 97), len(content) - 1}:
        output.write_bytes(content[:end])
        sink, done = opened(output)
        sink.close()
        assert (done.count, output.read_bytes()) == (2, content[:whole]), end
    for end in range(20):
        output.write_bytes(content[:end])
        assert write(output, judged("a")).count == 0
        assert sources_in(output) == ["a"]


@pytest.mark.parametrize("ending", COMPRESSED)
def test_a_damaged_file_is_left_alone(tmp_path: Path, ending: str) -> None:
    output = tmp_path / f"out{ending}"
    write(output, judged("a"))
    write(output, judged("b"))
    content = bytearray(output.read_bytes())
    content[len(content) // 4] ^= 0xFF
    output.write_bytes(content)
    with pytest.raises(OutputMismatchError, match="is damaged"):
        opened(output)
    assert output.read_bytes() == content


@pytest.mark.parametrize("ending", COMPRESSED)
def test_a_file_compressed_by_another_program_is_gone_on_with(tmp_path: Path, ending: str) -> None:
    lines = to_line(judged("a")) + to_line(judged("b"))
    compress: Callable[[bytes], bytes] = gzip.compress if ending == ".jsonl.gz" else zstd.compress
    output = tmp_path / f"out{ending}"
    output.write_bytes(compress(lines + to_line(judged("c"))[:50]))
    assert write(output, judged("c")).count == 2
    assert sources_in(output) == ["a", "b", "c"]


@pytest.mark.parametrize("ending", COMPRESSED)
def test_a_sync_is_a_member(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "SYNC_RECORDS", 3)
    monkeypatch.setattr(jsonl, "SYNC_SECONDS", 3600)
    output = tmp_path / f"out{ending}"
    sink = open_file(output, compression_of(output))
    assert isinstance(sink, CompressedSink)
    sizes = []
    for _ in range(7):
        sink.write(to_line(judged("a")))
        sizes.append(output.stat().st_size)
    sink.close()
    assert [bool(size) for size in sizes[:3]] == [False, False, True]
    assert sizes[2] == sizes[4] < sizes[5] == sizes[6] < output.stat().st_size
    with open_lines(output, sizes[2]) as file:
        assert file.read() == to_line(judged("a")) * 4


def test_lines_are_appended_in_members(output: Path) -> None:
    lines = [to_line(judged(f"{number}")) for number in range(2500)]
    append_lines(output, lines)
    append_lines(output, [])
    check_compression(output, compression_of(output))
    with open_lines(output) as file:
        assert list(file) == lines


@pytest.mark.parametrize("ending", COMPRESSED)
def test_a_full_disk_leaves_whole_members(tmp_path: Path, ending: str) -> None:
    output = tmp_path / f"out{ending}"
    write(output, judged("a"))
    whole = output.read_bytes()
    sink, _ = opened(output)
    sink.write(judged("b"), to_line(judged("b")))
    with files_no_longer_than(len(whole) + 10), pytest.raises(OutputError, match="cannot write to"):
        sink.close()
    assert output.read_bytes() == whole


@pytest.mark.parametrize("ending", TABLES)
def test_a_table_appears_when_the_run_has_ended(tmp_path: Path, ending: str) -> None:
    output = tmp_path / f"out{ending}"
    write(output, judged("a"), complete=False)
    assert [path.name for path in tmp_path.iterdir()] == [f"out{ending}.jsonl.part"]
    assert part_path(output).read_bytes() == to_line(judged("a"))
    write(output)
    kept = [f"out{ending}"] + ["out.csv.records.parquet"] * (ending == ".csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == kept


@pytest.mark.parametrize("ending", TABLES)
def test_a_full_disk_at_the_end_keeps_the_lines(tmp_path: Path, ending: str) -> None:
    output = tmp_path / f"out{ending}"
    sink, _ = opened(output)
    for record in (one := judged("a"), two := judged("b")):
        sink.write(record, to_line(record))
    sink.close()
    told = r"All records are in .*\.jsonl\.part; the same command goes on"
    with files_no_longer_than(5000), pytest.raises(OutputError, match=told):
        sink.complete()
    assert [path.name for path in tmp_path.iterdir()] == [f"out{ending}.jsonl.part"]
    assert part_path(output).read_bytes() == to_line(one) + to_line(two)
    assert write(output).count == 2
    assert sources_in(output) == ["a", "b"]


@pytest.mark.parametrize(
    ("ending", "step"), [(".parquet", 0), (".parquet", 1), *((".csv", n) for n in range(3))]
)
def test_a_kill_at_any_step_of_the_end_loses_nothing(tmp_path: Path, ending: str, step: int) -> None:
    output = tmp_path / f"out{ending}"
    words = [sys.executable, "-m", "tests.sinks.dying", str(output)]
    assert subprocess.run([*words, str(step)], timeout=100).returncode == 9
    assert part_path(output).exists()
    done = write(output)
    assert (done.count, sources_in(output)) == (3, ["a", "b", "c"])
    kept = [output.name] + ["out.csv.records.parquet"] * (ending == ".csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == kept


def test_a_csv_is_for_people_and_its_records_are_whole(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    records = [judged("=a"), judged("b")]
    write(output, *records)
    with output.open(newline="") as file:
        assert [row["source"] for row in csv.DictReader(file)] == ["'=a", "b"]
    assert list(read_lines(records_path(output))) == [to_line(one) for one in records]


def test_a_csv_without_its_records_is_left_alone(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    write(output, judged("a"))
    records_path(output).unlink()
    with pytest.raises(OutputMismatchError, match=r"exists without out\.csv\.records\.parquet"):
        opened(output)


def test_what_lies_beside_an_output_is_named_by_the_output() -> None:
    for name in ("out.csv", "out.csv.jsonl.part", "out.csv.records.parquet"):
        assert beside(Path(name), ".run.json") == Path("out.csv.run.json")
