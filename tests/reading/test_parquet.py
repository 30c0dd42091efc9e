"""Records as Parquet: the very lines come back, and DuckDB reads typed columns in place."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.output.compact import compact_line
from clipmod_cli.output.parquet import EXACT_LINE, read_lines, write_parquet
from clipmod_cli.output.reading.records import open_records
from clipmod_cli.records import to_line, to_record
from tests.reading.conftest import all_lines
from tests.reading.test_export import rows_of
from tests.results import RUN, results

LINES = all_lines()


def there_and_back(lines: Sequence[bytes]) -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "it's.parquet")
        write_parquet(lines, path)
        assert [one.name for one in path.parent.iterdir()] == [path.name]
        return list(read_lines(path))


def changed(line: bytes, **fields: Any) -> bytes:
    return (
        json.dumps({**json.loads(line), **fields}, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    )


@given(st.lists(results, max_size=40), st.booleans())
@settings(max_examples=10, deadline=None)
def test_any_record_comes_back_as_the_same_line(given_results: list[Any], compact: bool) -> None:
    records = [to_record(one, RUN, frames_detail=True) for one in given_results]
    lines = [compact_line(one) if compact else to_line(one) for one in records]
    assert there_and_back(lines) == lines


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


FIELDS = st.dictionaries(st.sampled_from([*json.loads(all_lines()[1]), "new", ""]), JSON_VALUES, max_size=5)


@given(st.lists(FIELDS, max_size=40))
@settings(max_examples=10, deadline=None)
def test_lines_of_later_versions_come_back_unchanged(others: list[dict[str, Any]]) -> None:
    lines = [*(changed(all_lines()[1], **fields) for fields in others), *all_lines()]
    assert there_and_back(lines) == lines


def test_records_are_rebuilt_from_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    small = changed(all_lines()[0], unsafe_score=1e-06).replace(b"1e-06", b"1e-6")
    write_parquet([*all_lines(), small, changed(small, new=1)], path)
    found = duckdb.read_parquet(str(path)).project(EXACT_LINE).fetchall()
    assert [row[0] is None for row in found] == [True] * (len(all_lines()) + 1) + [False]


def test_duckdb_reads_typed_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_parquet(all_lines(), path)
    rows = rows_of(path)
    assert [row.pop(EXACT_LINE) for row in rows] == [None] * len(all_lines())
    assert rows == [json.loads(line) for line in all_lines()]


def test_many_records_stay_in_order(tmp_path: Path) -> None:
    path, count = tmp_path / "x.parquet", 25_000
    line = all_lines()[0]
    start = line.index(b'"index":0')

    def lines() -> Any:
        return (line.replace(b'"index":0', b'"index":%d' % number) for number in range(count))

    assert start
    write_parquet(lines(), path)
    assert all(one == other for one, other in zip(read_lines(path), lines(), strict=True))


def test_no_records_are_a_table_too(tmp_path: Path) -> None:
    assert there_and_back([]) == []


def test_a_long_line_comes_back() -> None:
    frame = json.loads(all_lines()[1])["segments"]
    lines = [changed(all_lines()[1], segments=frame * 40_000)]
    assert len(lines[0]) > 4 << 20
    assert there_and_back(lines) == lines


def test_other_files_are_refused(tmp_path: Path) -> None:
    other, torn = tmp_path / "other.parquet", tmp_path / "torn.parquet"
    duckdb.sql(f"COPY (SELECT 1 AS a) TO '{other}' (FORMAT parquet)")
    with pytest.raises(UsageError, match="is not a Parquet file of clipmod records"):
        list(read_lines(other))
    write_parquet(all_lines(), torn)
    torn.write_bytes(torn.read_bytes()[:-9])
    with pytest.raises(UsageError, match=r"torn\.parquet"):
        list(read_lines(torn))
    with pytest.raises(UsageError, match=r"\.parquet"):
        write_parquet([b"{]\n"], tmp_path / "x.parquet")
    with pytest.raises(OutputError, match="no-folder"):
        write_parquet(all_lines(), tmp_path / "no-folder" / "x.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.parquet", "torn.parquet"]


@pytest.mark.parametrize("name", ["out[1].parquet", "o*t?.parquet", "it's.parquet", "line\n.parquet"])
def test_a_name_is_no_pattern(name: str, tmp_path: Path) -> None:
    path, other = tmp_path / name, tmp_path / "out1.parquet"
    write_parquet(LINES[:1], other)
    write_parquet(LINES, path)
    assert list(read_lines(path)) == LINES
    with open_records([str(path)]) as reader:
        assert reader.count == len(LINES)
    plain = path.with_suffix(".jsonl")
    plain.write_bytes(b"".join(LINES))
    with open_records([str(plain)]) as reader:
        reader.lock()
        assert len(reader.rows("FROM records")) == len(LINES)


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.parquet")
    with pytest.raises(UsageError, match="path is not UTF-8"):
        write_parquet(LINES, path)
    assert list(tmp_path.iterdir()) == []
