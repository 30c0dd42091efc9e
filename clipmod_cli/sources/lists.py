"""Lists of paths and of URLs: text read as it arrives, tables through DuckDB in constant memory.

URLs are not validated here.
"""

from __future__ import annotations

import codecs
import itertools
import os
import shlex
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipmod_cli.errors import UsageError
from clipmod_cli.sources.base import Skipped

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


CHUNK_BYTES = 65536
STDIN = 0

ROWS_AT_ONCE = 1024
ENCODINGS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""By the mark that Windows programs write before a text."""

SEPARATORS = ",;|\t"
NO_SEPARATOR = "\x1f"
"""Of a table with one column: a comma in a URL separates nothing there."""

HEADER_BYTES = 65536
REASON_LINES, REASON_CHARS = 3, 400
"""Of DuckDB's message about a faulty row: its place, the row, and the fault."""

_CSV = (
    "read_csv({path}, header = true, all_varchar = true, null_padding = true, parallel = false, "
    "delim = '{separator}', quote = '\"', escape = '\"')"
)
_READERS = {
    ".csv": _CSV,
    ".tsv": _CSV,
    ".jsonl": "read_json({path}, format = 'newline_delimited'{columns})",
    ".ndjson": "read_json({path}, format = 'newline_delimited'{columns})",
    ".parquet": "read_parquet({path})",
}
"""CSV values are read as text, and of JSON only chosen columns: types of other columns must not matter."""


def read_list(name: str, *, null: bool) -> Iterator[str]:
    """Yield the paths of a list as soon as they arrive; `-` is stdin. Empty ones are left out.

    With `null` a name may hold newlines. A name that is not UTF-8 holds surrogate escapes. A listed
    file named `-` becomes `./-`, since the source `-` is stdin. Lines from Windows are read too: with a byte
    order mark (UTF-8 or UTF-16), and with CRLF, unless a file is there whose name ends with CR.

    Raises:
        UsageError: if the list cannot be read.
    """
    with closing(_parts(name, null=null)) as parts:
        yield from filter(None, parts)


def _parts(name: str, *, null: bool) -> Generator[str, None, None]:
    """Yield the lines of a list, empty ones too; see `read_list`."""
    # os.read, not sys.stdin: a thread blocked in a buffered stdin would hang the interpreter's exit,
    # and os.read returns a slow producer's lines at once.
    try:
        descriptor = STDIN if name == "-" else os.open(name, os.O_RDONLY)
        try:
            parts = _split(_read(descriptor), b"\0") if null else _lines(descriptor)
            for part in parts:
                yield "./-" if part == b"-" else os.fsdecode(part)
        finally:
            if descriptor != STDIN:
                os.close(descriptor)
    except OSError as e:
        raise UsageError(f"cannot read the list {name}: {e.strerror}") from e


def _read(descriptor: int) -> Iterator[bytes]:
    while chunk := os.read(descriptor, CHUNK_BYTES):
        yield chunk


def _split(chunks: Iterable[bytes], separator: bytes) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(separator)
        yield from whole
    if rest:
        yield rest


def _lines(descriptor: int) -> Iterator[bytes]:
    for line in _split(_as_utf8(_read(descriptor)), b"\n"):
        yield line[:-1] if line.endswith(b"\r") and not os.path.lexists(line) else line


def is_one_line(name: bytes) -> bool:
    """Return whether `read_list` gives back a name that stands on a line."""
    return b"\n" not in name and not name.startswith(tuple(ENCODINGS))


