"""The records of a run in parts as one stream, in the order of the input, as a plain scan writes them.

A record of a later generation takes the place of those that its planned input had before.
"""

from __future__ import annotations

import heapq
import itertools
import json
import tempfile
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clipmod_cli.errors import OutputError
from clipmod_cli.parts.commit import DonePart, committed_file
from clipmod_cli.parts.overview import PartsOverview, tally_of
from clipmod_cli.parts.part_file import index_of, read_part, with_index
from clipmod_cli.parts.plan import Plan
from clipmod_cli.parts.run_file import RunFile
from clipmod_cli.parts.store import PartStore
from clipmod_cli.runs.tally import Tally, kinds_of

if TYPE_CHECKING:
    from clipmod_cli.output.reading.records import RecordReader

OUTCOMES: Final = """
    SELECT status, final_decision, needs_review, error.code AS code, count(*) AS count
    FROM records GROUP BY ALL
"""

BUCKET_INDICES: Final = 50_000
"""URLs are sorted by index in memory so many at a time: 85 MB of records."""

Indexed = tuple[int, bytes]


def merged_lines(store: PartStore, overview: PartsOverview) -> Iterator[bytes]:
    """Yield the lines of all committed records in the order of the input.

    In a run over files, members of an archive share the index of their archive; here each record gets its
    own, as in a plain scan. Those of missing parts leave a gap.

    Raises:
        OutputMismatchError: a file is not what was committed.
        OutputError: a file cannot be read, or a temporary one written.
    """
    is_of_files = overview.run.command != "urls"
    written = 0
    further = 0  # records of archives beyond the first of each
    for index, lines in _newest(store, overview.run, overview.done):
        first = index + further if overview.missing else written
        for position, line in enumerate(lines):
            yield with_index(line, first + position) if is_of_files else line
            written += 1
            further += position > 0


def _newest(
    store: PartStore, run: RunFile, done: Collection[DonePart]
) -> Iterator[tuple[int, Iterator[bytes]]]:
    """Yield each index of these parts in order, with the lines of its latest generation among them."""
    streams = [
        _keyed(_generation(store, run, number, done), number) for number in range(len(run.generations))
    ]
    merged = heapq.merge(*streams, key=itemgetter(0, 1))
    for index, lines in itertools.groupby(merged, key=itemgetter(0)):
        _, latest = next(itertools.groupby(lines, key=itemgetter(1)))
        yield index, map(itemgetter(2), latest)


def _keyed(lines: Iterable[Indexed], generation: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield index, a number that is less for a later generation, and line."""
    for index, line in lines:
        yield index, -generation, line


@contextmanager
def open_parts(store: PartStore, overview: PartsOverview) -> Iterator[RecordReader]:
    """Give the records of all committed parts for queries, the newest of each index."""
    from clipmod_cli.output.reading.part_files import FilePart, open_part_files

    run = overview.run
    with ExitStack() as stack:
        parts = [
            FilePart(
                path=stack.enter_context(committed_file(store, part)),
                count=part.records,
                generation=run.generation_of(part.part),
            )
            for part in overview.done
        ]
        reader = open_part_files(store.name, parts, is_parquet=run.format == "parquet", facts=run.facts)
        yield stack.enter_context(reader)


def failed_indices(store: PartStore, overview: PartsOverview, codes: Collection[str]) -> set[int]:
    """Return the indices of planned inputs whose newest records have an error, all or one of these codes.

    Args:
        store: of the run.
        overview: its parts.
        codes: of errors; `errors` is all of them.
    """
    run = overview.run
    wanted = None if "errors" in codes else set(codes)
    done = [part for part in overview.done if run.generation_of(part.part) or _has(part, wanted)]
    return {
        index for index, lines in _newest(store, run, done) if any(_fails(line, wanted) for line in lines)
    }


def newest_tally(store: PartStore, overview: PartsOverview) -> Tally:
    """Return the counts of the newest records of each planned input, of the parts that are done.

    Opened are parts of later generations and those whose inputs these may have; the commits tell of others.
    Raises as `merged_lines`.
    """
    if len(overview.run.generations) == 1:
        return tally_of(overview.done)
    again = _planned_again(store, overview)
    tally = tally_of(part for part in overview.done if part.part not in again)
    opened = replace(overview, done=tuple(part for part in overview.done if part.part in again))
    with open_parts(store, opened) as reader:
        for row in reader.rows(OUTCOMES):
            kinds = kinds_of(row["final_decision"], row["status"], needs_review=bool(row["needs_review"]))
            tally.kinds.update(dict.fromkeys(kinds, row["count"]))
            tally.total += row["count"]
            if row["code"] is None:
                tally.ok += row["count"]
            else:
                tally.codes[row["code"]] += row["count"]
    return tally


def _planned_again(store: PartStore, overview: PartsOverview) -> set[int]:
    """Return the parts of later generations, and of the first one those that may have inputs of these."""
    run = overview.run
    if run.command == "urls":  # by host: the indices of a part are no range
        return {part.part for part in overview.done}
    is_first = [run.generation_of(part.part) == 0 for part in overview.done]
    first = list(itertools.compress(overview.done, is_first))
    starts = [part.first_index for part in first]
    with closing(Plan(store, run)) as plan:
        files = itertools.chain.from_iterable(generation.files for generation in run.generations[1:])
        indices = (one.index for file in files for one in plan.all_inputs(file))
        places = {bisect_right(starts, index) - 1 for index in indices}
    later = {part.part for part, one in zip(overview.done, is_first, strict=True) if not one}
    return later | {first[place].part for place in places if place >= 0}


def _has(part: DonePart, codes: set[str] | None) -> bool:
    return bool(part.codes if codes is None else codes & part.codes.keys())


def _fails(line: bytes, codes: set[str] | None) -> bool:
    error = json.loads(line)["error"] if b'"error":{' in line else None
    return error is not None and (codes is None or error["code"] in codes)


def _generation(store: PartStore, run: RunFile, number: int, done: Iterable[DonePart]) -> Iterator[Indexed]:
    """Yield the lines of one generation by index."""
    generation = run.generations[number]
    parts = [part for part in done if 0 <= part.part - generation.first_part < generation.parts]
    if run.command == "urls":
        yield from _sorted(itertools.chain.from_iterable(_part(store, run, part) for part in parts))
    else:
        for part in parts:
            yield from _part(store, run, part)


def _part(store: PartStore, run: RunFile, part: DonePart) -> Iterator[Indexed]:
    with committed_file(store, part) as path:
        for line in read_part(path, run.format):
            yield index_of(line), line


def _sorted(lines: Iterable[Indexed]) -> Iterator[Indexed]:
    """Yield lines by index, from files of a range of indices each; lines of one index stay in their order."""
    with tempfile.TemporaryDirectory(prefix="clipmod-merge-") as folder:
        buckets: set[int] = set()
        try:
            # the lines of a part are in order, so that many neighbours share a bucket
            for bucket, group in itertools.groupby(lines, key=lambda one: one[0] // BUCKET_INDICES):
                buckets.add(bucket)
                with Path(folder, str(bucket)).open("ab") as file:
                    file.writelines(map(itemgetter(1), group))
        except OSError as error:
            raise OutputError(f"cannot write to {folder}: {error.strerror}") from error
        for bucket in sorted(buckets):
            with Path(folder, str(bucket)).open("rb") as file:
                yield from sorted(((index_of(line), line) for line in file), key=itemgetter(0))
