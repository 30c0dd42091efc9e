"""Early exit across kills: one record for each input, and what was learnt goes on."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clipmod_cli.output.resuming.lines import parse_line
from tests.exits.test_command import NEEDED, RISK, colours, records_of, state_of, words
from tests.exits.toys import draw

__all__ = ["words"]

KILLS = 5
PICTURES = NEEDED + 400
PATIENCE_S = 60.0


def begin(words: tuple[str | Path, ...]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.exits.interrupted", *map(str, words), *RISK, "-q"]
    return subprocess.Popen(command)


def wait_for(process: subprocess.Popen[bytes], output: Path, lines: int) -> None:
    """Return once the output has so many lines, or the process has ended."""
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < end:
        if output.exists() and output.read_bytes().count(b"\n") >= lines:
            return
        time.sleep(0.002)


@pytest.mark.parametrize("seed", [1])
def test_law_kills_lose_no_record_and_write_none_twice(
    tmp_path: Path, words: tuple[str | Path, ...], seed: int
) -> None:
    draw(tmp_path / "pictures", colours(PICTURES))
    output, rng, audits = tmp_path / "out.jsonl", random.Random(seed), 0
    for number in range(KILLS):
        process = begin(words)
        wait_for(process, output, (number + 1) * PICTURES // (KILLS + 1) - rng.randrange(20))
        process.kill()
        process.wait()
        found = [record for line in output.read_bytes().splitlines() if (record := parse_line(line))]
        if any(record["exit_audit"] is not None for record in found):
            state = state_of(output)  # was written before each of them
            audits = max(record["exit_audit"] or 0 for record in found)
            assert state["audit"]["count"] >= audits
            assert state["highest"], "a rule is on the disk before the first record that exited by it"
    assert begin(words).wait(PATIENCE_S) == 0
    records = records_of(output)
    names = [record["source"] for record in records]
    assert len(names) == len(set(names)) == PICTURES
    assert [one["final_decision"] for one in sorted(records, key=lambda one: str(one["source"]))] == [
        "NSFW" if colour == "red" else "Safe" for colour in colours(PICTURES)
    ]
    assert sum(record["decided_at"] is not None for record in records) > PICTURES // 2
    assert state_of(output)["audit"]["count"] >= audits
