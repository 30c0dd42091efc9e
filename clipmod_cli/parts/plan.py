"""The plan of a run in parts: the inputs of each part, in Parquet files of bounded size.

A row is an input as its source listed it, or a URL of a list; an archive is one.
`clipmod_cli.parts.planning.listing` finds the rows.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clipmod_cli.errors import OutputError
from clipmod_cli.output.database import connect, first_line, quoted, quoted_path
from clipmod_cli.parts.run_file import PlanFile, RunFile
from clipmod_cli.parts.store import PartStore, checked_file
from clipmod_cli.records import read_name, write_name
from clipmod_cli.sources.base import SourceInput

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FILE_INPUTS: Final = 50_000
"""Of one file. DuckDB takes 60 MB to write them in one thread, and 190 MB for 200,000 in two."""

PLAN_FORM: Final = "COMPRESSION zstd, ROW_GROUP_SIZE 20480"

FETCH_ROWS: Final = 10_000

COLUMNS: Final[Mapping[str, str]] = {
    "part": "INTEGER",
    "index": "BIGINT",
    "source": "VARCHAR",
    "source_b64": "VARCHAR",
    "folder": "VARCHAR",
    "folder_b64": "VARCHAR",
    "size": "BIGINT",
    "mtime_ns": "BIGINT",
    "version": "VARCHAR",
    "row": "BIGINT",
    "columns": "VARCHAR",
    "group": "VARCHAR",
}
"""Names that are not UTF-8 are in base64 too; `columns` is a JSON object; `group` is the host of a URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedInput:
    """One row of the plan.

    Attributes:
        index: position among the planned inputs of the whole run, from 0.
        listed: the input.
        row: of a URL, its position in the list that named it.
        columns: further columns of that row.
        group: inputs of one group stay in few parts; empty for none.
    """

    index: int
    listed: SourceInput
    row: int | None = None
    columns: Mapping[str, str | None] | None = None
    group: str = ""

    def to_line(self, part: int = 0) -> bytes:
        """Return it as a line of JSON, with the number of its part."""
        listed = self.listed
        source, source_b64 = write_name(listed.source)
        folder, folder_b64 = (None, None) if listed.folder is None else write_name(listed.folder)
        columns = None if self.columns is None else json.dumps(self.columns, ensure_ascii=False)
        values = (
            part, self.index, source, source_b64, folder, folder_b64, listed.size, listed.mtime_ns,
            listed.version, self.row, columns, self.group,
        )  # fmt: skip
        return json.dumps(dict(zip(COLUMNS, values, strict=True)), ensure_ascii=False).encode() + b"\n"

    @classmethod
    def of_row(cls, values: Sequence[Any]) -> PlannedInput:
        """Return the input of a row, its values in the order of `COLUMNS`."""
        row = dict(zip(COLUMNS, values, strict=True))
        listed = SourceInput(
            source=read_name(row["source"], row["source_b64"]),
            folder=None if row["folder"] is None else read_name(row["folder"], row["folder_b64"]),
            size=row["size"],
            mtime_ns=row["mtime_ns"],
            version=row["version"],
        )
        columns = None if row["columns"] is None else json.loads(row["columns"])
        return cls(index=row["index"], listed=listed, row=row["row"], columns=columns, group=row["group"])


