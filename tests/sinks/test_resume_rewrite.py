"""What is cut from an output, what is dropped by a rewrite, and what belongs to another program."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from clipmod_cli.errors import OutputError, OutputMismatchError
from clipmod_cli.output.resuming.removed import removed_path
from clipmod_cli.output.resuming.resume import ResumeOptions, read_done
from clipmod_cli.records import to_line, to_record
from clipmod_cli.runs.tally import Tally
from tests.full_disk import files_no_longer_than
from tests.results import RUN, plain_verdict
from tests.sinks.outputs import KEY, URLS, failed_line, line_of, missing, read


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_a_torn_last_line_is_cut(cut: int, output: Path) -> None:
    whole = line_of("a") + line_of("b")
    output.write_bytes(whole + line_of("c")[:-cut])
    done, _ = read(output)
    assert output.read_bytes() == whole
    assert missing(done, "a", "b", "c") == ["c"]


FOREIGN = [
    b"precious\n", b"{}\n", b'{"schema": "other/1"}\n', b'["clipmod/1"]\n', b'"clipmod/1"\n', b"1\n", b"\n",
    b'{"schema": "clipmod/1"}\n', b'{"schema": "clipmod/1", "run_key": "%s"}\n' % KEY.encode(), b"\xff\xfe\n",
]  # fmt: skip


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("before", [0, 2])
def test_a_foreign_file_is_refused_by_line_and_left_alone(
    foreign: bytes, before: int, output: Path, tmp_path: Path
) -> None:
    retryable = failed_line("a", "timeout")  # it would have been dropped
    content = retryable * before + foreign + b"torn"
    output.write_bytes(content)
    stamp = output.stat()
    with pytest.raises(OutputMismatchError, match=f"out.jsonl line {before + 1} is not a clipmod record"):
        read(output)
    assert output.read_bytes() == content
    assert output.stat().st_mtime_ns == stamp.st_mtime_ns
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("error", "no"),
        ("error", {}),
        ("source", None),
        ("source_b64", "%"),
        ("member", 3),
        ("models_used", 3),
        ("sha256", "abcd"),
        ("sha256", "z" * 64),
        ("pdq", 3),
        ("pdq", "abcd"),
    ],
)
def test_a_record_with_a_field_of_another_shape_is_foreign(key: str, value: object, output: Path) -> None:
    record = {**json.loads(line_of("a")), key: value, "run_key": "other" if key == "models_used" else KEY}
    output.write_bytes(json.dumps(record).encode() + b"\n")
    with pytest.raises(OutputMismatchError):
        read(output)


@pytest.mark.parametrize("content", [b"my only copy of the novel", b"\0" * 9, b'{"schema":"other/1"'])
def test_a_foreign_file_without_any_newline_is_no_torn_line(content: bytes, output: Path) -> None:
    output.write_bytes(content)
    with pytest.raises(OutputMismatchError):
        read(output)
    assert output.read_bytes() == content


@pytest.mark.parametrize("length", [1, 12, 21, 300])
def test_a_torn_first_line_is_cut(length: int, output: Path) -> None:
    output.write_bytes(line_of("a")[:length])
    assert read(output)[0].count == 0
    assert output.read_bytes() == b""


def test_what_a_power_cut_left_behind_the_records_is_cut(output: Path) -> None:
    output.write_bytes(line_of("a") + b"\0" * 4000)
    assert read(output)[1] == ["a"]
    assert output.read_bytes() == line_of("a")


def test_another_run_key_is_refused_and_told_what_it_was(output: Path) -> None:
    content = to_line(to_record(plain_verdict(), replace(RUN, run_key="another")))
    output.write_bytes(content)
    with pytest.raises(OutputMismatchError) as told:
        read(output)
    for part in ("female-presence", "threshold 0.5", "ViT-L-14", "--overwrite"):
        assert part in str(told.value)
    assert output.read_bytes() == content


@pytest.mark.parametrize("lacking", sorted(json.loads(line_of("a"))))
def test_a_field_that_is_needed_is_not_missed_later(lacking: str, output: Path) -> None:
    """Whatever the file lacks, it is either not needed or the file is refused: no third thing."""
    record = json.loads(line_of("a"))
    del record[lacking]
    output.write_bytes(json.dumps(record).encode() + b"\n")
    tally = Tally()
    with contextlib.suppress(OutputMismatchError):
        read_done(output, KEY, ResumeOptions(conditions=URLS, resume="verify", on_done=tally.add_done))
        assert tally.counts()["nsfw"] == 1
    assert json.loads(output.read_bytes()) == record


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_the_rewrite_is_whole_and_keeps_the_mode(mode: int, output: Path, tmp_path: Path) -> None:
    lines = [line_of(str(number)) for number in range(2000)]
    output.write_bytes(b"".join([*lines[:1000], failed_line("x", "timeout"), *lines[1000:], b"torn"]))
    output.chmod(mode)
    with output.open("rb") as reader:
        read(output)
        assert reader.read().endswith(b"torn"), "who reads it meanwhile reads the old one to its end"
    assert output.read_bytes() == b"".join(lines)
    assert {path.stat().st_mode & 0o777 for path in (output, removed_path(output))} == {mode}
    assert set(tmp_path.iterdir()) == {output, removed_path(output)}


@pytest.mark.parametrize(("count", "room"), [(0, 0), (1, 100), (300, 5000), (300, 300_000)])
def test_a_rewrite_that_does_not_fit_leaves_everything_as_it_was(
    count: int, room: int, output: Path, tmp_path: Path
) -> None:
    content = line_of("a") * count + failed_line("x", "timeout") + line_of("b") * (count + 1)
    output.write_bytes(content)
    with files_no_longer_than(room), pytest.raises(OutputError, match="cannot read or rewrite"):
        read(output)
    assert output.read_bytes() == content
    read(output)
    assert output.read_bytes() == line_of("a") * count + line_of("b") * (count + 1)


def test_a_rewrite_that_cannot_begin_is_told(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    output.write_bytes(failed_line("x", "timeout"))
    monkeypatch.setattr("clipmod_cli.atomic.secrets.token_hex", full)
    with pytest.raises(OutputError, match="No space left"):
        read(output)


def test_an_output_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot read or rewrite"):
        read(tmp_path)
