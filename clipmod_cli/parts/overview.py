"""Which parts of a run are done and missing, and what they came to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from clipmod_cli.errors import OutputMismatchError
from clipmod_cli.parts.commit import DonePart, judge_again, list_done, read_done, wrong_commit
from clipmod_cli.parts.run_file import RunFile, require_run_file
from clipmod_cli.parts.store import PartStore
from clipmod_cli.runs.tally import Tally

READERS: Final = 16
"""Threads that read commits: a store takes some 50 ms for each."""


@dataclass(frozen=True, slots=True)
class PartsOverview:
    """The state of a run in parts.

    Attributes:
        done: the commits that were read, by number.
        missing: numbers of parts that no process has committed.
    """

    run: RunFile
    done: tuple[DonePart, ...]
    missing: tuple[int, ...]

    @property
    def rate(self) -> float | None:
        """Records a second over the time in which the parts were judged; None if that is not known."""
        if not self.done:
            return None
        ends = [(part.ended_at.timestamp(), part.seconds) for part in self.done]
        seconds = max(end for end, _ in ends) - min(end - taken for end, taken in ends)
        return sum(part.records for part in self.done) / seconds if seconds > 0 else None

    def missing_shards(self) -> tuple[int, ...]:
        """Return the indices of the array tasks, or the I of `--shard I/N`, that have missing parts."""
        shards = self.run.shards
        if shards.count is None:
            return ()
        base = 1 if shards.base is None else shards.base
        return tuple(sorted({base + self.run.shard_of(part, shards.count) for part in self.missing}))

    def describe(self, tally: Tally) -> dict[str, Any]:
        """Return the overview as a JSON object; `tally` counts the newest records of each input."""
        return {
            "run_key": self.run.run_key,
            "parts": self.run.parts,
            "done": len(self.done),
            "missing": list(self.missing),
            "shards": self.run.shards.count,
            "missing_shards": ranges(self.missing_shards()),
            "generations": len(self.run.generations),
            "planned": sum(file.inputs for one in self.run.generations for file in one.files),
            "inputs": sum(part.inputs for part in self.done),
            "records": tally.total,
            "counts": {kind: tally.kinds[kind] for kind in ("nsfw", "safe", "review", "error")},
            "codes": dict(tally.codes),
            "records_per_second": None if self.rate is None else round(self.rate, 2),
        }


def read_overview(store: PartStore, shard: Collection[int] | None = None) -> PartsOverview:
    """Return the state of the run of a store.

    Args:
        store: of the run.
        shard: the parts whose commits are read; None for all. In a bucket each takes a request, so a shard
            does not read those of all others.

    Raises:
        UsageError: nothing was planned.
        OutputMismatchError: a file is not what its name says.
        OutputError: the store cannot be read.
    """
    run = require_run_file(store)
    numbers = [number for number in list_done(store) if number < run.parts]
    done = tuple(_read_all(store, [part for part in numbers if shard is None or part in shard]))
    files = set(store.list("parts")) if len(done) == len(numbers) else None
    for part in done:
        if files is not None and part.file not in files:
            raise OutputMismatchError(f"{store.name}{part.file} is gone. {judge_again(store, part.part)}")
        if part.run_key != run.run_key or part.inputs != run.inputs_of(part.part):
            raise wrong_commit(store, part.part)
    missing = tuple(sorted(set(range(run.parts)).difference(numbers)))
    return PartsOverview(run, done, missing)


def _read_all(store: PartStore, numbers: Iterable[int]) -> Iterator[DonePart]:
    with ThreadPoolExecutor(READERS) as threads:
        for done in threads.map(lambda number: read_done(store, number), numbers):
            if done is None:
                raise OutputMismatchError(f"a file in {store.name}done was deleted meanwhile. Try again")
            yield done


def tally_of(parts: Iterable[DonePart]) -> Tally:
    """Return the counts of the records of parts."""
    tally = Tally()
    for part in parts:
        tally.kinds.update(part.counts)
        tally.codes.update(part.codes)
        tally.total += part.records
        tally.ok += part.records - part.counts.get("error", 0)
    return tally


def ranges(numbers: Iterable[int]) -> str:
    """Return ascending numbers as text, as `3,7-9`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
