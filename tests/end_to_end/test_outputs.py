"""What stands in an output, what may be written to, and what comes out of stdout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.command import Command, read_records
from tests.end_to_end.killing import (
    ALONE,
    NUDENET,
    PATIENCE_S,
    kept,
    make_pictures,
    names_in,
    records_in,
    sources,
)
from tests.full_disk import files_no_longer_than

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits, pipes and devices of POSIX")


# --- what cannot be written


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """Mount a small file system of its own at the folder."""
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def assert_cut_off(paths: list[str], out: Path, room: int) -> None:
    """Look at what a scan that found no room has left; nothing may be torn."""
    done = records_in(out)
    assert sources(done) == paths[: len(done)]
    assert 0 < len(done) < len(paths)
    assert out.stat().st_size <= room
    assert names_in(out.parent) == kept(out)


def test_a_full_disk(clipmod: Command, folder: Path, tmp_path: Path) -> None:
    paths, disk = make_pictures(folder, 20), tmp_path / "disk"
    words = ("scan", folder, "-o", disk / "records.jsonl", *NUDENET)
    with small_disk(disk, "size=28k"):
        run = clipmod(*words)
        assert (run.code, run.stdout) == (5, b"")
        assert f"cannot write to {disk / 'records.jsonl'}" in run.stderr
        assert "Traceback" not in run.stderr
        assert_cut_off(paths, disk / "records.jsonl", 28 << 10)
        assert clipmod(*words).code == 5  # no room yet, and nothing is lost by trying
        assert_cut_off(paths, disk / "records.jsonl", 28 << 10)
        subprocess.run(["mount", "-o", "remount,size=1m", disk], check=True)
        assert clipmod(*words).code == 0
        assert sources(records_in(disk / "records.jsonl")) == paths


def test_a_limit_on_the_size_of_files(clipmod: Command, folder: Path, out: Path) -> None:
    paths = make_pictures(folder, 20)
    with files_no_longer_than(20_000):
        run = clipmod("scan", folder, "-o", out, *NUDENET)
    assert run.code == 5
    assert f"cannot write to {out}" in run.stderr
    assert_cut_off(paths, out, 20_000)
    assert clipmod("scan", folder, "-o", out, *NUDENET).code == 0
    assert sources(records_in(out)) == paths


@pytest.mark.parametrize("name", ["/dev/full", "{}/no-such-folder/records.jsonl"])
def test_what_is_no_place_for_an_output(clipmod: Command, folder: Path, tmp_path: Path, name: str) -> None:
    make_pictures(folder, 1)
    place = name.format(tmp_path)
    before = names_in(tmp_path)
    run = clipmod("scan", folder, "-o", place, *NUDENET)
    assert (run.code, run.stdout) == (5, b"")
    assert f"cannot write to {place}" in run.stderr
    assert "Traceback" not in run.stderr
    assert names_in(tmp_path) == before


def test_a_folder_that_may_not_be_written(clipmod: Command, folder: Path, tmp_path: Path) -> None:
    make_pictures(folder, 1)
    with small_disk(tmp_path / "disk", "ro"):
        run = clipmod("scan", folder, "-o", tmp_path / "disk" / "records.jsonl", *NUDENET)
    assert (run.code, run.stdout) == (5, b"")
    assert str(tmp_path / "disk") in run.stderr


@contextmanager
def stdout_at(path: str) -> Iterator[None]:
    """Point stdout at a file."""
    kept, descriptor = os.dup(1), os.open(path, os.O_WRONLY)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(descriptor)


def test_a_full_stdout(clipmod: Command, folder: Path) -> None:
    make_pictures(folder, 1)
    with stdout_at("/dev/full"):
        run = clipmod("scan", folder, *NUDENET)
    assert run.code == 5
    assert "cannot write to stdout" in run.stderr


@pytest.mark.parametrize(("behind", "code"), [("> /dev/full", 5), ("| true", 141)])
def test_other_commands_have_the_same_codes(clipmod: Command, behind: str, code: int) -> None:
    script = f'"$0" -m clipmod_cli schema {behind}; exit "${{PIPESTATUS[0]}}"'
    run = subprocess.run(["bash", "-c", script, sys.executable], capture_output=True, env=clipmod.environment)
    assert run.returncode == code
    assert b"Traceback" not in run.stderr
    assert b"bug" not in run.stderr


def test_a_closed_stdout_takes_no_records(clipmod: Command, folder: Path) -> None:
    make_pictures(folder, 1)
    script = '"$0" -m clipmod_cli "$@" >&-'
    words = [sys.executable, "scan", str(folder), *ALONE]
    run = subprocess.run(["bash", "-c", script, *words], capture_output=True, env=clipmod.environment)
    assert run.returncode == 5
    assert b"cannot write to stdout" in run.stderr


# --- closed pipes


def test_a_closed_pipe_ends_the_scan_quietly(clipmod: Command, folder: Path) -> None:
    paths = make_pictures(folder, 20)
    script = '"$0" -m clipmod_cli "$@" -q | head -n 1; echo "${PIPESTATUS[0]}"'
    words = [sys.executable, "scan", str(folder), "--batch-size", "1", *ALONE]
    run = subprocess.run(["bash", "-c", script, *words], capture_output=True, env=clipmod.environment)
    *lines, code = run.stdout.splitlines(keepends=True)
    assert sources(read_records(b"".join(lines))) == paths[:1]
    assert (code, run.stderr) == (b"141\n", b"")


@pytest.mark.parametrize("full", [False, True])
def test_what_cannot_be_written_ends_a_scan_whose_input_is_silent(
    clipmod: Command, folder: Path, *, full: bool
) -> None:
    """The paths come from a program that goes on, and has nothing to say at the moment."""
    first, second = make_pictures(folder, 2)
    words = ["scan", "-", "--json", "-q", *ALONE]
    stdout = os.open("/dev/full", os.O_WRONLY) if full else subprocess.PIPE
    with clipmod.start(words, stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(f"{first}\n".encode())
        process.stdin.flush()
        if process.stdout is not None:
            assert process.stdout.readline()
            process.stdout.close()
            process.stdin.write(f"{second}\n".encode())
            process.stdin.flush()
        try:
            assert process.wait(PATIENCE_S) == (5 if full else 141)
        finally:
            process.kill()
    if full:
        os.close(stdout)


def test_closed_pipes_are_no_matter_of_an_output(clipmod: Command, folder: Path, out: Path) -> None:
    paths = make_pictures(folder, 3)
    script = '"$0" -m clipmod_cli "$@" 2>&1 | true; exit "${PIPESTATUS[0]}"'
    words = [sys.executable, "scan", str(folder), "-o", str(out), *ALONE]
    run = subprocess.run(["bash", "-c", script, *words], env=clipmod.environment, timeout=PATIENCE_S)
    assert run.returncode == 0
    assert sources(records_in(out)) == paths


# --- what stdout holds

NOISE = """
import atexit, builtins, ctypes, os, threading, time

