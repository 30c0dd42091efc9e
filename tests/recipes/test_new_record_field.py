"""Add a field to the record: one definition gives the line, the JSON Schema and the columns."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
from pydantic import Field

from clipmod_cli.output.columns import columns_of
from clipmod_cli.records import Record, json_schema, to_line, to_record
from tests.results import RUN, plain_verdict


class WithFrameRates(Record):
    frame_rates: list[float] | None = Field(default=None, description="Frames per second, by track")


def test_a_field_appears_in_the_line_the_schema_and_the_columns(tmp_path: Path) -> None:
    fields = to_record(plain_verdict(), RUN).model_dump(by_alias=True)
    line = to_line(WithFrameRates(**fields, frame_rates=[25.0, 12.5]))
    assert json.loads(line)["frame_rates"] == [25.0, 12.5]

    schema = json_schema(WithFrameRates)
    assert schema["properties"]["frame_rates"]["description"] == "Frames per second, by track"
    assert "frame_rates" in schema["required"]

    columns = columns_of(WithFrameRates)
    assert columns[:-1] == columns_of(Record)
    last = columns[-1]
    assert (last.name, last.type, last.description) == (
        "frame_rates",
        "DOUBLE[]",
        "Frames per second, by track",
    )

    path = tmp_path / "out.jsonl"
    path.write_bytes(line)
    listed = ", ".join(f"'{column.name}': '{column.type}'" for column in columns)
    with duckdb.connect() as connection:
        query = f"SELECT frame_rates FROM read_json('{path}', columns = {{{listed}}})"  # noqa: S608
        assert connection.execute(query).fetchall() == [([25.0, 12.5],)]
