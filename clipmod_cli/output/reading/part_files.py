"""Queries over the files of a run in parts, in place: Parquet, or JSON Lines."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipmod_cli.output.columns import columns_of
from clipmod_cli.output.database import no_rows, quoted_path
from clipmod_cli.output.parquet import LEAST_LINE_BYTES, longest_line
from clipmod_cli.output.reading.cards import RunCards
from clipmod_cli.output.reading.files import RecordFile
from clipmod_cli.output.reading.records import RecordReader, open_database
from clipmod_cli.output.resuming.card import RunCard
from clipmod_cli.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """The file of a part.

    Attributes:
        count: how many records it has.
        generation: records of a later one take the place of all earlier ones of the same index.
    """

    path: Path
    count: int
    generation: int


@contextmanager
def open_part_files(
    name: str, parts: Sequence[FilePart], *, is_parquet: bool, facts: Mapping[str, Any]
) -> Iterator[RecordReader]:
    """Give the records of parts, the newest of each index.

    Args:
        name: of the run, for messages.
        parts: their files.
        is_parquet: else they are JSON Lines.
        facts: of the run, which compact records do not repeat.

    Raises:
        UsageError: a Parquet file is damaged.
        OutputError: a temporary file cannot be written.
    """
    folder = Path(tempfile.mkdtemp(prefix="clipmod-"))
    try:
        with open_database(folder) as connection:
            cards = RunCards({name: RunCard(Path(name), dict(facts))})
            files = tuple(RecordFile(name=name, path=one.path, count=one.count, longest=0) for one in parts)
            reader = RecordReader(connection, files, cards, is_columnar=is_parquet)
            reader.execute(f"CREATE VIEW records AS {_view_of(parts, cards, is_parquet=is_parquet)}")
            yield reader
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _view_of(parts: Sequence[FilePart], cards: RunCards, *, is_parquet: bool) -> str:
    columns = {column.name: column.type for column in columns_of(Record)}
    generations = sorted({part.generation for part in parts if part.count})
    if not generations:
        return no_rows(columns)
    tables = {}
    for number in generations:
        paths = [part.path for part in parts if part.generation == number and part.count]
        tables[number] = _table_of(paths, columns, is_parquet=is_parquet)
    names = ", ".join(f'"{column}"' for column in columns)
    selected = []
    for number, table in tables.items():
        later = [f'SELECT "index" FROM {tables[other]}' for other in generations if other > number]  # noqa: S608
        kept = f'WHERE "index" NOT IN ({" UNION ALL ".join(later)})' if later else ""
        selected.append(f"SELECT {names} FROM {table} {kept}")  # noqa: S608
    return f"SELECT * {cards.filled_in}FROM ({' UNION ALL '.join(selected)})"


def _table_of(paths: Sequence[Path], columns: Mapping[str, str], *, is_parquet: bool) -> str:
    listed = ", ".join(quoted_path(path.resolve()) for path in paths)
    if is_parquet:
        return f"read_parquet([{listed}], union_by_name = true)"
    types = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
    longest = max([LEAST_LINE_BYTES, *map(longest_line, paths)]) + 1
    return (
        f"read_json([{listed}], format = 'newline_delimited', compression = 'none', "
        f"maximum_object_size = {longest}, columns = {{{types}}})"
    )
