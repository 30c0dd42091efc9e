"""A scan that is killed, interrupted or hindered loses nothing and doubles nothing."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from clipmod_cli.cli.signals import STOPPING
from tests.end_to_end.command import SAMPLES, Command, Outcome
from tests.end_to_end.killing import (
    ALONE,
    NUDENET,
    PATIENCE_S,
    count_lines,
    kept,
    make_pictures,
    names_in,
    records_in,
    sources,
    started,
    wait_for_lines,
    wait_for_lock,
    wait_until,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and /proc")

KILLS = 10


def stats(clipmod: Command, *words: str | Path) -> dict[str, int]:
    run = clipmod("stats", "--json", *words)
    assert run.code == 0, run.stderr
    totals: dict[str, int] = json.loads(run.stdout)["totals"]
    return totals


def test_killed_ten_times_and_resumed(clipmod: Command, folder: Path, out: Path) -> None:
    paths, random = make_pictures(folder, 200), Random(1)
    words = ("scan", folder, "-o", out, *NUDENET)
    for number in range(KILLS):
        # Workers or none, the output is the same; starting them each time would take long.
        how = ("--isolate" if number % 5 == 0 else "--no-isolate",)
        with started(clipmod, *words, *how, stderr=subprocess.DEVNULL) as process:
            if number == 0:
                wait_for_lock(out, process)
            else:
                wait_for_lines(out, count_lines(out) + random.randint(1, 8), process)
            process.kill()
            assert process.wait(PATIENCE_S) == -signal.SIGKILL
    assert KILLS - 1 <= count_lines(out) < len(paths)
    run = clipmod(*words)
    assert run.code == 0, run.stderr
    records = records_in(out)
    assert sorted(sources(records)) == paths
    assert [r["source"] for r in sorted(records, key=lambda r: r["index"])] == paths
    assert names_in(out.parent) == kept(out)
    # The rows of the dead runs are brought in; one that was killed between its two writes lacks one.
    totals = stats(clipmod)
    assert len(paths) - KILLS <= totals["inputs"] <= len(paths)
    assert totals["runs"] >= KILLS
    assert stats(clipmod, "--rebuild", out)["inputs"] == len(paths)


def stop(clipmod: Command, words: tuple[str | Path, ...], out: Path, number: signal.Signals) -> Outcome:
    """Signal a scan that is under way and its workers, as a terminal does; return how it ended."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(clipmod, *words, start_new_session=True, **pipes) as process:
        wait_for_lines(out, 2, process)
        os.killpg(process.pid, number)
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
        return Outcome(process.returncode, stdout, stderr.decode())


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_finishes_the_batch_and_says_how_to_resume(
    clipmod: Command, folder: Path, out: Path, name: str, code: int
) -> None:
    paths = make_pictures(folder, 40)
    words = ("scan", folder, "-o", out, "--overwrite", "--batch-size", "4", *NUDENET)
    run = stop(clipmod, words, out, getattr(signal, name))
    assert (run.code, run.stdout) == (code, b"")
    assert "Traceback" not in run.stderr
    done = records_in(out)
    assert sources(done) == paths[: len(done)]
    assert len(done) < len(paths)
    assert names_in(out.parent) == kept(out)
    (line,) = (line for line in run.stderr.splitlines() if "To resume: " in line)
    command, *again = shlex.split(line.partition("To resume: ")[2])
    assert command == "clipmod"
    rest = clipmod(*again)
    assert rest.code == 0
    assert f"resuming {out}: {len(done)} done" in rest.stderr
    assert sources(records_in(out)) == paths
    assert stats(clipmod)["inputs"] == len(paths)


