"""One whole line a write or none of it, and one process at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clipmod_cli.errors import OutputError
from clipmod_cli.output.jsonl import (
    SYNC_RECORDS,
    FileSink,
    StreamSink,
    is_regular,
    open_device,
    open_file,
)
from clipmod_cli.output.lock import OutputLock
from tests.full_disk import files_no_longer_than

HOLD = """
import sys
from pathlib import Path
from clipmod_cli.output.lock import OutputLock
with OutputLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@pytest.fixture
def holder(output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock of `output`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, output], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_lines_are_appended_to_what_is_there(output: Path) -> None:
    output.write_bytes(b"old\n")
    sink = open_file(output)
    sink.write(b"one\n")
    assert output.read_bytes() == b"old\none\n", "a record is in the file as soon as it is written"
    sink.write(b"two\n")
    sink.close()
    assert output.read_bytes() == b"old\none\ntwo\n"


@pytest.mark.parametrize("room", [0, 1, 4, 8])
def test_a_line_that_does_not_fit_is_cut_back(room: int, output: Path) -> None:
    output.write_bytes(b"old\n")
    sink = open_file(output)
    sink.write(b"first\n")
    with files_no_longer_than(10 + room), pytest.raises(OutputError, match=f"cannot write to {output}: "):
        sink.write(b"too long\n")
    assert output.read_bytes() == b"old\nfirst\n"
    sink.write(b"later\n")  # there is room again, and no half line before it
    sink.close()
    assert output.read_bytes() == b"old\nfirst\nlater\n"


def test_an_output_error_ends_with_exit_code_5(output: Path) -> None:
    sink = open_file(output)
    with files_no_longer_than(3), pytest.raises(OutputError) as told:
        sink.write(b"line\n")
    assert told.value.exit_code == 5
    sink.close()


def test_records_are_synced_in_a_while_and_at_the_end(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    sink = open_file(output)
    sink._synced_at = float("inf")  # never because of the time
    for _ in range(SYNC_RECORDS - 1):
        sink.write(b"x\n")
    assert not synced
    sink.write(b"x\n")
    assert synced == [2 * SYNC_RECORDS]
    sink._synced_at = float("-inf")  # long ago
    sink.write(b"x\n")
    sink.close()
    assert synced[1:] == [2 * SYNC_RECORDS + 2] * 2


def test_what_cannot_be_synced_is_told(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    sink = open_file(output)
    descriptor = sink.descriptor
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OutputError, match="Input/output error"):
        sink.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize("open_it", [open_file, open_device])
def test_what_cannot_be_opened_is_told(
    open_it: Callable[[Path], FileSink | StreamSink], tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        open_it(tmp_path / "nowhere" / "out.jsonl")


def test_a_full_device_is_told() -> None:
    sink = open_device(Path("/dev/full"))
    with pytest.raises(OutputError, match="cannot write to /dev/full: No space left"):
        sink.write(b"line\n")
    sink.close()


def test_a_reader_that_left_is_told_as_such() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    sink = StreamSink(writing)
    with pytest.raises(BrokenPipeError):
        sink.write(b"line\n")
    sink.close()


@pytest.mark.parametrize("blocking", [True, False])
def test_a_line_longer_than_a_pipe_arrives_whole(blocking: bool) -> None:
    """Also where another program made the pipe non-blocking, as some runtimes do."""
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    line = bytes(range(256)) * 4096 + b"\n"
    got = bytearray()

    def read() -> None:
        while chunk := os.read(reading, 1000):
            got.extend(chunk)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    sink = StreamSink(writing)
    sink.write(line)
    sink.close()
    reader.join(60)
    os.close(reading)
    assert bytes(got) == line


def test_which_outputs_are_regular(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    expected = {"file": True, "not-yet": True, "pipe": False, "../" + tmp_path.name: False}
    assert {name: is_regular(tmp_path / name) for name in expected} == expected
    assert not is_regular(Path("/dev/null"))
    with pytest.raises(OutputError):
        is_regular(tmp_path / "file" / "below-a-file")


def test_a_second_process_is_refused_by_the_first_ones_name(
    output: Path, holder: subprocess.Popen[bytes]
) -> None:
    with pytest.raises(OutputError, match=rf"out\.jsonl is being written by .*process {holder.pid}$"):
        OutputLock(output).__enter__()
    assert holder.poll() is None


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which no file can be created")
def test_a_folder_that_takes_no_file_is_not_called_another_process() -> None:
    with pytest.raises(OutputError, match="no file can be made beside it"):
        OutputLock(Path("/proc/out.jsonl")).__enter__()


def test_a_killed_holder_holds_nobody_off(output: Path, holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    holder.wait()
    lock = OutputLock(output)
    assert lock.path.exists(), "it had no time to remove it"
    with lock:
        assert json.loads(lock.path.read_text())["pid"] == os.getpid()
    assert not lock.path.exists()


def test_a_lock_that_was_let_go_can_be_taken(output: Path, holder: subprocess.Popen[bytes]) -> None:
    holder.communicate()
    with OutputLock(output) as lock:
        assert json.loads(lock.path.read_text())["pid"] == os.getpid()


def test_within_a_process_too_there_is_one_at_a_time(output: Path) -> None:
    with OutputLock(output), pytest.raises(OutputError, match=f"process {os.getpid()}"):
        OutputLock(output).__enter__()
    with OutputLock(output):
        pass


def test_two_outputs_do_not_hold_each_other_off(tmp_path: Path) -> None:
    with OutputLock(tmp_path / "a.jsonl"), OutputLock(tmp_path / "b.jsonl"):
        assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_lock_goes_whatever_happened_inside(output: Path) -> None:
    with pytest.raises(KeyError), OutputLock(output):
        raise KeyError
    assert list(output.parent.iterdir()) == []


def test_a_holder_who_does_not_say_its_name_is_held_to(output: Path) -> None:
    with OutputLock(output) as lock:
        lock.path.write_text("{")
        with pytest.raises(OutputError, match=r"is being written by another process$"):
            OutputLock(output).__enter__()


def test_a_lock_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write beside"):
        OutputLock(tmp_path / ("x" * 250)).__enter__()


def test_a_folder_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    """Else a disk that is not mounted would get its records onto the one below."""
    with pytest.raises(OutputError, match=f"no folder {tmp_path}/nowhere"):
        OutputLock(tmp_path / "nowhere" / "out.jsonl").__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_place_of_the_lock_is_not_followed(output: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    OutputLock(output).path.symlink_to(precious)
    with pytest.raises(OutputError):
        OutputLock(output).__enter__()
    assert precious.read_text() == "mine"


def test_a_sink_does_not_leak_into_children(output: Path) -> None:
    sink: FileSink = open_file(output)
    assert not os.get_inheritable(sink.descriptor)
    sink.close()