def _as_utf8(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the text without a byte order mark, and UTF-16 as UTF-8; other bytes are not changed."""
    head = b""
    while len(head) < 3 and (not head or any(mark.startswith(head) for mark in ENCODINGS)):
        chunk = next(chunks, b"")
        head += chunk
        if not chunk or head in ENCODINGS:
            break
    encoding = next((ENCODINGS[mark] for mark in ENCODINGS if head.startswith(mark)), None)
    if encoding is None:
        yield head
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(encoding)(
        "surrogateescape" if encoding == "utf-8-sig" else "replace"
    )
    for chunk in itertools.chain([head], chunks):
        yield os.fsencode(decoder.decode(chunk))


@dataclass(frozen=True, slots=True)
class ListedUrl:
    """One URL of a list.

    Attributes:
        index: its position in all lists together, from 0; rows without a URL count.
        row: its position in its own list, from 0: of the lines of a text, or of the rows below a header.
        columns: further columns of its row, by the names that were asked for; None if none were.
    """

    url: str
    index: int
    row: int
    columns: Mapping[str, str | None] | None = None


def read_urls(
    lists: Iterable[str],
    column: str,
    *,
    null: bool,
    keep: Sequence[str] = (),
    skipped: Skipped | None = None,
) -> Iterator[ListedUrl]:
    """Yield the URLs of all lists in their order; `-` is stdin.

    Blanks around a line of text, empty lines and lines that begin with `#` are dropped; with `null`, text is
    separated by NUL bytes. Rows of a table without a value in `column` are counted in `skipped`.

    Raises:
        UsageError: if a list cannot be read, or lacks `column` or one of `keep`.
    """
    counts = skipped if skipped is not None else Skipped()
    first = 0
    for name in lists:
        rows = _read_table(name, column, keep, counts) if is_table(name) else _read_text(name, null=null)
        row = -1
        for row, (url, columns) in enumerate(rows):
            if url:
                yield ListedUrl(url, first + row, row, columns)
        first += row + 1


def check_lists(lists: Iterable[str], column: str, keep: Sequence[str] = ()) -> None:
    """Check each list before anything costly is done.

    Raises:
        UsageError: if one cannot be read, or lacks `column` or one of `keep`.
    """
    for name in lists:
        if "://" in name:
            raise UsageError(
                f"{name} is a URL, not a list of them. For one: echo {shlex.quote(name)} | clipmod urls -"
            )
        if keep and Path(name).suffix.lower() not in _READERS:
            raise UsageError(
                f"--keep-columns needs a table ({', '.join(_READERS)}), and {name} is a list of lines"
            )
        if name == "-" or Path(name).is_fifo():
            continue
        if Path(name).is_dir():
            raise UsageError(
                f"{name} is a folder, not a list of URLs. To judge what is in it: clipmod scan "
                f"{shlex.quote(name)}"
            )
        if not os.access(name, os.R_OK):
            there = Path(name).exists()
            raise UsageError(
                f"cannot read the list {name}: {'permission denied' if there else 'no such file'}"
            )
        if is_table(name):
            _check_table(name, column, keep)


def _check_table(name: str, column: str, keep: Sequence[str]) -> None:
    with _open_table(name) as table:
        _find_column(table, column)
        for one in keep:
            _find_column(table, one, "--keep-columns")


def is_table(name: str) -> bool:
    """Return whether a list is a table, by its name's ending; an empty file is none."""
    path = Path(name)
    return path.suffix.lower() in _READERS and not (path.exists() and path.stat().st_size == 0)


def _read_text(name: str, *, null: bool) -> Iterator[tuple[str, None]]:
    """Yield the URL of each line, empty where it has none."""
    with closing(_parts(name, null=null)) as lines:
        for line in lines:
            url = line.strip()
            yield "" if url.startswith("#") else url, None


def _read_table(
    name: str, column: str, keep: Sequence[str], skipped: Skipped
) -> Iterator[tuple[str, dict[str, str | None] | None]]:
    """Yield the URL of each row, empty where it has none, and the columns to keep."""
    with _open_table(name) as table:
        wanted = _find_column(table, column)
        kept = {one: _find_column(table, one, "--keep-columns") for one in keep}
        read = list(dict.fromkeys([wanted, *kept.values()]))
        for values in _rows(table, read):
            cells: dict[str, str | None] = dict(zip(read, values, strict=True))
            url = (cells[wanted] or "").strip()
            if not url:
                skipped.reasons["no URL"] += 1
            yield url, {one: cells[found] for one, found in kept.items()} or None


def read_columns(name: str, columns: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a table as texts by column, in order; empty cells and columns it lacks are left out.

    Columns are found without regard to capitals, and named in the rows as in `columns`.

    Raises:
        UsageError: if the table cannot be read, or has none of the columns.
    """
    with _open_table(name) as table:
        there = {one.lower(): one for one in _columns(table)}
        found = {column: there[column.lower()] for column in columns if column.lower() in there}
        if not found:
            listed = ", ".join(there.values())
            raise UsageError(f"{name} has none of the columns {', '.join(columns)}; it has {listed}")
        for row in _rows(table, list(found.values())):
            texts = ((column, value.strip()) for column, value in zip(found, row, strict=True) if value)
            yield {column: text for column, text in texts if text}


@dataclass(frozen=True, slots=True)
class _Table:
    """An open table.

    Attributes:
        name: of the list, for messages.
        path: what DuckDB reads: the list, or a copy of it in UTF-8.
    """

    connection: DuckDBPyConnection
    name: str
    path: str


@contextmanager
def _open_table(name: str) -> Iterator[_Table]:
    """Open a table; DuckDB's errors in the block are raised as UsageError."""
    import duckdb

    # One thread keeps the order of rows and leaves the cores to the decoders; no extension is downloaded.
    connection = duckdb.connect(config={"threads": 1, "autoinstall_known_extensions": False})
    try:
        with connection, _in_utf8(name) as path:
            yield _Table(connection, name, path)
    except duckdb.Error as error:
        # what follows LINE is our own SQL
        lines = [line.strip() for line in str(error).partition("\nLINE ")[0].splitlines() if line.strip()]
        reason = "; ".join(lines[:REASON_LINES])[:REASON_CHARS]
        raise UsageError(f"cannot read the list {name}: {reason}") from error


@contextmanager
def _in_utf8(name: str) -> Iterator[str]:
    """Give the path of a table; of one in UTF-16, a copy in UTF-8: DuckDB leaves out rows of such files."""
    with open(name, "rb", buffering=0) as file:  # noqa: PTH123
        is_utf16 = file.read(2) in ENCODINGS
        if not is_utf16:
            yield name
            return
        with tempfile.TemporaryDirectory(prefix="clipmod-list-") as folder:
            copy = Path(folder, f"list{Path(name).suffix}")
            file.seek(0)
            with copy.open("wb") as out:
                out.writelines(_as_utf8(_read(file.fileno())))
            yield str(copy)


def _rows(table: _Table, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield the values of columns as texts, row by row; None is an empty cell."""
    selected = ", ".join(f"{_quoted(column)}::VARCHAR" for column in columns)
    rows = table.connection.execute(f"SELECT {selected} FROM {_reader(table.path, columns)}")  # noqa: S608
    while batch := rows.fetchmany(ROWS_AT_ONCE):
        yield from batch


def _columns(table: _Table) -> list[str]:
    rows = table.connection.execute(f"DESCRIBE SELECT * FROM {_reader(table.path)}").fetchall()  # noqa: S608
    return [str(row[0]) for row in rows]


def _find_column(table: _Table, column: str, option: str = "--url-column") -> str:
    """Return the name of the column in the table; case-insensitive."""
    columns = _columns(table)
    for found in columns:
        if found.lower() == column.lower():
            return found
    listed = ", ".join(columns)
    raise UsageError(f"{table.name} has no column {column!r}; {option} names one of: {listed}")


def _separator(name: str) -> str:
    """Return the separator of columns, by the header alone: DuckDB's guess also uses the URLs."""
    if Path(name).suffix.lower() == ".tsv":
        return "\t"
    with open(name, "rb") as file:  # noqa: PTH123
        header = file.readline(HEADER_BYTES).decode("utf-8", "replace")
    outside = "".join(header.split('"')[::2])
    best = max(SEPARATORS, key=outside.count)
    return best if best in outside else NO_SEPARATOR


def _reader(name: str, chosen: Sequence[str] = ()) -> str:
    """Return the SQL that reads a file; characters of a pattern in its name are escaped."""
    path = "".join(f"[{c}]" if c in "*?[" else c for c in name)
    text = path.replace("'", "''")
    types = ", ".join(f"{_quoted(column)}: 'VARCHAR'" for column in chosen)
    columns = f", columns = {{{types}}}" if chosen else ""
    kind = Path(name).suffix.lower()
    separator = _separator(name) if _READERS[kind] is _CSV else ""
    return _READERS[kind].format(path=f"'{text}'", columns=columns, separator=separator)


def _quoted(column: str) -> str:
    escaped = column.replace('"', '""')
    return f'"{escaped}"'
