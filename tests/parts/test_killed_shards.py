"""Shards that are stopped and killed at any moment: no record is lost, and none is there twice."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest

from tests.end_to_end.command import Command
from tests.end_to_end.conftest import clipmod, folder
from tests.end_to_end.killing import ALONE, make_pictures, started, wait_until
from tests.parts.test_runs_in_parts import merged, without_run_fields

__all__ = ["clipmod", "folder"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SHARDS = 3
PICTURES = 1800
PART_SIZE = 5
KILLS = 30
STOPS = (signal.SIGINT, signal.SIGTERM) * 2


def is_judging(out: Path, process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process has begun a part that it has not ended."""
    for note in (out / "attempts").glob("part-*.json"):
        with suppress(FileNotFoundError):  # the part was committed meanwhile
            if json.loads(note.read_bytes())["pid"] == process.pid:
                return True
    return False


def test_shards_killed_and_stopped_again_and_again_make_a_plain_scan(
    clipmod: Command, folder: Path, tmp_path: Path
) -> None:
    names = make_pictures(folder, PICTURES)
    out = tmp_path / "run"
    words = ("scan", folder, *ALONE, "-q", "-o", f"{out}/", "--part-size", str(PART_SIZE))
    assert clipmod(*words, "--plan-only").code == 0
    random, in_parts = Random(30), 0
    with ExitStack() as stack:

        def start(shard: int) -> subprocess.Popen[bytes]:
            return stack.enter_context(started(clipmod, *words, "--shard", f"{shard}/{SHARDS}"))

        for number in STOPS:
            process = start(1)
            wait_until(partial(is_judging, out, process), process)
            process.send_signal(number)
            assert process.wait() == 128 + number
            assert not is_judging(out, process)
        processes = {shard: start(shard) for shard in range(1, SHARDS + 1)}
        for _ in range(KILLS):
            shard = random.choice(list(processes))
            if random.random() < 0.7:  # else it may not have loaded its models yet
                while processes[shard].poll() is None and not is_judging(out, processes[shard]):
                    time.sleep(0.01)
            time.sleep(random.uniform(0, 0.5))
            processes[shard].kill()
            processes[shard].wait()
            in_parts += is_judging(out, processes[shard])
            processes[shard] = start(shard)
        assert {process.wait() for process in processes.values()} <= {0, 3}
    assert in_parts, "no kill came while a part was judged"
    assert clipmod("parts", f"{out}/", "--missing").stdout == b""
    # a process that is killed while it commits leaves a hidden file
    done = [json.loads(path.read_bytes()) for path in (out / "done").glob("[!.]*")]
    assert sum(one["records"] for one in done) == PICTURES
    # at two kills while one input is judged alone, that input is taken for the reason
    assert clipmod(*words, "--retry", "worker_lost").code == 0
    records = merged(clipmod, out)
    assert [record["source"] for record in records] == names
    scanned = clipmod("scan", folder, *ALONE, "-q", "--no-db", "--json").records
    assert without_run_fields(records) == without_run_fields(scanned)
    assert list((out / "attempts").glob("part-*")) == []
    assert {path.name for path in (out / "parts").glob("[!.]*")} == {
        json.loads(path.read_bytes())["file"].removeprefix("parts/") for path in (out / "done").glob("[!.]*")
    }