@contextmanager
def plan_database() -> Iterator[tuple[DuckDBPyConnection, Path]]:
    """Give a DuckDB connection of little memory, and a temporary folder that lasts as long.

    Raises:
        OutputError: DuckDB cannot do what is asked of it in the block, as on a full disk.
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix="clipmod-plan-") as folder:
        try:
            with connect(spill=Path(folder, "spilled"), memory_limit="300MB", threads="1") as connection:
                yield connection, Path(folder)
        except duckdb.Error as error:
            raise OutputError(f"cannot read or write the plan in {folder}: {first_line(error)}") from error


def json_rows(path: Path) -> str:
    """Return SQL that reads lines of `to_line`."""
    listed = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
    return f"read_json({quoted_path(path)}, format = 'newline_delimited', columns = {{{listed}}})"


def write_lines(
    inputs: Iterable[PlannedInput], path: Path, *, first_part: int = 0, part_size: int = 1
) -> int:
    """Write inputs as lines of JSON, in parts of `part_size`; return how many.

    Raises:
        OutputError: the temporary file cannot be written.
    """
    count = 0
    try:
        with path.open("wb") as file:
            for count, one in enumerate(inputs, 1):
                file.write(one.to_line(first_part + (count - 1) // part_size))
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror}") from error
    return count


def query_inputs(connection: DuckDBPyConnection, sql: str) -> Iterator[PlannedInput]:
    """Yield the inputs that a query gives, whose columns are `COLUMNS`."""
    answer = connection.execute(sql)
    while rows := answer.fetchmany(FETCH_ROWS):
        yield from map(PlannedInput.of_row, rows)


def write_plan(
    inputs: Iterable[PlannedInput],
    store: PartStore,
    *,
    part_size: int,
    first_file: int = 0,
    first_part: int = 0,
    check: Callable[[], None] = lambda: None,
) -> tuple[PlanFile, ...]:
    """Write the files of a generation; return them.

    Args:
        inputs: in the order in which they fill the parts.
        store: takes the files.
        part_size: inputs of a part.
        first_file: the number of the first file.
        first_part: the number of the first part.
        check: called before each file; raises if another process plans now.
    """
    size = max(FILE_INPUTS // part_size, 1) * part_size
    files: list[PlanFile] = []
    rest = iter(inputs)
    with plan_database() as (connection, folder):
        lines, target = folder / "rows.jsonl", folder / "rows.parquet"
        while True:
            chunk = itertools.islice(rest, size)
            count = write_lines(chunk, lines, first_part=first_part, part_size=part_size)
            if not count:
                break
            connection.execute(f"COPY (FROM {json_rows(lines)}) TO {quoted(str(target))} ({PLAN_FORM})")
            check()
            file = _put(store, first_file + len(files), target.read_bytes(), first_part, count, part_size)
            files.append(file)
            first_part += file.parts
    return tuple(files)


def _put(
    store: PartStore, number: int, content: bytes, first_part: int, inputs: int, part_size: int
) -> PlanFile:
    name = f"plan/plan-{number:06}.parquet"
    if not store.create(name, content):
        store.delete(name)  # of a lister that was lost: no run file names it
        if not store.create(name, content):
            raise OutputError(f"another process writes {store.name}{name}")
    return PlanFile(
        name=name,
        sha256=hashlib.sha256(content).hexdigest(),
        first_part=first_part,
        parts=-(-inputs // part_size),
        inputs=inputs,
    )


class Plan:
    """Reads the plan of a run; one thread uses it. The file that was read last stays open."""

    def __init__(self, store: PartStore, run: RunFile) -> None:
        self._store = store
        self.run = run
        self._opened: str | None = None
        self._path = Path()
        self._open = ExitStack()

    def inputs(self, part: int) -> list[PlannedInput]:
        """Return the inputs of a part, in the order of their index.

        Raises:
            UsageError: there is no such part.
            OutputMismatchError: the plan is not the one that was written.
        """
        return list(self._query(self.run.file_of(part), f"WHERE part = {part} "))

    def all_inputs(self, file: PlanFile) -> Iterator[PlannedInput]:
        """Yield the inputs of one file of the plan, by part and index; raises as `inputs`."""
        yield from self._query(file, "")

    def _query(self, file: PlanFile, where: str) -> Iterator[PlannedInput]:
        names = ", ".join(f'"{name}"' for name in COLUMNS)
        with self.opened(file) as path, plan_database() as (connection, _):
            sql = f'SELECT {names} FROM read_parquet({quoted_path(path)}) {where}ORDER BY part, "index"'  # noqa: S608
            yield from query_inputs(connection, sql)

    def close(self) -> None:
        """Close the open file."""
        self._open.close()
        self._opened = None

    @contextmanager
    def opened(self, file: PlanFile) -> Iterator[Path]:
        """Give a local copy of a file of the plan, whose content was checked."""
        if self._opened != file.name:
            self.close()
            checked = checked_file(self._store, file.name, file.sha256, "Plan again into another output")
            self._path = self._open.enter_context(checked)
            self._opened = file.name
        yield self._path