def shout():
    while True:
        print("noise", flush=True)
        os.write(1, b"noise\\n")
        time.sleep(0.001)

def load(name, *rest, real=builtins.__import__, **more):
    if name == "onnxruntime" and builtins.__import__ is load:
        builtins.__import__ = real
        ctypes.CDLL(None).puts(b"noise that waits in a buffer of C's until the process ends")
        atexit.register(print, "noise at the end")
        threading.Thread(target=shout, daemon=True).start()
        import warnings
        warnings.warn("noise")
    return real(name, *rest, **more)

builtins.__import__ = load
"""


def test_stdout_is_records_whatever_a_library_prints(clipmod: Command, folder: Path, tmp_path: Path) -> None:
    paths = make_pictures(folder, 3)
    (tmp_path / "sitecustomize.py").write_text(NOISE)
    noisy = {"PYTHONPATH": str(tmp_path), "PYTHONWARNINGS": "always"}
    run = clipmod.process("scan", folder, "-v", *ALONE, env=noisy)
    assert (run.code, sources(run.records)) == (0, paths)
    assert "noise that waits" in run.stderr
    assert "noise at the end" in run.stderr


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_stdout_as_an_output(clipmod: Command, folder: Path, name: str) -> None:
    paths = make_pictures(folder, 2)
    run = clipmod("scan", folder, "-o", name, *NUDENET)
    assert (run.code, sources(run.records)) == (0, paths)


def test_a_named_pipe_takes_records(clipmod: Command, folder: Path, tmp_path: Path) -> None:
    paths, pipe = make_pictures(folder, 2), tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        assert clipmod("scan", folder, "-o", pipe, *NUDENET).code == 0
        assert sources(read_records(reader.communicate(timeout=PATIENCE_S)[0])) == paths


def test_a_list_of_failed_inputs_gives_names_with_line_breaks_back(
    clipmod: Command, folder: Path, out: Path
) -> None:
    """As a line each name would become two others; `-0` keeps it, as `find -print0` does."""
    names = ["a\nb.png", "plain.png", "c\r.png", "\u202ed.png"]
    for name in names:
        (folder / name).write_bytes(b"")
    failed = out.parent / "failed.txt"
    run = clipmod("scan", folder, "--errors-to", failed, *ALONE)
    assert run.code == 6
    assert sorted(failed.read_bytes().decode().split("\n")) == sorted(
        ["", *(str(folder / name) for name in names[1:])]
    )
    assert "1 failed inputs are not in" in run.stderr
    assert "give -0 (--null)" in run.stderr
    run = clipmod("scan", folder, "--errors-to", failed, "-0", *ALONE)
    assert "failed inputs are not in" not in run.stderr
    again = clipmod("scan", "--files-from", failed, "-0", *ALONE)
    assert sorted(record["source"] for record in again.records) == sorted(str(folder / n) for n in names)