def test_a_second_interrupt_does_not_wait_for_the_batch(clipmod: Command, folder: Path, out: Path) -> None:
    first, *rest = make_pictures(folder, 150)
    words = ("scan", "-", "-o", out, "--batch-size", "200", "-q", *ALONE)
    with started(clipmod, *words, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(f"{first}\n".encode())
        process.stdin.flush()
        wait_for_lines(out, 1, process)
        before = cpu_s(process)
        process.stdin.write("".join(f"{path}\n" for path in rest).encode())
        process.stdin.flush()
        # Opening the pictures takes a fraction of this, so it is in the one long call into the model.
        wait_until(lambda: cpu_s(process) > before + 1.5, process)
        process.send_signal(signal.SIGINT)
        assert STOPPING in process.stderr.readline().decode()
        before_it = count_lines(out)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
        assert process.stderr.read() == b""
    assert sources(records_in(out)) == [first, *rest][:before_it]


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    """Return the seconds of CPU that a process has used (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_nohup_holds(clipmod: Command, folder: Path, out: Path) -> None:
    paths = make_pictures(folder, 20)

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    words = ("scan", folder, "-o", out, "--batch-size", "4", *ALONE)
    with started(clipmod, *words, preexec_fn=ignore) as process:
        wait_for_lines(out, 1, process)
        process.send_signal(signal.SIGHUP)
        assert process.wait(PATIENCE_S) == 0
    assert sources(records_in(out)) == paths


def test_an_interrupt_while_models_load(clipmod: Command, folder: Path, out: Path) -> None:
    make_pictures(folder, 1)
    with started(clipmod, "scan", folder, "-o", out, *NUDENET, stderr=subprocess.PIPE) as process:
        wait_for_lock(out, process)
        process.send_signal(signal.SIGINT)
        stderr = process.communicate(timeout=PATIENCE_S)[1].decode()
    assert process.returncode == 130
    assert stderr == "clipmod: stopped (130) before anything was judged\n"
    assert names_in(out.parent) == []


def test_a_slow_producer_gets_its_answers_and_may_be_interrupted(clipmod: Command, folder: Path) -> None:
    paths = make_pictures(folder, 5)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(clipmod, "scan", "-", *ALONE, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for path in paths:
            process.stdin.write(f"{path}\n".encode())
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["source"] == path
        process.send_signal(signal.SIGINT)
        # The list is still open: nothing comes, and nothing is waited for.
        assert process.wait(PATIENCE_S) == 130
        assert process.stdout.read() == b""


def test_a_second_writer_is_refused_until_the_first_is_dead(
    clipmod: Command, folder: Path, out: Path
) -> None:
    paths = make_pictures(folder, 3)
    with started(clipmod, "scan", "-", "-o", out, *ALONE, stdin=subprocess.PIPE) as process:
        wait_for_lock(out, process)
        run = clipmod("scan", folder, "-o", out, *NUDENET)
        assert (run.code, run.stdout) == (5, b"")
        assert f"process {process.pid}" in run.stderr
        assert str(out) in run.stderr
        process.kill()
        process.wait(PATIENCE_S)
    assert f".{out.name}.lock" in names_in(out.parent)  # the dead one's; its output may have begun
    assert clipmod("scan", folder, "-o", out, *NUDENET).code == 0
    assert sources(records_in(out)) == paths
    assert names_in(out.parent) == kept(out)


HOLDER = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
connection.execute("CREATE TABLE IF NOT EXISTS held (x INTEGER)")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_busy_store_is_no_matter_of_the_scans(clipmod: Command, folder: Path, tmp_path: Path) -> None:
    paths, db = make_pictures(folder, 3), tmp_path / "store.duckdb"
    assert clipmod("scan", paths[0], "--db", db, *NUDENET).code == 0
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        run = clipmod("scan", folder, "--db", db, *NUDENET)
        assert (run.code, sources(run.records)) == (0, paths)
        assert run.stderr.count("warning:") <= 1
        holder.communicate(timeout=PATIENCE_S)
    assert stats(clipmod, "--db", db)["inputs"] == 1 + len(paths)


def test_a_broken_store_is_no_matter_of_the_scans(clipmod: Command, folder: Path, tmp_path: Path) -> None:
    paths, db = make_pictures(folder, 2), tmp_path / "store.duckdb"
    db.write_bytes(os.urandom(50_000))
    run = clipmod("scan", folder, "--db", db, *NUDENET)
    assert (run.code, sources(run.records)) == (0, paths)
    assert "--rebuild" in run.stderr
    db.unlink()
    assert stats(clipmod, "--db", db)["inputs"] == len(paths)


def test_workers_start_where_the_path_of_temporary_files_is_long(clipmod: Command, tmp_path: Path) -> None:
    folder = tmp_path / ("t" * 120)  # too long for the socket of a fork server
    folder.mkdir()
    run = clipmod.process("scan", SAMPLES / "cat.png", *NUDENET, env={"TMPDIR": str(folder)})
    assert run.code == 0, run.stderr
    assert [record["final_decision"] for record in run.records] == ["Safe"]
    assert list(folder.iterdir()) == []
