"""`clipmod export`: what other programs find in the files."""

from __future__ import annotations

import csv
import errno
import json
import os
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipmod_cli.output.export import ExportOptions, export, table_columns
from clipmod_cli.output.parquet import EXACT_LINE
from clipmod_cli.output.reading.records import open_records
from clipmod_cli.records import Record, to_line, to_record
from clipmod_cli.results import Result
from tests.end_to_end.command import Command
from tests.full_disk import files_no_longer_than
from tests.reading.conftest import all_lines
from tests.results import RUN, results

LINES = all_lines()


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file as JSON would show them."""
    answer = duckdb.connect().execute("SELECT * FROM read_parquet(?)", [str(path)])
    names = [column[0] for column in answer.description or ()]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def cells_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_csv_has_a_row_for_each_record(clipmod: Command, records: Path, tmp_path: Path) -> None:
    run = clipmod("export", records, "-o", tmp_path / "x.csv", "--raw-csv")
    assert (run.code, run.stdout) == (0, b"")
    assert "10 records written" in run.stderr
    assert "Not in a CSV unless --columns names them: category_ensemble_probabilities" in run.stderr
    rows = cells_of(tmp_path / "x.csv")
    for row, record in zip(rows, map(json.loads, LINES), strict=True):
        assert row["source"] == record["source"]
        assert row["source_b64"] == (record["source_b64"] or "")
        assert row["unsafe_score"] == ("" if record["unsafe_score"] is None else str(record["unsafe_score"]))
        assert row["models_used"] == ";".join(record["models_used"] or [])
        assert row["error_code"] == (record["error"] or {"code": ""})["code"]
        assert row["needs_review"] == {True: "true", False: "false", None: ""}[record["needs_review"]]
    assert rows[3]["review_reasons"] == "truncated;low_agreement"


def test_every_field_of_a_record_has_a_column() -> None:
    fields = {field.alias or name for name, field in Record.model_fields.items()} - {"error"}
    assert set(table_columns()) == fields | {
        f"error_{name}" for name in ("code", "message", "retryable", "http_status")
    }


def test_a_spreadsheet_runs_no_name_as_a_formula(clipmod: Command, records: Path, tmp_path: Path) -> None:
    run = clipmod("export", records, "-o", tmp_path / "x.csv")
    assert "2 cells begin like a formula" in run.stderr
    sources = [row["source"] for row in cells_of(tmp_path / "x.csv")]
    assert "'=cmd|' /C calc'!A0" in sources
    assert "'-rf" in sources
    assert "photos/0.jpg" in sources
    assert not [source for source in sources if source[0] in "=+-@\t\r"]


def test_columns_are_chosen_and_ordered(clipmod: Command, records: Path, tmp_path: Path) -> None:
    names = "segments,source,error_code"
    assert clipmod("export", records, "-o", tmp_path / "x.csv", "--columns", names).code == 0
    rows = cells_of(tmp_path / "x.csv")
    assert list(rows[0]) == names.split(",")
    assert json.loads(rows[1]["segments"])[1]["peak_time_s"] == 1.0
    assert rows[2]["error_code"] == "decode_error"


def test_a_parquet_file_has_everything_typed(clipmod: Command, records: Path, tmp_path: Path) -> None:
    assert clipmod("export", records, "-o", tmp_path / "x.parquet").code == 0
    rows = rows_of(tmp_path / "x.parquet")
    for row, record in zip(rows, map(json.loads, LINES), strict=True):
        assert row == {**record, EXACT_LINE: None}


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_json_lines_stay_records(clipmod: Command, records: Path, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    assert clipmod("export", records, "-o", path).code == 0
    assert clipmod("export", path, records, "-o", tmp_path / "again.jsonl").code == 0
    assert (tmp_path / "again.jsonl").read_bytes() == b"".join(LINES * 2)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_chosen_columns_as_json_lines(clipmod: Command, records: Path, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    assert clipmod("export", records, "-o", path, "--columns", "source,review_reasons").code == 0
    found = duckdb.connect().execute("SELECT source, review_reasons FROM read_json(?)", [str(path)])
    wanted = [(one["source"], one["review_reasons"]) for one in map(json.loads, LINES)]
    assert found.fetchall() == wanted


def test_records_come_through_a_pipe(clipmod: Command, records: Path, tmp_path: Path) -> None:
    run = clipmod.process("export", "-", "-o", tmp_path / "x.csv", stdin=records.read_bytes() + LINES[0][:90])
    assert run.code == 0
    assert "-: line 11 is torn" in run.stderr
    assert len(cells_of(tmp_path / "x.csv")) == 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "records.jsonl"], "are the same file"),
        (["-o", "./records.jsonl", "--overwrite"], "are the same file"),
        (["-o", "there.csv"], "exists; --overwrite replaces it"),
        (["-o", "photo.csv", "--overwrite"], "is a picture file and would be overwritten"),
        (["-o", "x.xlsx"], "must end in one of .csv, .parquet"),
        (["-o", "no/x.csv"], "there is no folder no"),
        (["-o", "x.csv", "--columns", "scource"], "no column 'scource'. Did you mean source?"),
    ],
)
def test_what_would_destroy_or_not_work_is_refused(
    clipmod: Command, records: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(records.parent)
    Path("there.csv").write_text("mine", encoding="utf-8")
    Path("photo.csv").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    run = clipmod("export", "records.jsonl", *words)
    assert run.code == 2
    assert said in run.stderr
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl", "jsonl.gz", "jsonl.zst"])
def test_an_old_file_is_replaced_when_asked(
    clipmod: Command, records: Path, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"x.{ending}"
    assert clipmod("export", records, "-o", path, "--columns", "source").code == 0
    assert clipmod("export", records, "-o", path, "--overwrite").code == 0
    whole = tmp_path / f"y.{ending}"
    assert clipmod("export", records, "-o", whole).code == 0
    assert path.read_bytes() == whole.read_bytes()


def test_a_full_disk_leaves_nothing(clipmod: Command, records: Path, tmp_path: Path) -> None:
    for name in ("x.csv", "x.parquet", "x.jsonl.gz", "x.jsonl"):
        with files_no_longer_than(1000):
            run = clipmod.process("export", records, "-o", tmp_path / name)
        assert run.code == 5, run.stderr
        told = f"clipmod: error: cannot write {tmp_path / name}: {os.strerror(errno.EFBIG)}\n"
        assert run.stderr == told
    assert [path.name for path in tmp_path.iterdir()] == [records.name]


def test_scan_names_export_for_what_it_does_not_write(clipmod: Command, tmp_path: Path) -> None:
    run = clipmod("scan", tmp_path, "-o", tmp_path / "x.xlsx")
    assert run.code == 2
    assert "`clipmod export`" in run.stderr


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(results, max_size=16))
def test_any_record_is_the_same_in_parquet(found: list[Result], tmp_path: Path) -> None:
    lines = [to_line(to_record(one, RUN, frames_detail=True)) for one in found]
    (tmp_path / "any.jsonl").write_bytes(b"".join(lines))
    with open_records([str(tmp_path / "any.jsonl")]) as reader:
        export(reader, tmp_path / "any.parquet", ExportOptions())
    for row, record in zip(rows_of(tmp_path / "any.parquet"), map(json.loads, lines), strict=True):
        row.pop(EXACT_LINE)  # the line itself, of texts with control characters
        assert row == record
