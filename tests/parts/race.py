"""Processes that commit the same parts at once, and die before, within and after it.

    python -m tests.parts.race [--rounds 100] [--workers 4] [--deaths 0.2] [--server s3|gs] [--loss 0.1]

A round is one part. Each worker writes a file of its own and commits it; the loser deletes its file. All
begin together. A worker that dies is started again, as a cluster does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clipmod_cli.parts.commit import DonePart, commit, list_done, part_name, read_done, remove_orphans
from clipmod_cli.parts.store import PartStore, open_part_store

WRITES = ("put", "create", "delete")
DEAD = 9


def work(store: PartStore, rounds: int, deaths: float) -> None:
    """Commit every part that is not done; print the parts that this process has committed."""
    done = set(list_done(store))
    store.create("begun", b"")  # after what is loaded with the first request
    print(json.dumps("ready"), flush=True)
    sys.stdin.readline()
    for count, part in enumerate(sorted(set(range(rounds)) - done)):
        if count == 1:  # all live through the first part, so that they meet in one at least
            for write in WRITES:
                setattr(store, write, _dying(write, getattr(store, write), deaths / len(WRITES) / 2))
        with tempfile.NamedTemporaryFile(delete=False) as local:
            local.write(os.urandom(2000))
        path = Path(local.name)
        one = DonePart(
            part=part, file=part_name(part, uuid.uuid4().hex, "jsonl"), first_index=part, inputs=1, records=1,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(), counts={}, codes={}, run_key="", run_id="",
            host="", device="cpu", ended_at=datetime.now(UTC), seconds=0.0,
        )  # fmt: skip
        print(json.dumps([part, one.file] if commit(store, one, path) else "lost"), flush=True)


def _dying(name: str, write: Callable[..., Any], chance: float) -> Callable[..., Any]:
    """Return a method of a store that ends the process before or after some of its calls."""

    def die(moment: str) -> None:
        if random.random() < chance:
            print(json.dumps(f"died {moment} {name}"), flush=True)
            os._exit(DEAD)

    def call(*values: Any) -> Any:
        die("before")
        answer = write(*values)
        die("after")
        return answer

    return call


def race(name: str, *, rounds: int, workers: int, deaths: float) -> Counter[str]:
    """Run the workers to their end, and return what was counted; `wrong` are the broken promises."""
    words = [sys.executable, "-m", "tests.parts.race", "--work", name]
    words += ["--rounds", str(rounds), "--deaths", str(deaths)]
    counts: Counter[str] = Counter()
    won: list[tuple[int, str]] = []
    with tempfile.TemporaryDirectory() as folder:  # the dead leave files in it
        waiting = {start(words, folder) for _ in range(workers)}
        for process in waiting:
            assert process.stdout is not None
            process.stdout.readline()
        for process in waiting:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        while waiting:
            process = waiting.pop()
            printed, told = process.communicate("go\n", timeout=300)
            for line in printed.splitlines():
                given = json.loads(line)
                if isinstance(given, str):
                    counts[given] += 1
                else:
                    won.append((given[0], given[1]))
            if process.returncode == DEAD:
                waiting.add(start(words, folder))
            elif process.returncode:
                raise AssertionError(told)
    counts["won"] = len(won)
    return counts + check(open_part_store(name), won, rounds)


def start(words: Sequence[str], folder: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": folder}
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)


def check(store: PartStore, won: Sequence[tuple[int, str]], rounds: int) -> Counter[str]:
    """Return how many parts are done, how many files are left over, and how much is wrong."""
    counts: Counter[str] = Counter()
    commits: dict[int, str] = {}
    for part in range(rounds):
        if (done := read_done(store, part)) is None:
            counts["missing"] += 1
            continue
        commits[part] = done.file
        counts["done"] += 1
        content = store.read(done.file)
        is_right = content is not None and hashlib.sha256(content).hexdigest() == done.sha256
        counts["wrong"] += not is_right or done.first_index != part
    counts["wrong"] += len(won) - len(dict(won))  # two that both believe that they committed it
    counts["wrong"] += sum(commits[part] != file for part, file in won)
    counts["left over"] = len(set(store.list("parts")).difference(commits.values()))
    remove_orphans(store)
    counts["wrong"] += set(store.list("parts")) != set(commits.values())
    return counts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", metavar="STORE")
    parser.add_argument("--server", choices=["s3", "gs"], help="else a folder")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--deaths", type=float, default=0.0, help="chance to die in a round")
    parser.add_argument(
        "--loss", type=float, default=0.0, help="chance that the server's answer to a write is lost"
    )
    given = parser.parse_args()
    if given.work:
        work(open_part_store(given.work), given.rounds, given.deaths)
        return
    limits = {"rounds": given.rounds, "workers": given.workers, "deaths": given.deaths}
    if given.server:
        from tests.stores.servers import BUCKET, SERVERS  # moto takes a second to load

        with SERVERS[given.server]() as server:
            os.environ.update(server.environment)
            server.loss = given.loss
            print(dict(race(f"{given.server}://{BUCKET}/run/", **limits)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(dict(race(folder, **limits)))


if __name__ == "__main__":
    main()
