"""Processes that commit the same parts at once, and die before, within and after it.

    python -m tests.parts.race [--rounds 100] [--workers 4] [--deaths 0.2] [--s3] [--loss 0.1]

A round is one part. Each worker writes a file of its own and commits it; the loser deletes its file. A worker
that dies is started again, as a cluster does.
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
from pathlib import Path

from clipmod_cli.parts.store import PartStore, open_part_store
from tests.stores.servers import BUCKET, serving_s3

MOMENTS = ("before the file", "after the file", "after the commit", "before deleting")
DEAD = 9


def name_of(part: int) -> str:
    return f"done/part-{part:06}.json"


def work(store: PartStore, rounds: int, deaths: float) -> None:
    """Commit every part that is not done; print the parts that this process has committed."""
    done = set(store.list("done"))
    die = _chance_to_die(deaths / len(MOMENTS))
    for part in range(rounds):
        if name_of(part) in done:
            continue
        file = f"parts/part-{part:06}.{uuid.uuid4().hex}"
        content = os.urandom(2000)
        die(0)
        with tempfile.NamedTemporaryFile(delete=False) as local:
            local.write(content)
        store.put(file, Path(local.name))
        die(1)
        commit = {"file": file, "sha256": hashlib.sha256(content).hexdigest(), "records": part}
        if store.create(name_of(part), json.dumps(commit).encode()):
            die(2)
            print(json.dumps([part, file]), flush=True)
        else:
            die(3)
            store.delete(file)
            print(json.dumps("lost"), flush=True)


def _chance_to_die(chance: float) -> Callable[[int], None]:
    def die(moment: int) -> None:
        if random.random() < chance:
            print(json.dumps(f"died {MOMENTS[moment]}"), flush=True)
            os._exit(DEAD)

    return die


def race(name: str, *, rounds: int, workers: int, deaths: float) -> Counter[str]:
    """Run the workers to their end, and return what was counted; `wrong` are the broken promises."""
    words = [sys.executable, "-m", "tests.parts.race", "--work", name]
    words += ["--rounds", str(rounds), "--deaths", str(deaths)]
    counts: Counter[str] = Counter()
    won: list[tuple[int, str]] = []
    waiting = {start(words) for _ in range(workers)}
    while waiting:
        process = waiting.pop()
        printed, told = process.communicate(timeout=300)
        for line in printed.splitlines():
            given = json.loads(line)
            if isinstance(given, str):
                counts[given] += 1
            else:
                won.append((given[0], given[1]))
        if process.returncode == DEAD:
            waiting.add(start(words))
        elif process.returncode:
            raise AssertionError(told)
    counts["won"] = len(won)
    return counts + check(open_part_store(name), won, rounds)


def start(words: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check(store: PartStore, won: Sequence[tuple[int, str]], rounds: int) -> Counter[str]:
    """Return how many parts are done, how many files are left over, and how much is wrong."""
    counts: Counter[str] = Counter()
    commits = {}
    for part in range(rounds):
        if (content := store.read(name_of(part))) is None:
            counts["missing"] += 1
            continue
        commit = commits[part] = json.loads(content)
        counts["done"] += 1
        file = store.read(commit["file"])
        is_right = file is not None and hashlib.sha256(file).hexdigest() == commit["sha256"]
        counts["wrong"] += not is_right or commit["records"] != part
    counts["wrong"] += len(won) - len(dict(won))  # two that both believe that they committed it
    counts["wrong"] += sum(commits[part]["file"] != file for part, file in won)
    files = set(store.list("parts"))
    counts["left over"] = len(files - {commit["file"] for commit in commits.values()})
    return counts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", metavar="STORE")
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--deaths", type=float, default=0.0, help="chance to die in a round")
    parser.add_argument("--loss", type=float, default=0.0, help="chance that S3's answer to a write is lost")
    given = parser.parse_args()
    if given.work:
        work(open_part_store(given.work), given.rounds, given.deaths)
        return
    limits = {"rounds": given.rounds, "workers": given.workers, "deaths": given.deaths}
    if given.s3:
        with serving_s3() as server:
            os.environ.update(server.environment)
            server.loss = given.loss
            print(dict(race(f"s3://{BUCKET}/run/", **limits)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(dict(race(folder, **limits)))


if __name__ == "__main__":
    main()
